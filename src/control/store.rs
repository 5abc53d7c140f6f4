//! Where control keeps what must outlive the process: documents under keys, with revisions.
//!
//! - Keys are text with `/` between their parts and are ordered by bytes; values are JSON documents, as bytes, but for
//!   the pins', which are many and small.
//! - One revision numbers the whole store and grows by one with each commit; a document carries the revision
//!   of its last write. A commit is all or nothing, and refused when something that it read has changed since.
//! - Whoever asks [`Store::history`] from the revision that it knows misses nothing: the engine keeps the newest
//!   [`HISTORY`] commits, and says so when asked for older ones. [`Watch`] follows it.
//! - What is written aside ([`Transaction::put_aside`]) is kept as everything else is, and is no news: it takes no
//!   revision of its own and no place in the history. Megabytes of pins would leave those who follow nothing else.
//! - Calls block. Nothing here may assume that it is the only writer: another engine may be shared by a fleet.
//!
//! | engine | what it is |
//! | --- | --- |
//! | [`memory`] | for tests, and for an instance that shall leave nothing behind |
//! | [`redb`] | one file, written through to the disk, one writing process |
//!
//! Every engine passes the same suite (`conformance`).

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod faulty;
pub mod memory;
pub mod redb;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

/// How many commits an engine remembers for those who follow it.
pub const HISTORY: u64 = 100;

/// The longest key, in bytes.
pub const KEY_MAX: usize = 1_024;

/// The most bytes that one commit may write: the first start with the most agents that a file may have.
pub const COMMIT_BYTES_MAX: usize = 512 << 20;

/// The number of a commit; 0 before the first.
pub type Revision = u64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Of its last write.
    pub revision: Revision,
    pub value: Vec<u8>,
}

/// What is read of a store.
pub trait Documents: Send + Sync {
    fn get(&self, key: &str) -> Result<Option<Document>, StoreError>;

    /// At most `limit` documents whose keys begin with `prefix` and come after `after`, in the order of keys.
    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Document)>, StoreError>;
}

/// A store engine.
pub trait Store: Documents {
    /// Writes all of it, or nothing. Returns the new revision; the present one where there is nothing to write.
    fn commit(&self, transaction: &Transaction) -> Result<Revision, StoreError>;

    /// At most `limit` commits after this revision, in order and without gaps.
    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Commit>, StoreError>;

    /// The newest revision; changes once a commit can be read.
    fn revision(&self) -> watch::Receiver<Revision>;
}

/// What to write, if what was read still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    reads: BTreeMap<String, Option<Revision>>,
    writes: BTreeMap<String, Option<Vec<u8>>>,
    aside: BTreeMap<String, Option<Vec<u8>>>,
}

impl Transaction {
    /// The document must still be of this revision; `None`: there must be none.
    pub fn expect(&mut self, key: impl Into<String>, revision: Option<Revision>) {
        self.reads.insert(key.into(), revision);
    }

    pub fn put(&mut self, key: impl Into<String>, value: Vec<u8>) {
        self.writes.insert(key.into(), Some(value));
    }

    pub fn delete(&mut self, key: impl Into<String>) {
        self.writes.insert(key.into(), None);
    }

    /// Written with the rest, and not told to those who follow; `None` is a deletion.
    pub fn put_aside(&mut self, key: impl Into<String>, value: Option<Vec<u8>>) {
        self.aside.insert(key.into(), value);
    }

    /// By key; `None` is a deletion.
    pub fn writes(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.writes.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    fn changes(&self) -> Vec<Change> {
        self.writes().map(|(key, value)| Change { key: key.into(), value: value.map(<[u8]>::to_vec) }).collect()
    }

    /// What every engine asks first: that the bounds hold, and that nothing has changed since it was read.
    fn check(&self, mut found: impl FnMut(&str) -> Result<Option<Revision>, StoreError>) -> Result<(), StoreError> {
        let written = || self.writes.iter().chain(&self.aside);
        if let Some((key, _)) = written().find(|(key, _)| key.is_empty() || key.len() > KEY_MAX) {
            return Err(StoreError::BadKey { bytes: key.len() });
        }
        let bytes = written().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        if bytes > COMMIT_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes });
        }
        for (key, expected) in &self.reads {
            let found = found(key)?;
            if found != *expected {
                return Err(StoreError::Conflict { key: key.clone(), expected: *expected, found });
            }
        }
        Ok(())
    }
}

/// One commit, as a follower sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub revision: Revision,
    /// In the order of keys.
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    /// `None`: deleted.
    pub value: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("{key} has changed: {} was expected, {} was found", revision_text(*expected), revision_text(*found))]
    Conflict { key: String, expected: Option<Revision>, found: Option<Revision> },
    /// Read everything anew, then follow from there.
    #[error("the history before revision {oldest} is no longer kept")]
    Forgotten { oldest: Revision },
    #[error("a key has 1 to {KEY_MAX} bytes, and this one has {bytes}")]
    BadKey { bytes: usize },
    #[error("one commit writes at most {COMMIT_BYTES_MAX} bytes, and this one {bytes}")]
    TooLarge { bytes: usize },
    /// The engine could not do it: a full disk, a broken file. The text says what and where.
    #[error("{0}")]
    Failed(String),
}

fn revision_text(revision: Option<Revision>) -> String {
    revision.map_or("no document".into(), |revision| format!("revision {revision}"))
}

/// Follows a store from a revision on.
pub struct Watch {
    store: Arc<dyn Store>,
    newest: watch::Receiver<Revision>,
    after: Revision,
    ahead: VecDeque<Commit>,
}

impl Watch {
    /// How many commits are read at once.
    const BATCH: usize = 64;

    /// The commits after `after`: those that were made already, then the new ones as they come.
    pub fn new(store: Arc<dyn Store>, after: Revision) -> Self {
        let newest = store.revision();
        Self { store, newest, after, ahead: VecDeque::new() }
    }

    /// Waits for the next commit. May be cancelled: what was not returned comes again.
    pub async fn next(&mut self) -> Result<Commit, StoreError> {
        loop {
            if let Some(commit) = self.ahead.pop_front() {
                self.after = commit.revision;
                return Ok(commit);
            }
            // Noted before it is read: a commit in between wakes this again.
            let newest = *self.newest.borrow_and_update();
            if newest != self.after {
                self.ahead = self.store.history(self.after, Self::BATCH)?.into();
            }
            if self.ahead.is_empty() && self.newest.changed().await.is_err() {
                return Err(StoreError::Failed("the store is closed".into()));
            }
        }
    }
}
