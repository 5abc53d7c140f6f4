//! Rate limits: how many requests and tokens a minute, and how many requests at a time.
//!
//! A limit has a bucket for each value of its key, or one for all where it has no key. Requests and tokens go by GCRA
//! ([`pace`]): what is used comes back evenly, and a burst may be used at once. It is exact under concurrency: one
//! atomic word a pace, changed by compare-and-swap. Pure: the time is handed in, in nanoseconds since [`Rates`] began.
//!
//! - All limits of a request must have room. What refuses a request gives back what the limits before it gave, before
//!   the answer is made; between the two, another request may be refused by a limit that has just room for one.
//! - A request that is let in holds its places among those at a time until [`Admitted`] is dropped, however it ends.
//! - Tokens are reserved before, for what the caller's answers cost on average, and settled when the usage is known. An
//!   answer that cost more leaves a debt, of an hour at most, and the caller waits it out.
//! - The table of keys is bounded ([`keys`]): a flood of keys shares one bucket, and neither grows memory nor frees
//!   anybody.
//! - What was used is remembered across tables, by environment, agent and name of the limit; a changed rate holds for
//!   the buckets that are there. It is not remembered beyond the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::ids::{AgentId, EnvironmentId};

mod admit;
mod bucket;
mod keys;
mod pace;
mod seat;
mod spec;

pub use admit::{Admitted, Refused, Spent, admit};
pub use bucket::Left;
pub use pace::{Nanos, PER_MINUTE_MAX, Pace};
pub use seat::{Policy, Seat};
pub use spec::{Kind, RateLimitSpec, TokenPace};

use bucket::Bucket;
pub use keys::KeyStats;
use keys::Keys;

/// Names what a limit has counted. `agent`: `None` for a limit of the whole environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitId {
    pub environment: EnvironmentId,
    pub agent: Option<AgentId>,
    pub name: Arc<str>,
    /// Whether it has a bucket for each key.
    pub keyed: bool,
}

/// What a limit has counted.
struct Limit {
    buckets: Buckets,
    refused: [AtomicU64; Kind::ALL.len()],
}

enum Buckets {
    One(Arc<Bucket>),
    ByKey(Keys),
}

impl Limit {
    fn new(keyed: bool) -> Self {
        let buckets = if keyed { Buckets::ByKey(Keys::default()) } else { Buckets::One(Arc::default()) };
        Self { buckets, refused: Default::default() }
    }

    fn count_refusal(&self, kind: Kind) {
        self.refused[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it remembers nothing that a new one would not.
    fn is_idle(&self, now: Nanos) -> bool {
        match &self.buckets {
            Buckets::One(bucket) => bucket.is_full(now),
            Buckets::ByKey(keys) => keys.is_idle(now),
        }
    }
}

/// How a limit stands.
#[derive(Clone, Debug)]
pub struct LimitStats {
    pub id: LimitId,
    pub refused: [u64; Kind::ALL.len()],
    pub keys: KeyStats,
}

/// All that the limits of this process have counted.
pub struct Rates {
    secret: [u8; 32],
    start: Instant,
    limits: Mutex<BTreeMap<LimitId, Arc<Limit>>>,
}

pub type SharedRates = Arc<Rates>;

impl Rates {
    /// `secret` keys the hashes that stand for callers; `start` is when the time of limits begins.
    pub fn new(secret: [u8; 32], start: Instant) -> SharedRates {
        Arc::new(Self { secret, start, limits: Mutex::default() })
    }

    pub fn nanos(&self, at: Instant) -> Nanos {
        Nanos::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// What the limit has counted, in any table.
    fn limit(&self, id: LimitId) -> Arc<Limit> {
        let keyed = id.keyed;
        self.lock().entry(id).or_insert_with(|| Arc::new(Limit::new(keyed))).clone()
    }

    /// Forgets callers that have been idle, and limits that are in no table any more. To be called about every second.
    pub fn sweep(&self, now: Nanos) {
        let mut limits = self.lock();
        limits.retain(|_, limit| Arc::strong_count(limit) > 1 || !limit.is_idle(now));
        for limit in limits.values() {
            if let Buckets::ByKey(keys) = &limit.buckets {
                keys.sweep(now);
            }
        }
    }

    /// In the order of environment, agent and name. A limit that no request has met yet is not among them.
    pub fn stats(&self) -> Vec<LimitStats> {
        let stats = |(id, limit): (&LimitId, &Arc<Limit>)| LimitStats {
            id: id.clone(),
            refused: std::array::from_fn(|kind| limit.refused[kind].load(Ordering::Relaxed)),
            keys: match &limit.buckets {
                Buckets::One(_) => KeyStats::default(),
                Buckets::ByKey(keys) => keys.stats(),
            },
        };
        self.lock().iter().map(stats).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LimitId, Arc<Limit>>> {
        lock(&self.limits)
    }
}

/// What is kept under these locks is whole between any two steps, so a panic cannot leave it half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
