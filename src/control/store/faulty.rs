//! What can go wrong with a disk, at a test's will.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::memory::Memory;
use super::{Commit, Document, Documents, Revision, Store, StoreError, Transaction};

/// A store whose disk may be full, or stall, or lie: then the commit is in the file and called a failure.
#[derive(Default)]
pub(crate) struct Faulty {
    memory: Memory,
    pub full: AtomicBool,
    pub lies: AtomicBool,
    /// A commit waits until this is over.
    pub stalled: AtomicBool,
}

impl Documents for Faulty {
    fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        self.memory.get(key)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Document)>, StoreError> {
        self.memory.range(prefix, after, limit)
    }
}

impl Store for Faulty {
    fn commit(&self, transaction: &Transaction) -> Result<Revision, StoreError> {
        while self.stalled.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("the disk is full".into()));
        }
        let result = self.memory.commit(transaction);
        if self.lies.swap(false, Ordering::SeqCst) {
            Err(StoreError::Failed("fsync: I/O error".into()))
        } else {
            result
        }
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Commit>, StoreError> {
        self.memory.history(after, limit)
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.memory.revision()
    }
}
