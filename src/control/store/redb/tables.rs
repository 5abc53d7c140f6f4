//! What is in the file: documents, the newest changes, a few numbers.

use ::redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::control::store::{Change, Commit, Document, HISTORY, Revision, StoreError, Transaction};

/// The layout of the tables below.
const FORMAT: u64 = 1;

const DOCUMENTS: TableDefinition<&str, (Revision, &[u8])> = TableDefinition::new("documents");
/// What each of the newest commits changed.
const CHANGES: TableDefinition<(Revision, &str), Option<&[u8]>> = TableDefinition::new("changes");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// Why something could not be done in the open file.
pub(super) enum Trouble {
    /// The file is sound; the caller has to think again.
    Refused(StoreError),
    Engine(::redb::Error),
}

impl<E: Into<::redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

/// Makes the tables of a new file; returns the newest revision.
pub(super) fn prepare(database: &Database) -> Result<Revision, ::redb::Error> {
    let write = database.begin_write()?;
    let format = {
        write.open_table(DOCUMENTS)?;
        write.open_table(CHANGES)?;
        let mut numbers = write.open_table(NUMBERS)?;
        let known = numbers.get("format")?.map(|number| number.value());
        if known.is_none() {
            numbers.insert("format", FORMAT)?;
        }
        known.unwrap_or(FORMAT)
    };
    if format != FORMAT {
        let message = format!("its format is {format}, and this version of pointsman reads format {FORMAT}");
        return Err(::redb::Error::Corrupted(message));
    }
    write.commit()?;
    newest(database)
}

pub(super) fn newest(database: &impl ReadableDatabase) -> Result<Revision, ::redb::Error> {
    let numbers = database.begin_read()?.open_table(NUMBERS)?;
    Ok(numbers.get("revision")?.map_or(0, |number| number.value()))
}

/// Everything but the commit itself.
pub(super) fn stage(write: &WriteTransaction, transaction: &Transaction) -> Result<Revision, Trouble> {
    let mut documents = write.open_table(DOCUMENTS)?;
    let mut engine = None;
    let checked = transaction.check(|key| match documents.get(key) {
        Ok(found) => Ok(found.map(|document| document.value().0)),
        Err(error) => {
            let text = error.to_string();
            engine = Some(error);
            Err(StoreError::Failed(text))
        }
    });
    match (checked, engine) {
        (_, Some(error)) => return Err(error.into()),
        (Err(refusal), None) => return Err(Trouble::Refused(refusal)),
        (Ok(()), None) => {}
    }
    let mut numbers = write.open_table(NUMBERS)?;
    let known = numbers.get("revision")?.map_or(0, |number| number.value());
    for (key, value) in &transaction.aside {
        match value {
            Some(value) => documents.insert(key.as_str(), (known, value.as_slice()))?,
            None => documents.remove(key.as_str())?,
        };
    }
    if transaction.writes.is_empty() {
        return Ok(known);
    }
    let revision = known + 1;
    numbers.insert("revision", revision)?;
    let mut changes = write.open_table(CHANGES)?;
    for (key, value) in transaction.writes() {
        match value {
            Some(value) => documents.insert(key, (revision, value))?,
            None => documents.remove(key)?,
        };
        changes.insert((revision, key), value)?;
    }
    changes.retain_in(..((revision + 1).saturating_sub(HISTORY), ""), |_, _| false)?;
    Ok(revision)
}

pub(super) fn get(database: &impl ReadableDatabase, key: &str) -> Result<Option<Document>, ::redb::Error> {
    let documents = database.begin_read()?.open_table(DOCUMENTS)?;
    Ok(documents.get(key)?.map(|found| document(found.value())))
}

fn document((revision, value): (Revision, &[u8])) -> Document {
    Document { revision, value: value.to_vec() }
}

pub(super) fn range(
    database: &impl ReadableDatabase,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Document)>, ::redb::Error> {
    let documents = database.begin_read()?.open_table(DOCUMENTS)?;
    let mut found = Vec::new();
    for entry in documents.range(after.unwrap_or(prefix).max(prefix)..)? {
        let (key, value) = entry?;
        let key = key.value();
        if found.len() == limit || !key.starts_with(prefix) {
            break;
        }
        if Some(key) != after {
            found.push((key.to_owned(), document(value.value())));
        }
    }
    Ok(found)
}

pub(super) fn history(database: &Database, after: Revision, limit: usize) -> Result<Vec<Commit>, Trouble> {
    let changes = database.begin_read()?.open_table(CHANGES)?;
    let oldest = changes.first()?.map_or(1, |(key, _)| key.value().0);
    if after + 1 < oldest {
        return Err(Trouble::Refused(StoreError::Forgotten { oldest }));
    }
    let mut commits: Vec<Commit> = Vec::new();
    for entry in changes.range((after + 1, "")..)? {
        let (key, value) = entry?;
        let (revision, key) = key.value();
        let change = Change { key: key.to_owned(), value: value.value().map(<[u8]>::to_vec) };
        let full = commits.len() == limit;
        match commits.last_mut() {
            Some(commit) if commit.revision == revision => commit.changes.push(change),
            _ if full => break,
            _ => commits.push(Commit { revision, changes: vec![change] }),
        }
    }
    Ok(commits)
}
