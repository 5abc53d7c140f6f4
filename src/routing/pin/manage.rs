//! What the control plane does with pins: count them, move them to another version, evict them, write them down
//! and read them back. Each looks at one segment at a time, so that no request waits for the whole table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::Entry;

use super::place::Place;
use super::{Pin, PinKey, Pins, SEGMENTS, Second};
use crate::routing::ids::{AgentId, EnvironmentId};

/// What became of the conversations of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    pub moved: usize,
    /// Had a response in flight, and stay until it has ended.
    pub busy: usize,
    /// Could have moved, but for the limit.
    pub left: usize,
}

/// One pin, for the checkpoint.
#[derive(Clone)]
pub struct PinRecord {
    pub key: PinKey,
    pub place: Arc<Place>,
    pub created: Second,
    pub last_used: Second,
}

impl Pins {
    /// The versions of an agent that have or have had conversations, with their counts.
    pub fn counts(&self, environment: &EnvironmentId, agent: &AgentId) -> Vec<Arc<Place>> {
        self.names.of_agent(environment, agent)
    }

    /// Moves up to `limit` conversations that `filter` takes, by key and birth, from one version to another of the same agent. One
    /// with a response in flight is never moved.
    pub fn migrate(&self, from: &Place, to: &Place, filter: impl Fn(PinKey, Second) -> bool, limit: usize) -> Migrated {
        let mut migrated = Migrated::default();
        if !Arc::ptr_eq(&from.agent, &to.agent) || from.number == to.number {
            return migrated;
        }
        for segment in &self.segments {
            let before = migrated.moved;
            for mut entry in segment.pins.iter_mut() {
                if entry.place != from.number || !filter(*entry.key(), entry.created) {
                    continue;
                }
                if entry.is_busy() {
                    migrated.busy += 1;
                } else if migrated.moved < limit {
                    entry.place = to.number;
                    // While the pin is locked, so that nobody takes it off its new version before it is on it.
                    to.conversations.fetch_add(1, Ordering::Relaxed);
                    from.conversations.fetch_sub(1, Ordering::Relaxed);
                    migrated.moved += 1;
                } else {
                    migrated.left += 1;
                }
            }
            if migrated.moved > before {
                segment.changed.store(true, Ordering::Relaxed);
            }
        }
        self.events.moved.fetch_add(migrated.moved as u64, Ordering::Relaxed);
        migrated
    }

    /// Forgets all conversations of a version, and says how many. Responses in flight go on.
    pub fn evict(&self, place: &Place) -> usize {
        let removed = |segment| self.remove_where(segment, |pin| pin.place == place.number, &self.events.dropped);
        self.segments.iter().map(removed).sum()
    }

    /// The segments that have changed since they were last asked for, by number below [`SEGMENTS`].
    pub fn changed_segments(&self) -> Vec<usize> {
        let changed = |segment: &usize| self.segments[*segment].changed.swap(false, Ordering::Relaxed);
        (0..SEGMENTS).filter(changed).collect()
    }

    /// Makes [`Pins::changed_segments`] name the segment again: it could not be written down.
    pub fn mark_changed(&self, segment: usize) {
        if let Some(segment) = self.segments.get(segment) {
            segment.changed.store(true, Ordering::Relaxed);
        }
    }

    /// The same for all of them: somebody else may have written.
    pub fn mark_all_changed(&self) {
        (0..SEGMENTS).for_each(|segment| self.mark_changed(segment));
    }

    /// All pins of one segment.
    pub fn export(&self, segment: usize) -> Vec<PinRecord> {
        let places = self.names.all();
        let record = |key: &PinKey, pin: &Pin| {
            let place = places.get(pin.place as usize)?.clone();
            let last_used = pin.last_used.load(Ordering::Relaxed);
            Some(PinRecord { key: *key, place, created: pin.created, last_used })
        };
        let pins = self.segments.get(segment).into_iter().flat_map(|segment| segment.pins.iter());
        pins.filter_map(|entry| record(entry.key(), entry.value())).collect()
    }

    /// Takes in pins that an earlier process wrote down, as far as there is room; those that are here already stay
    /// as they are. Says how many were taken.
    pub fn import(&self, records: impl IntoIterator<Item = PinRecord>) -> usize {
        records.into_iter().filter(|record| self.take_in(record)).count()
    }

    fn take_in(&self, record: &PinRecord) -> bool {
        if self.len() >= self.max.load(Ordering::Relaxed) || !self.take_room() {
            return false;
        }
        let Entry::Vacant(entry) = self.segment(record.key).pins.entry(record.key) else {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return false;
        };
        record.place.conversations.fetch_add(1, Ordering::Relaxed);
        entry.insert(Pin {
            place: record.place.number,
            created: record.created,
            last_used: AtomicU32::new(record.last_used),
            in_flight: AtomicU32::new(0),
        });
        true
    }
}
