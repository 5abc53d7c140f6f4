//! Newline-delimited JSON in pieces: each line that is not blank is an event.

use memchr::memchr;

use super::sse::{EventName, Events};

#[derive(Default)]
pub(super) struct Records {
    /// The line that is being read is not blank.
    has_text: bool,
}

impl Records {
    /// Reads to the end of a line, or all that there is, and answers the rest.
    pub fn read_one<'a>(&mut self, bytes: &'a [u8], events: &mut impl Events) -> &'a [u8] {
        let Some(end) = memchr(b'\n', bytes) else {
            self.take(bytes, events);
            return &[];
        };
        self.take(&bytes[..end], events);
        self.finish(events);
        &bytes[end + 1..]
    }

    /// Nothing has come of the next document.
    pub fn is_between_events(&self) -> bool {
        !self.has_text
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
