//! How the data plane wakes the judge: one flag and one notification, coalesced.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use tokio::sync::Notify;

/// Rung by a worker when a guarded version's figures changed; heard by the judge.
///
/// However many outcomes arrive between two looks, only the first costs a wake-up.
#[derive(Default)]
pub struct Bell {
    rung: AtomicBool,
    notify: Notify,
}

impl Bell {
    pub fn ring(&self) {
        // Orders the counts before the load: either the judge sees them, or we see that it has reset the flag.
        fence(Ordering::SeqCst);
        // The plain load first: in a burst the cache line stays shared between workers.
        if !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Waits until rung, and resets it: what happens after this return rings again.
    pub async fn heard(&self) {
        while !self.rung.swap(false, Ordering::AcqRel) {
            self.notify.notified().await;
        }
        fence(Ordering::SeqCst);
    }
}
