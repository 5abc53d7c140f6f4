//! One conversation, for an operator who knows its id.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PinKey, PinRecord, Pins, Place};

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
