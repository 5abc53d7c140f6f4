//! Looks for a conversation's id at the beginning of a response's body, as it passes: in a JSON text, or in the
//! first event of an event stream that carries data.
//!
//! Bounds: a copy of at most [`LOOK_BYTES`] of the body is kept, and none once the id is found or the look is over;
//! it is read anew only as it doubles, so that a body in small pieces costs no more than one in large ones.

use memchr::memchr;

use super::pointer;
use crate::routing::conversation::ResponseId;

/// How much of a body is looked at. A conversation's id stands at its beginning.
const LOOK_BYTES: usize = 16 << 10;

pub(super) struct IdWatch {
    seen: Vec<u8>,
    form: Form,
}

enum Form {
    /// Read again when there are so many bytes.
    Json { again_at: usize },
    /// Lines up to here are read; the data of the event that has begun.
    Events { read: usize, data: Vec<u8> },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// So far.
    Nothing,
    Id(Vec<u8>),
    /// There is no id where it was to be.
    Over,
}

impl IdWatch {
    pub fn of_json() -> Self {
        Self { seen: Vec::new(), form: Form::Json { again_at: 0 } }
    }

    pub fn of_events() -> Self {
        Self { seen: Vec::new(), form: Form::Events { read: 0, data: Vec::new() } }
    }

    pub fn see(&mut self, data: &[u8], places: &[ResponseId]) -> Seen {
        let room = LOOK_BYTES - self.seen.len();
        self.seen.extend_from_slice(&data[..data.len().min(room)]);
        let is_full = self.seen.len() == LOOK_BYTES;
        let seen = match &mut self.form {
            Form::Json { again_at } if self.seen.len() >= *again_at || is_full => {
                *again_at = self.seen.len() * 2;
                find(&self.seen, places)
            }
            Form::Json { .. } => Seen::Nothing,
            Form::Events { read, data } => match first_event(&self.seen, read, data) {
                None => Seen::Nothing,
                Some(event) => match find(&event, places) {
                    Seen::Nothing => Seen::Over,
                    found => found,
                },
            },
        };
        if is_full && seen == Seen::Nothing { Seen::Over } else { seen }
    }

    /// The body is whole.
    pub fn end(&self, places: &[ResponseId]) -> Seen {
        let found = match &self.form {
            Form::Json { .. } => find(&self.seen, places),
            // An event ends with its blank line, and with nothing else.
            Form::Events { .. } => Seen::Nothing,
        };
        if found == Seen::Nothing { Seen::Over } else { found }
    }
}

/// The first of the places that the text has.
fn find(text: &[u8], places: &[ResponseId]) -> Seen {
    let value = places.iter().find_map(|place| match place {
        ResponseId::Json(path) => pointer::find(text, path),
        ResponseId::Header(_) => None,
    });
    value.map_or(Seen::Nothing, Seen::Id)
}

/// The data of the first event that has any, once its blank line is there. Lines end with LF or CRLF.
fn first_event(seen: &[u8], read: &mut usize, data: &mut Vec<u8>) -> Option<Vec<u8>> {
    while let Some(length) = memchr(b'\n', &seen[*read..]) {
        let line = &seen[*read..*read + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        *read += length + 1;
        if line.is_empty() && !data.is_empty() {
            return Some(std::mem::take(data));
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when the body passes in pieces of `size` bytes.
    fn seen(mut watch: IdWatch, body: &[u8], size: usize) -> Seen {
        let places = [ResponseId::Header(http::header::ETAG), json("/id"), json("/response/id")];
        let pieces = body.chunks(size).map(|piece| watch.see(piece, &places));
        let seen = pieces.fold(Seen::Nothing, |before, now| if before == Seen::Nothing { now } else { before });
        if seen == Seen::Nothing { watch.end(&places) } else { seen }
    }

    fn json(pointer: &str) -> ResponseId {
        ResponseId::Json(pointer.into())
    }

    #[test]
    fn an_id_is_found_however_the_body_is_cut() {
        let text = br#"{"object": "thread", "metadata": {"id": "not this"}, "id": "thread-1", "rest": [1, 2]}"#;
        let created = br#"{"type": "response.created", "response": {"id": "resp-1"}}"#;
        let mut events = b": a comment\r\nevent: open\n\nid: 7\r\ndata: ".to_vec();
        events.extend_from_slice(created);
        events.extend_from_slice(b"\r\n\r\ndata: {\"id\": \"too late\"}\n\n");
        for size in 1..=events.len() {
            assert_eq!(seen(IdWatch::of_json(), text, size), Seen::Id(b"thread-1".to_vec()), "{size}");
            assert_eq!(seen(IdWatch::of_events(), &events, size), Seen::Id(b"resp-1".to_vec()), "{size}");
        }
    }

    #[test]
    fn data_of_several_lines_is_one_text() {
        let body = b"data: {\ndata:\"id\":\ndata: \"x\"}\n\n";
        assert_eq!(seen(IdWatch::of_events(), body, 5), Seen::Id(b"x".to_vec()));
    }

    #[test]
    fn only_the_first_event_and_only_the_beginning_is_looked_at() {
        let late = b"data: {\"a\": 1}\n\ndata: {\"id\": \"x\"}\n\n";
        let long = format!("{{\"text\": \"{}\", \"id\": \"x\"}}", "long ".repeat(LOOK_BYTES / 5));
        for size in [1, 7, 1000, 100_000] {
            assert_eq!(seen(IdWatch::of_events(), late, size), Seen::Over, "{size}");
            assert_eq!(seen(IdWatch::of_json(), long.as_bytes(), size), Seen::Over, "{size}");
        }
        assert_eq!(seen(IdWatch::of_events(), b"data: {\"id\": \"cut\"}\n", 100), Seen::Over);
        assert_eq!(seen(IdWatch::of_json(), b"[]", 1), Seen::Over);
    }
}
