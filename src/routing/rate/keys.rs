//! A limit's buckets by caller. A caller stands here as a keyed hash of 128 bits: the table tells no keys, and no client
//! can choose where its own falls.
//!
//! Bounded: at most `max_keys` buckets, of some 100 bytes each. A caller is forgotten when its bucket has been full for
//! a minute, and when the table is full as soon as its bucket is full: nothing is lost by that but the average of its
//! tokens. Where no room can be made, new callers share one bucket until there is; those that have one keep theirs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::bucket::Bucket;
use super::lock;
use super::pace::{Nanos, SECOND};

/// Locked one by one.
const SHARDS: usize = 64;
/// A sweep looks at so many of them: all, in sixteen sweeps.
const SWEPT: usize = 4;
/// How long an idle caller is remembered.
const KEPT: Nanos = 60 * SECOND;
/// At the cap one shard is looked through for room, no more often than this: a flood pays for itself.
const ROOM_PAUSE: Nanos = SECOND / 100;

type Shard = HashMap<u128, Arc<Bucket>, BuildHasherDefault<AsItIs>>;

pub(super) struct Keys {
    shards: Box<[Mutex<Shard>]>,
    overflow: Arc<Bucket>,
    /// Buckets that are there or about to be.
    taken: AtomicUsize,
    next_swept: AtomicUsize,
    room_sought: AtomicU64,
    forgotten: AtomicU64,
    overflowed: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyStats {
    pub keys: usize,
    pub forgotten: u64,
    /// Requests that had to use the shared bucket.
    pub overflowed: u64,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            overflow: Arc::default(),
            taken: AtomicUsize::new(0),
            next_swept: AtomicUsize::new(0),
            room_sought: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        }
    }
}

impl Keys {
    /// The caller's own bucket, or the one for those that have none.
    pub fn bucket(&self, key: u128, max: usize, now: Nanos) -> Arc<Bucket> {
        let shard = &self.shards[(key >> 64) as usize % SHARDS];
        if let Some(bucket) = lock(shard).get(&key) {
            return bucket.clone();
        }
        let has_room = self.take_room(max) || self.make_room(now) && self.take_room(max);
        if !has_room {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return self.overflow.clone();
        }
        match lock(shard).entry(key) {
            Entry::Vacant(entry) => entry.insert(Arc::default()).clone(),
            Entry::Occupied(entry) => {
                // Another request of the caller was here first.
                self.taken.fetch_sub(1, Ordering::Relaxed);
                entry.get().clone()
            }
        }
    }

    fn take_room(&self, max: usize) -> bool {
        let one_more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Whether there is room now.
    fn make_room(&self, now: Nanos) -> bool {
        let due = |sought: u64| (sought == 0 || now >= sought + ROOM_PAUSE).then_some(now.max(1));
        let is_due = self.room_sought.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok();
        is_due && self.forget_next(0, now) > 0
    }

    /// To be called now and then.
    pub fn sweep(&self, now: Nanos) {
        if self.taken.load(Ordering::Relaxed) > 0 {
            for _ in 0..SWEPT {
                self.forget_next(KEPT, now);
            }
        }
    }

    /// Forgets those of the next shard that have been full for so long; says how many.
    fn forget_next(&self, full_for: Nanos, now: Nanos) -> usize {
        let next = self.next_swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut shard = lock(&self.shards[next]);
        let before = shard.len();
        // One that a request has in its hands is about to be used.
        shard.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full_for(full_for, now));
        let gone = before - shard.len();
        if shard.is_empty() {
            shard.shrink_to_fit();
        }
        self.taken.fetch_sub(gone, Ordering::Relaxed);
        self.forgotten.fetch_add(gone as u64, Ordering::Relaxed);
        gone
    }

    pub fn is_idle(&self, now: Nanos) -> bool {
        self.taken.load(Ordering::Relaxed) == 0 && self.overflow.is_full(now)
    }

    pub fn stats(&self) -> KeyStats {
        KeyStats {
            keys: self.taken.load(Ordering::Relaxed),
            forgotten: self.forgotten.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
        }
    }
}

/// The key is as good a hash as any, so it is not hashed again.
#[derive(Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
}
