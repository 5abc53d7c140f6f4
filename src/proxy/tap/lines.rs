//! Newline-delimited JSON in pieces: each line that is not blank is an event.

use memchr::memchr;

use super::sse::{EventName, Events};

#[derive(Default)]
pub(super) struct Records {
    /// The line that is being read is not blank.
    has_text: bool,
}

impl Records {
    pub fn read(&mut self, mut bytes: &[u8], events: &mut impl Events) {
        while let Some(end) = memchr(b'\n', bytes) {
            self.take(&bytes[..end], events);
            self.finish(events);
            bytes = &bytes[end + 1..];
        }
        self.take(bytes, events);
    }

    fn take(&mut self, mut piece: &[u8], events: &mut impl Events) {
        if !self.has_text {
            piece = piece.trim_ascii_start();
        }
        if !piece.is_empty() {
            self.has_text = true;
            events.data(piece);
        }
    }

    /// Hands on a line whose end never came.
    pub fn finish(&mut self, events: &mut impl Events) {
        if std::mem::take(&mut self.has_text) {
            events.event(EventName::Other);
        }
    }
}
