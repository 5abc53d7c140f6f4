//! Server-sent events in pieces, by the rules of the WHATWG's event stream: lines end with CR, LF or both, a
//! byte order mark may come first, a blank line ends an event, and what has no data is none.
//!
//! State: where in a line it is, and a few bytes of a field's name. Data is handed on as it comes.

use memchr::memchr2;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// No field of interest has a longer name.
const NAME_BYTES: usize = 5;

/// Who takes the events.
pub(super) trait Events {
    /// More of the event's data.
    fn data(&mut self, bytes: &[u8]);
    /// The event is whole.
    fn event(&mut self, name: EventName);
    /// The stream may be gone on with later: it says after what time.
    fn retry(&mut self);
}

/// What `event:` said, as far as it makes a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum EventName {
    #[default]
    Other,
    Error,
}

/// A part of an event, up to the end of its line.
pub(super) enum Part {
    /// Of the data.
    Data,
    /// Of a value that is passed over.
    Ignored,
    Framing,
}

#[derive(Default)]
pub(super) struct Lines {
    at: At,
    /// Of the byte order mark, or none of it any more.
    mark: Mark,
    /// The last byte was a CR: an LF after it belongs to it.
    after_cr: bool,
    /// Fields since the last blank line.
    pending: bool,
    has_data: bool,
    name: EventName,
}

#[derive(Clone, Copy, Default)]
enum At {
    #[default]
    Start,
    /// In a field's name that was cut.
    Name(Short),
    /// After the colon, where one space may come.
    Colon(Field),
    Value(Field),
}

#[derive(Clone, Copy)]
enum Mark {
    /// So many bytes of it have come.
    Awaited(u8),
    Passed,
}

impl Default for Mark {
    fn default() -> Self {
        Self::Awaited(0)
    }
}

#[derive(Clone, Copy)]
enum Field {
    Data,
    /// With what has come of the value.
    Event(Short),
    Other,
}

/// A few bytes, and how many there were.
#[derive(Clone, Copy, Default)]
struct Short {
    bytes: [u8; NAME_BYTES],
    /// Beyond [`NAME_BYTES`]: too long to be of interest.
    length: u8,
}

impl Short {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().take(NAME_BYTES + 1) {
            if let Some(slot) = self.bytes.get_mut(usize::from(self.length)) {
                *slot = byte;
            }
            self.length = self.length.saturating_add(1);
        }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl Lines {
    /// Reads to the end of an event or a comment, or all that there is, and answers the rest.
    pub fn read_one<'a>(&mut self, mut bytes: &'a [u8], events: &mut impl Events) -> &'a [u8] {
        bytes = self.skip_mark(bytes, events);
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            bytes = match self.at {
                At::Start => self.start(bytes, events),
                At::Name(name) => self.name(bytes, name, events),
                At::Colon(field) => {
                    self.at = At::Value(field);
                    bytes.strip_prefix(b" ").unwrap_or(bytes)
                }
                At::Value(field) => self.value(bytes, field, events),
            };
            if self.is_between_events() {
                return bytes;
            }
        }
        bytes
    }

    /// The mark at the very beginning; what only began like one is a field's name.
    fn skip_mark<'a>(&mut self, mut bytes: &'a [u8], events: &mut impl Events) -> &'a [u8] {
        while let (Mark::Awaited(seen), Some(&byte)) = (self.mark, bytes.first()) {
            let seen = usize::from(seen);
            if byte == BYTE_ORDER_MARK[seen] {
                bytes = &bytes[1..];
                let whole = seen + 1 == BYTE_ORDER_MARK.len();
                self.mark = if whole { Mark::Passed } else { Mark::Awaited(seen as u8 + 1) };
            } else {
                self.mark = Mark::Passed;
                self.read_one(&BYTE_ORDER_MARK[..seen], events);
            }
        }
        bytes
    }

    fn start<'a>(&mut self, bytes: &'a [u8], events: &mut impl Events) -> &'a [u8] {
        if let Some(rest) = bytes.strip_prefix(b"data: ") {
            // Most lines, without a look at each byte.
            self.begin_field(Field::Data, events);
            self.at = At::Value(Field::Data);
            return rest;
        }
        if matches!(bytes[0], b'\r' | b'\n') {
            self.blank_line(events);
            if let Some(rest) = bytes.strip_prefix(b"\r\n") {
                return rest;
            }
            self.after_cr = bytes[0] == b'\r';
            return &bytes[1..];
        }
        self.name(bytes, Short::default(), events)
    }

    fn name<'a>(&mut self, bytes: &'a [u8], mut name: Short, events: &mut impl Events) -> &'a [u8] {
        let Some(end) = bytes.iter().position(|byte| matches!(byte, b':' | b'\r' | b'\n')) else {
            name.push(bytes);
            self.at = At::Name(name);
            return &[];
        };
        name.push(&bytes[..end]);
        let field = match name.get() {
            b"data" => Field::Data,
            b"event" => Field::Event(Short::default()),
            b"retry" => {
                events.retry();
                Field::Other
            }
            _ => Field::Other,
        };
        // A colon at the line's start makes it a comment.
        if name.length > 0 {
            self.begin_field(field, events);
        }
        if bytes[end] == b':' {
            self.at = At::Colon(field);
            return &bytes[end + 1..];
        }
        self.value(&bytes[end..], field, events)
    }

    fn begin_field(&mut self, field: Field, events: &mut impl Events) {
        self.pending = true;
        if matches!(field, Field::Data) {
            if self.has_data {
                events.data(b"\n");
            }
            self.has_data = true;
        }
    }

    fn value<'a>(&mut self, bytes: &'a [u8], mut field: Field, events: &mut impl Events) -> &'a [u8] {
        let end = memchr2(b'\n', b'\r', bytes);
        let value = &bytes[..end.unwrap_or(bytes.len())];
        match &mut field {
            Field::Data => events.data(value),
            Field::Event(name) => name.push(value),
            Field::Other => {}
        }
        let Some(end) = end else {
            self.at = At::Value(field);
            return &[];
        };
        if let Field::Event(name) = field {
            self.name = if name.get() == b"error" { EventName::Error } else { EventName::Other };
        }
        self.at = At::Start;
        self.after_cr = bytes[end] == b'\r';
        &bytes[end + 1..]
    }

    fn blank_line(&mut self, events: &mut impl Events) {
        self.pending = false;
        let name = std::mem::take(&mut self.name);
        if std::mem::take(&mut self.has_data) {
            events.event(name);
        }
    }

    /// Between two events: what is put here belongs to neither.
    pub fn is_between_events(&self) -> bool {
        matches!(self.at, At::Start) && !self.pending && !matches!(self.mark, Mark::Awaited(1..))
    }

    /// Whether no byte order mark can come any more.
    pub fn is_past_mark(&self) -> bool {
        matches!(self.mark, Mark::Passed)
    }

    /// What of an event the next bytes are.
    pub fn part(&self) -> Part {
        match self.at {
            At::Value(Field::Data) => Part::Data,
            At::Value(Field::Other) => Part::Ignored,
            _ => Part::Framing,
        }
    }

    /// A whole event was passed over, which ends with this byte.
    pub fn pass(&mut self, last: u8) {
        self.after_cr = last == b'\r';
    }

    /// Hands on an event whose blank line never came.
    pub fn finish(&mut self, events: &mut impl Events) {
        self.blank_line(events);
    }
}
