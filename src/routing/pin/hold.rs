//! A response in flight of a pinned conversation: while one is held, the pin does not expire, is not evicted and
//! does not move.

use std::sync::Arc;

use super::{PinKey, Place, Second, SharedPins};

pub struct Hold {
    pins: SharedPins,
    key: PinKey,
    place: Arc<Place>,
    created: Second,
    ended: Option<Second>,
}

impl Hold {
    pub(super) fn new(pins: SharedPins, key: PinKey, place: Arc<Place>, created: Second) -> Self {
        Self { pins, key, place, created, ended: None }
    }

    pub fn key(&self) -> PinKey {
        self.key
    }

    /// The response has ended: from now on the conversation is idle. Dropping a hold does the same, but counts
    /// the idle time from the request.
    pub fn end(mut self, now: Second) {
        self.ended = Some(now);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pins.release(self.key, &self.place, self.created, self.ended);
    }
}
