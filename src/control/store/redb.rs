//! The default engine: one file in `state_dir`, written through to the disk before a commit is acknowledged.
//!
//! One process writes; others may read meanwhile ([`ReadOnly`]), so that the audit can be verified while an
//! instance runs. The whole file is checked when it is opened: a broken one is refused, not trusted.
//!
//! After a failed write the file is closed, and the next call opens it again: the engine recovers by itself
//! once there is room on the disk. Whether the failed commit is in it is then seen by reading.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::redb::{Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, StorageError};
use tokio::sync::watch;

use super::{Commit, Document, Documents, Revision, Store, StoreError, Transaction};
use tables::{Trouble, get, history, newest, prepare, range, stage};

mod tables;

/// The name of the file in `state_dir`.
pub const FILE: &str = "pointsman.redb";

/// Control holds in memory what it works with; the cache serves listings of the audit.
const CACHE_BYTES: usize = 8 << 20;

/// A store that this process writes.
pub struct Redb {
    path: PathBuf,
    /// `None` after a failure.
    database: Mutex<Option<Arc<Database>>>,
    newest: watch::Sender<Revision>,
}

impl Redb {
    /// Opens the store in this directory, which is made if need be.
    ///
    /// # Errors
    /// Where the directory cannot be made or written, or the file is broken or open in another process.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(state_dir).map_err(|error| {
            StoreError::Failed(format!(
                "{}: cannot make this directory ({error}); name another one in state_dir, or make it writable",
                state_dir.display()
            ))
        })?;
        let path = state_dir.join(FILE);
        let database = open(&path)?;
        let revision = prepare(&database).map_err(|error| failed(&path, error))?;
        // The file's own name must outlive a power cut as well.
        let named = std::fs::File::open(state_dir).and_then(|directory| directory.sync_all());
        named.map_err(|error| StoreError::Failed(format!("{}: {error}", state_dir.display())))?;
        Ok(Self { path, database: Mutex::new(Some(Arc::new(database))), newest: watch::Sender::new(revision) })
    }

    /// Works on the open file; a failure closes it.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Trouble>) -> Result<T, StoreError> {
        let result = work(&*self.opened()?);
        result.map_err(|trouble| match trouble {
            Trouble::Refused(refusal) => refusal,
            Trouble::Engine(error) => {
                *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
                failed(&self.path, error)
            }
        })
    }

    fn opened(&self) -> Result<Arc<Database>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        let reopened = Arc::new(open(&self.path)?);
        // A commit that was said to have failed may be in the file all the same.
        let revision = newest(&*reopened).map_err(|error| failed(&self.path, error))?;
        self.newest.send_if_modified(|known| std::mem::replace(known, revision) != revision);
        *database = Some(reopened.clone());
        Ok(reopened)
    }
}

impl Documents for Redb {
    fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        self.with(|database| Ok(get(database, key)?))
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Document)>, StoreError> {
        self.with(|database| Ok(range(database, prefix, after, limit)?))
    }
}

impl Store for Redb {
    fn commit(&self, transaction: &Transaction) -> Result<Revision, StoreError> {
        let revision = self.with(|database| {
            let write = database.begin_write().map_err(::redb::Error::from)?;
            let revision = stage(&write, transaction)?;
            if !transaction.writes.is_empty() || !transaction.aside.is_empty() {
                write.commit().map_err(::redb::Error::from)?;
            }
            Ok(revision)
        })?;
        if !transaction.writes.is_empty() {
            self.newest.send_replace(revision);
        }
        Ok(revision)
    }

    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Commit>, StoreError> {
        self.with(|database| history(database, after, limit))
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}

/// A store that another process may be writing.
pub struct ReadOnly {
    path: PathBuf,
    database: ReadOnlyDatabase,
}

impl ReadOnly {
    /// Opens the store in this directory, as it is. One that a crash has left is mended first, as its owner would.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        let read = || builder().open_read_only(&path);
        let database = match read() {
            Err(DatabaseError::RepairAborted) => {
                drop(open(&path)?);
                read()
            }
            opened => opened,
        };
        let database = database.map_err(|error| cannot_open(&path, error))?;
        Ok(Self { path, database })
    }
}

impl Documents for ReadOnly {
    fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        get(&self.database, key).map_err(|error| failed(&self.path, error))
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Document)>, StoreError> {
        range(&self.database, prefix, after, limit).map_err(|error| failed(&self.path, error))
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

fn open(path: &Path) -> Result<Database, StoreError> {
    builder().set_check_integrity_on_open(true).create(path).map_err(|error| cannot_open(path, error))
}

fn cannot_open(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.display();
    StoreError::Failed(match error {
        DatabaseError::DatabaseAlreadyOpen => {
            format!("{path}: is in use by another process; give each instance a state_dir of its own")
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            format!("{path}: is not a store of pointsman; name another state_dir, or move the file away")
        }
        DatabaseError::Storage(StorageError::Io(error)) => {
            format!("{path}: cannot be opened ({error}); the state_dir must be there, readable and writable")
        }
        error => format!("{path}: is broken ({error}); restore it from a backup, or move it away to begin anew"),
    })
}

fn failed(path: &Path, error: ::redb::Error) -> StoreError {
    StoreError::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
