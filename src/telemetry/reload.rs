//! How the last reload of the configuration went: written by the watch, shown by metrics and API.

use std::sync::Mutex;
use std::time::SystemTime;

/// One state, read and replaced whole.
#[derive(Default)]
pub struct ReloadStatus(Mutex<Reloads>);

#[derive(Clone, Debug, Default)]
pub struct Reloads {
    pub succeeded: u64,
    pub failed: u64,
    /// Hash of the live file.
    pub hash: String,
    pub last_success: Option<SystemTime>,
    /// The text of the newest failure, until a reload succeeds.
    pub error: Option<(SystemTime, String)>,
}

impl ReloadStatus {
    fn lock(&self) -> std::sync::MutexGuard<'_, Reloads> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    pub fn read(&self) -> Reloads {
        self.lock().clone()
    }
    pub fn succeeded(&self, hash: &str, now: SystemTime) {
        let mut reloads = self.lock();
        reloads.succeeded += 1;
        reloads.hash = hash.to_owned();
        reloads.last_success = Some(now);
        reloads.error = None;
    }
    pub fn failed(&self, error: String, now: SystemTime) {
        let mut reloads = self.lock();
        reloads.failed += 1;
        reloads.error = Some((now, error));
    }
}
