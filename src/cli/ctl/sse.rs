//! Server-sent events out of the bytes of a body, as the WHATWG standard has them.
//!
//! Bounds: one event may have [`EVENT_LIMIT`] bytes; a longer one is an error.

/// A state change is a few kilobytes.
const EVENT_LIMIT: usize = 4 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: String,
    pub data: String,
}

#[derive(Debug, thiserror::Error)]
#[error("an event is larger than {} MiB", EVENT_LIMIT >> 20)]
pub struct TooLarge;

/// Takes pieces of a body as they come.
#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return, so a line feed belongs to it.
    returned: bool,
    /// Of the event that is being read, and of those after it that name none.
    id: Option<String>,
    /// Of the newest event that came whole: one that is cut off must come again.
    last: Option<String>,
    kind: String,
    data: String,
}

impl Parser {
    /// The id to resume from. The server also gives one without an event, so that it is there from the start.
    pub fn last_id(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The events that this piece completes.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for byte in piece {
            let returned = std::mem::replace(&mut self.returned, *byte == b'\r');
            match byte {
                b'\n' if returned => {}
                b'\n' | b'\r' => events.extend(self.end_of_line()),
                _ => self.line.push(*byte),
            }
            if self.line.len() + self.data.len() > EVENT_LIMIT {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "event" => self.kind = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // `retry`, comments (an empty name), and what later servers may add.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last.clone_from(&self.id);
        let kind = std::mem::take(&mut self.kind);
        let mut data = std::mem::take(&mut self.data);
        // Without data it is no event, but its id counts.
        data.pop()?;
        Some(Event { id: self.id.clone(), kind, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, kind: &str, data: &str) -> Event {
        Event { id: id.map(str::to_owned), kind: kind.to_owned(), data: data.to_owned() }
    }

    const STREAM: &str = ": hello\n\nid: 1\nevent: step\ndata: {\"a\":\ndata: 1}\n\nid:2\r\ndata:x\r\n\r\n\
                          id: 3\n\nretry: 5\nnew: field\ndata\n\nid: 4\ndata: unfinished";

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let expected = [event(Some("1"), "step", "{\"a\":\n1}"), event(Some("2"), "", "x"), event(Some("3"), "", "")];
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<_> = STREAM.as_bytes().chunks(size).flat_map(|piece| parser.feed(piece).unwrap()).collect();
            assert_eq!(events, expected, "in pieces of {size}");
            assert_eq!(parser.last_id(), Some("3"), "what is cut off does not count");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let piece = vec![b'x'; 64 << 10];
        let mut parser = Parser::default();
        assert!((0..100).any(|_| parser.feed(&piece).is_err()));
        let mut parser = Parser::default();
        let lines = b"data: x\n".repeat(8 << 10);
        assert!((0..1000).any(|_| parser.feed(&lines).is_err()));
    }
}
