//! Whether this instance should get traffic: not before all is up, and not while it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that `app` sets and `/readyz` reads. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// All sockets are bound and the first table is live: from now until the guard goes, this instance is ready.
    ///
    /// A guard, so that no way of stopping can forget to say so.
    #[must_use = "dropping the guard ends readiness"]
    pub fn ready(&self) -> ReadyGuard {
        self.0.store(true, Ordering::Release);
        ReadyGuard(self.clone())
    }

    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Readiness while it lives.
#[derive(Debug)]
pub struct ReadyGuard(Readiness);

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}
