//! One conversation, for an operator who knows its id.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Pin, PinKey, PinRecord, Pins, Place, Second};

impl Pins {
    /// Every version that ever had a place, with its counts.
    pub fn places(&self) -> Vec<Arc<Place>> {
        self.names.all()
    }

    /// Where a conversation is held, and how many responses of it are in flight.
    pub fn look(&self, key: PinKey) -> Option<(PinRecord, u32)> {
        let pin = self.segment(key).pins.get(&key)?;
        let place = self.names.by_number(pin.place)?;
        let last_used = pin.last_used.load(Ordering::Relaxed);
        let record = PinRecord { key, place, created: pin.created, last_used };
        Some((record, pin.in_flight.load(Ordering::Relaxed)))
    }

    /// Forgets the conversations of a version that were idle for longer than this, and says how many: under
    /// `upgrade_at_turn` they are not held any more, and only stand in the table until their next turn.
    pub fn forget_idle(&self, place: &Place, longer_than: Second, now: Second) -> usize {
        let goes = |pin: &Pin| pin.place == place.number && !pin.is_busy() && pin.idle_for(now) > longer_than;
        self.segments.iter().map(|segment| self.remove_where(segment, goes, &self.events.turned)).sum()
    }

    /// Forgets one conversation; a response in flight goes on. False where there was none.
    pub fn remove(&self, key: PinKey) -> bool {
        let segment = self.segment(key);
        let Some((_, pin)) = segment.pins.remove(&key) else { return false };
        segment.changed.store(true, Ordering::Relaxed);
        self.left(&pin);
        self.taken.fetch_sub(1, Ordering::Relaxed);
        true
    }
}
