//! Who changed what, when, from where, and on what evidence: one record for each change of state, written in
//! the transaction that makes the change.
//!
//! Each record holds the SHA-256 of the one before it and of itself, over its canonical JSON (keys sorted, no
//! spaces); the document [`HEAD`] names the last one. [`verify`] thus finds a record that was changed, removed,
//! added or cut off the end. It cannot find a store that was rewritten whole by someone who knows this format:
//! who has to exclude that keeps the newest hash elsewhere, and asks for it (`holds` of [`Verified`]).
//!
//! Records are never removed.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::model::Actor;
use super::store::{Document, Documents, Revision, StoreError, Transaction};

/// Records lie under `audit/` and twenty digits, so that their keys sort by number.
const PREFIX: &str = "audit/";
const HEAD: &str = "audit-head";

/// What the first record has before it.
const NOTHING: &str = "";

/// How many records [`verify`] reads at once.
const PAGE: usize = 500;

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(with = "rfc3339")]
    #[schemars(with = "String")]
    pub at: SystemTime,
    pub actor: Actor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The state until then; null where there was none.
    pub before: Value,
    pub after: Value,
    /// The figures that led to it; null where it needed none.
    pub evidence: Value,
}

/// An entry in its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuditRecord")]
pub struct Record {
    /// From 1, without gaps.
    pub sequence: u64,
    #[serde(flatten)]
    pub entry: Entry,
    pub previous_hash: String,
    /// Over all of the above.
    pub hash: String,
}

impl Record {
    fn new(previous: &Head, entry: Entry) -> Self {
        let (sequence, previous_hash) = (previous.sequence + 1, previous.hash.clone());
        let mut record = Self { sequence, entry, previous_hash, hash: String::new() };
        record.hash = hash_of(&record.to_json());
        record
    }

    fn to_json(&self) -> Value {
        // Text, numbers and maps with text keys: nothing in it can fail to be JSON.
        serde_json::to_value(self).expect("a record is JSON")
    }
}

/// The end of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub sequence: u64,
    pub hash: String,
}

/// Appends to the chain of one store. Work on a clone, and keep it once the transaction is committed.
#[derive(Clone, Debug)]
pub struct Chain {
    head: Head,
    /// Of the head's document: another writer's append makes ours a conflict.
    revision: Option<Revision>,
}

impl Chain {
    pub fn load(store: &dyn Documents) -> Result<Self, StoreError> {
        let Some(Document { revision, value }) = store.get(HEAD)? else {
            return Ok(Self { head: Head { sequence: 0, hash: NOTHING.into() }, revision: None });
        };
        let head = serde_json::from_slice(&value);
        let head = head.map_err(|error| StoreError::Failed(format!("{HEAD}: is no end of an audit: {error}")))?;
        Ok(Self { head, revision: Some(revision) })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Adds records to the transaction that makes the change they tell of.
    pub fn append(&mut self, transaction: &mut Transaction, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            let record = Record::new(&self.head, entry);
            transaction.put(key(record.sequence), record.to_json().to_string().into_bytes());
            self.head = Head { sequence: record.sequence, hash: record.hash };
        }
        transaction.expect(HEAD, self.revision);
        let head = serde_json::json!({ "sequence": self.head.sequence, "hash": self.head.hash });
        transaction.put(HEAD, head.to_string().into_bytes());
    }

    /// The transaction is in the store.
    pub fn committed(&mut self, revision: Revision) {
        self.revision = Some(revision);
    }
}

/// At most `limit` records after this number, the oldest first.
pub fn records(store: &dyn Documents, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
    let found = store.range(PREFIX, Some(&key(after)), limit)?;
    let record = |(key, document): (String, Document)| {
        let record = serde_json::from_slice(&document.value);
        record.map_err(|error| StoreError::Failed(format!("{key}: is no audit record: {error}")))
    };
    found.into_iter().map(record).collect()
}

/// At most `limit` records before this number, or from the end of the chain; the newest first.
pub fn newest(store: &dyn Documents, before: Option<u64>, limit: usize) -> Result<Vec<Record>, StoreError> {
    let end = Chain::load(store)?.head.sequence;
    let last = before.map_or(end, |before| before.saturating_sub(1).min(end));
    // The numbers have no gaps, so the place to begin follows from the number of records.
    let first = last.saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX));
    let mut found = records(store, first, limit)?;
    found.retain(|record| record.sequence <= last);
    found.reverse();
    Ok(found)
}

/// A sound audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub head: Head,
    /// Whether one of the records has the hash that was asked for.
    pub holds: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The first record at which the chain does not hold.
    #[error("record {sequence} {fault}")]
    Broken { sequence: u64, fault: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Follows the whole chain. `hash` is one that was noted earlier; the store may be written meanwhile.
pub fn verify(store: &dyn Documents, hash: Option<&str>) -> Result<Verified, VerifyError> {
    let mut walked = Head { sequence: 0, hash: NOTHING.into() };
    let mut holds = hash.is_none();
    loop {
        let page = store.range(PREFIX, Some(&key(walked.sequence)), PAGE)?;
        let ended = page.is_empty();
        for (key, document) in page {
            walked = follow(&walked, &key, &document.value)?;
            holds |= hash == Some(walked.hash.as_str());
        }
        // Read after the records, so it is not behind them.
        let head = Chain::load(store)?.head;
        if ended && head == walked {
            return Ok(Verified { head, holds });
        }
        if ended && head.sequence > walked.sequence {
            return Err(broken(walked.sequence + 1, format!("is missing; the last one should be {}", head.sequence)));
        }
        if head.sequence <= walked.sequence && head != walked {
            return Err(broken(head.sequence + 1, "is not known to the end of the chain"));
        }
    }
}

/// The next record, if it is the one that was written after `previous`.
fn follow(previous: &Head, at: &str, bytes: &[u8]) -> Result<Head, VerifyError> {
    let sequence = previous.sequence + 1;
    if at != key(sequence) {
        return Err(broken(sequence, format!("is missing; after {} comes {at}", previous.sequence)));
    }
    let json: Value =
        serde_json::from_slice(bytes).map_err(|error| broken(sequence, format!("is no JSON: {error}")))?;
    let text = |field: &str| json[field].as_str().unwrap_or_default();
    if json["sequence"] != sequence || text("previousHash") != previous.hash {
        return Err(broken(sequence, "does not follow the one before it"));
    }
    let hash = hash_of(&json);
    if text("hash") != hash || json.to_string().as_bytes() != bytes {
        return Err(broken(sequence, "was changed: its hash is not that of its content"));
    }
    Ok(Head { sequence, hash })
}

fn broken(sequence: u64, fault: impl Into<String>) -> VerifyError {
    VerifyError::Broken { sequence, fault: fault.into() }
}

fn key(sequence: u64) -> String {
    format!("{PREFIX}{sequence:020}")
}

/// SHA-256 of everything in the record but its hash. `serde_json` sorts the keys of a [`Value`].
fn hash_of(record: &Value) -> String {
    let mut record = record.clone();
    if let Some(fields) = record.as_object_mut() {
        fields.remove("hash");
    }
    let digest = Sha256::digest(record.to_string());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Times as people and other programs read them.
pub(super) mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_rfc3339_nanos(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_rfc3339(&text).map_err(|error| D::Error::custom(format!("{text:?} is no time: {error}")))
    }
}

#[cfg(test)]
mod tests;
