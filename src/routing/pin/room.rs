//! Room in the table: who goes when it is full, and who has stayed too long.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Pin, PinKey, Pins, SEGMENTS, SHARDS_PER_SEGMENT, Second, Segment};

/// Of one segment's pins this part goes at a time.
const EVICTED_PART: usize = 32;

/// So many of a segment's pins say how old its oldest are.
const SAMPLED_PINS: usize = 512;

/// A pin in the map: with the byte that the map itself needs for it.
const PIN_BYTES: usize = size_of::<(PinKey, Pin)>() + 1;

/// The map keeps its shards on cache lines of their own, by twos.
const SHARD_BYTES: usize = 128;

/// How the table stands, and what has happened in it since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinStats {
    pub pins: usize,
    pub max: usize,
    /// Held by the table, also where no pin is yet.
    pub bytes: usize,
    pub made: u64,
    pub found: u64,
    /// Unused for longer than their time to live.
    pub expired: u64,
    /// To make room for others.
    pub evicted: u64,
    /// Their version is gone or was rolled back.
    pub dropped: u64,
    /// Turns over, under `upgrade_at_turn`.
    pub turned: u64,
    /// Migrated to another version.
    pub moved: u64,
    /// Not made, for every pin was in use.
    pub refused: u64,
}

impl Pins {
    pub fn stats(&self) -> PinStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // The map's capacity is seven eighths of the room that it takes.
        let room: usize = self.segments.iter().map(|segment| segment.pins.capacity() / 7 * 8).sum();
        let events = &self.events;
        PinStats {
            pins: self.len(),
            max: self.max.load(Ordering::Relaxed),
            bytes: room * PIN_BYTES + SEGMENTS * (size_of::<Segment>() + SHARDS_PER_SEGMENT * SHARD_BYTES),
            made: read(&events.made),
            found: read(&events.found),
            expired: read(&events.expired),
            evicted: read(&events.evicted),
            dropped: read(&events.dropped),
            turned: read(&events.turned),
            moved: read(&events.moved),
            refused: read(&events.refused),
        }
    }

    pub fn len(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets pins that have stayed too long, in the next `segments` of the table. To be called now and then: a
    /// pin whose client never comes back is found by nobody else.
    pub fn sweep(&self, segments: usize, now: Second) {
        if self.is_empty() {
            return;
        }
        let places = self.names.all();
        for _ in 0..segments.min(SEGMENTS) {
            let next = self.next_swept.fetch_add(1, Ordering::Relaxed);
            let has_expired = |pin: &Pin| {
                let ttl = places.get(pin.place as usize).map_or(Second::MAX, |place| place.agent.ttl());
                !pin.is_busy() && pin.idle_for(now) > ttl
            };
            self.remove_where(&self.segments[next % SEGMENTS], has_expired, &self.events.expired);
        }
    }

    /// Removes pins of a segment, and says how many.
    pub(super) fn remove_where(&self, segment: &Segment, goes: impl Fn(&Pin) -> bool, event: &AtomicU64) -> usize {
        let mut removed = 0;
        segment.pins.retain(|_, pin| {
            let goes = goes(pin);
            if goes {
                self.left(pin);
                removed += 1;
            }
            !goes
        });
        if removed > 0 {
            segment.changed.store(true, Ordering::Relaxed);
            self.taken.fetch_sub(removed, Ordering::Relaxed);
            event.fetch_add(removed as u64, Ordering::Relaxed);
        }
        removed
    }

    /// Takes room for one pin, evicting others if need be. False where all are in use. Where the cap was lowered
    /// below what is there, a new pin waits for no more than one part to go: the rest is [`Pins::shrink`]'s.
    pub(super) fn take_room(&self) -> bool {
        let limit = self.max.load(Ordering::Relaxed).max(self.len());
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        for _ in 0..=SEGMENTS {
            if self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
                return true;
            }
            self.evict_next();
        }
        false
    }

    /// Evicts pins until there are no more than may be, but at most one part of each segment. To be called now and
    /// then: a table at its cap makes room by itself, one above it only does not grow.
    pub fn shrink(&self) {
        for _ in 0..SEGMENTS {
            if self.len() <= self.max.load(Ordering::Relaxed) {
                return;
            }
            self.evict_next();
        }
    }

    fn evict_next(&self) {
        let victim = self.next_victim.fetch_add(1, Ordering::Relaxed) % SEGMENTS;
        self.evict_oldest(&self.segments[victim]);
    }

    /// Evicts up to one part of the segment's pins, of about the oldest age. How old that is, a sample says: keys
    /// are evenly spread, so that any of them are as good as others.
    fn evict_oldest(&self, segment: &Segment) {
        let sample = segment.pins.iter().take(SAMPLED_PINS).filter(|pin| !pin.is_busy());
        let mut ages: Vec<Second> = sample.map(|pin| pin.last_used.load(Ordering::Relaxed)).collect();
        let oldest = match ages.len() / EVICTED_PART {
            _ if ages.is_empty() => Second::MAX,
            nth => *ages.select_nth_unstable(nth).1,
        };
        let left = Cell::new(segment.pins.len().div_ceil(EVICTED_PART));
        let goes = |pin: &Pin| {
            let goes = left.get() > 0 && !pin.is_busy() && pin.last_used.load(Ordering::Relaxed) <= oldest;
            left.set(left.get() - usize::from(goes));
            goes
        };
        self.remove_where(segment, goes, &self.events.evicted);
    }
}
