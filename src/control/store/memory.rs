//! The engine that keeps nothing: for tests, and for an instance that shall leave nothing behind.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Commit, Document, Documents, HISTORY, Revision, Store, StoreError, Transaction};

pub struct Memory {
    state: Mutex<State>,
    newest: watch::Sender<Revision>,
}

#[derive(Default)]
struct State {
    revision: Revision,
    documents: BTreeMap<String, Document>,
    /// The newest commits, the oldest first.
    history: VecDeque<Commit>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { state: Mutex::default(), newest: watch::Sender::new(0) }
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Documents for Memory {
    fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        Ok(self.lock().documents.get(key).cloned())
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Document)>, StoreError> {
        let from = after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        let state = self.lock();
        let found = state.documents.range::<str, _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, document)| (key.clone(), document.clone())).collect())
    }
}

impl Store for Memory {
    fn commit(&self, transaction: &Transaction) -> Result<Revision, StoreError> {
        let mut state = self.lock();
        transaction.check(|key| Ok(state.documents.get(key).map(|document| document.revision)))?;
        let told = !transaction.writes.is_empty();
        let revision = state.revision + u64::from(told);
        state.revision = revision;
        for (key, value) in transaction.writes.iter().chain(&transaction.aside) {
            match value {
                Some(value) => state.documents.insert(key.clone(), Document { revision, value: value.clone() }),
                None => state.documents.remove(key),
            };
        }
        if !told {
            return Ok(revision);
        }
        if state.history.len() as u64 == HISTORY {
            state.history.pop_front();
        }
        state.history.push_back(Commit { revision, changes: transaction.changes() });
        self.newest.send_replace(revision);
        Ok(revision)
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let state = self.lock();
        let oldest = state.history.front().map_or(1, |commit| commit.revision);
        if after + 1 < oldest {
            return Err(StoreError::Forgotten { oldest });
        }
        Ok(state.history.iter().filter(|commit| commit.revision > after).take(limit).cloned().collect())
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}
