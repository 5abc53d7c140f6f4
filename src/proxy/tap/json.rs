//! A scanner of JSON text that comes in pieces: no tree, no allocation, any cut.
//!
//! It follows only the members that its [`Visitor`] asks for. All else is skipped: strings from quote to quote,
//! containers by counting brackets. It reads what JSON says and does not check that it *is* JSON: of other
//! text it tells something or nothing, and never fails.
//!
//! Bounds: containers are followed [`DEPTH`] levels deep, deeper ones are skipped whole; keys and texts are
//! told by their first [`TEXT_BYTES`], as written (escapes included).

use memchr::memchr2;

/// The deepest place that anybody asks about, and one to spare.
pub(super) const DEPTH: usize = 8;
pub(super) const TEXT_BYTES: usize = 128;

/// Who wants to know. A place is where a value stands; `None` is nowhere of interest.
pub(super) trait Visitor {
    type Place: Copy;

    fn root(&self) -> Self::Place;
    /// The place of the member `key` of the object at `of`.
    fn member(&self, of: Self::Place, key: &[u8]) -> Option<Self::Place>;
    /// The place of the elements of the array at `of`.
    fn element(&self, of: Self::Place) -> Option<Self::Place>;
    fn value(&mut self, at: Self::Place, value: Value<'_>);
    /// The container at `at` is closed.
    fn close(&mut self, at: Self::Place);
}

/// A value as far as it is told. Containers are told when they open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// `None`: not a whole number that fits.
    Number(Option<u64>),
    Text(&'a [u8]),
    Object,
    Array,
}

pub(super) struct Scanner<P> {
    state: State,
    /// Where the next value stands.
    at: Option<P>,
    /// The next string is a member's name.
    wants_key: bool,
    levels: [Option<Level<P>>; DEPTH],
    depth: usize,
    held: Held,
}

#[derive(Clone, Copy)]
struct Level<P> {
    place: P,
    is_array: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first value.
    Fresh,
    /// Between values and signs.
    Between,
    /// Within a string that is wanted, or not.
    Text {
        wanted: bool,
        escaped: bool,
    },
    Scalar(Scalar),
    /// So many levels deep in a container that nobody asked for.
    Skip(u32),
    SkipText {
        levels: u32,
        escaped: bool,
    },
    /// The document is whole; what follows is passed over.
    Done,
}

/// A number or a literal, by how it began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Unwanted,
    Literal(u8),
    Number(Option<u64>),
}

/// A string's beginning that came in more than one piece.
struct Held {
    bytes: [u8; TEXT_BYTES],
    length: usize,
}

impl Held {
    fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(TEXT_BYTES - self.length);
        self.bytes[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
    }
}

impl<P: Copy> Scanner<P> {
    pub fn new() -> Self {
        Self {
            state: State::Fresh,
            at: None,
            wants_key: false,
            levels: [None; DEPTH],
            depth: 0,
            held: Held { bytes: [0; TEXT_BYTES], length: 0 },
        }
    }

    /// Forgets what it is in; a new document begins.
    pub fn restart(&mut self) {
        self.state = State::Fresh;
        self.depth = 0;
    }

    /// Whether a whole document has been read.
    pub fn is_done(&self) -> bool {
        // A bare number ends with the text.
        self.state == State::Done || self.depth == 0 && matches!(self.state, State::Scalar(_))
    }

    /// Reads the next piece.
    pub fn read<V: Visitor<Place = P>>(&mut self, mut bytes: &[u8], visitor: &mut V) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Fresh => {
                    self.at = Some(visitor.root());
                    self.wants_key = false;
                    self.state = State::Between;
                    bytes
                }
                State::Between => self.between(bytes, visitor),
                State::Text { wanted, escaped } => self.text(bytes, wanted, escaped, visitor),
                State::Scalar(scalar) => self.scalar(bytes, scalar, visitor),
                State::Skip(levels) => self.skip(bytes, levels),
                State::SkipText { levels, escaped } => self.skip_text(bytes, levels, escaped),
                State::Done => return,
            };
        }
    }

    /// Up to the next string, scalar or skipped container.
    fn between<'a, V: Visitor<Place = P>>(&mut self, bytes: &'a [u8], visitor: &mut V) -> &'a [u8] {
        for (index, &byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    let wanted = self.wants_key || self.at.is_some();
                    self.held.length = 0;
                    // At once, in the common case that it ends in this piece.
                    return self.text(&bytes[index + 1..], wanted, false, visitor);
                }
                b',' => self.next_value(visitor),
                b'{' | b'[' => {
                    self.open(byte == b'[', visitor);
                    if self.state != State::Between {
                        return &bytes[index + 1..];
                    }
                }
                b'}' | b']' => {
                    self.close(visitor);
                    if self.state != State::Between {
                        return &bytes[index + 1..];
                    }
                }
                b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => {
                    let scalar = match (self.at, byte) {
                        (None, _) => Scalar::Unwanted,
                        (_, b'0'..=b'9') => Scalar::Number(Some(0)),
                        (_, b'-') => Scalar::Number(None),
                        (_, first) => Scalar::Literal(first),
                    };
                    return self.scalar(&bytes[index..], scalar, visitor);
                }
            }
        }
        self.state = State::Between;
        &[]
    }

    fn level(&self) -> Option<Level<P>> {
        self.depth.checked_sub(1).and_then(|top| self.levels[top])
    }

    /// After a comma.
    fn next_value<V: Visitor<Place = P>>(&mut self, visitor: &V) {
        match self.level() {
            Some(Level { place, is_array: true }) => self.at = visitor.element(place),
            Some(Level { is_array: false, .. }) => {
                self.at = None;
                self.wants_key = true;
            }
            None => {}
        }
    }

    fn open<V: Visitor<Place = P>>(&mut self, is_array: bool, visitor: &mut V) {
        self.wants_key = false;
        let Some(place) = self.at else {
            self.state = State::Skip(1);
            return;
        };
        visitor.value(place, if is_array { Value::Array } else { Value::Object });
        let Some(level) = self.levels.get_mut(self.depth) else {
            self.state = State::Skip(1);
            return;
        };
        *level = Some(Level { place, is_array });
        self.depth += 1;
        self.at = if is_array { visitor.element(place) } else { None };
        self.wants_key = !is_array;
    }

    fn close<V: Visitor<Place = P>>(&mut self, visitor: &mut V) {
        if let Some(level) = self.level() {
            visitor.close(level.place);
        }
        self.depth = self.depth.saturating_sub(1);
        self.end_value();
    }

    /// A value is over; nothing is wanted before the next comma.
    fn end_value(&mut self) {
        self.at = None;
        self.wants_key = false;
        self.state = if self.depth == 0 { State::Done } else { State::Between };
    }

    fn text<'a, V: Visitor<Place = P>>(
        &mut self,
        bytes: &'a [u8],
        wanted: bool,
        escaped: bool,
        visitor: &mut V,
    ) -> &'a [u8] {
        let end = match string_end(bytes, escaped) {
            StringEnd::At(end) => end,
            StringEnd::Later { escaped } => {
                if wanted {
                    self.held.push(bytes);
                }
                self.state = State::Text { wanted, escaped };
                return &[];
            }
        };
        if !wanted {
            self.end_value();
        } else if self.held.length == 0 {
            self.end_text(&bytes[..end.min(TEXT_BYTES)], visitor);
        } else {
            self.held.push(&bytes[..end]);
            let Held { bytes: held, length } = self.held;
            self.end_text(&held[..length], visitor);
        }
        &bytes[end + 1..]
    }

    fn end_text<V: Visitor<Place = P>>(&mut self, text: &[u8], visitor: &mut V) {
        if self.wants_key {
            self.wants_key = false;
            self.at = self.level().and_then(|level| visitor.member(level.place, text));
            self.state = State::Between;
            return;
        }
        if let Some(at) = self.at {
            visitor.value(at, Value::Text(text));
        }
        self.end_value();
    }

    fn scalar<'a, V: Visitor<Place = P>>(&mut self, bytes: &'a [u8], mut scalar: Scalar, visitor: &mut V) -> &'a [u8] {
        for (index, &byte) in bytes.iter().enumerate() {
            if matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b'"' | b':' | b'{' | b'[') {
                self.end_scalar(scalar, visitor);
                return &bytes[index..];
            }
            if let Scalar::Number(number) = &mut scalar {
                *number = number.and_then(|number| with_digit(number, byte));
            }
        }
        self.state = State::Scalar(scalar);
        &[]
    }

    fn end_scalar<V: Visitor<Place = P>>(&mut self, scalar: Scalar, visitor: &mut V) {
        if let Some(at) = self.at {
            match scalar {
                Scalar::Number(number) => visitor.value(at, Value::Number(number)),
                Scalar::Literal(b't') => visitor.value(at, Value::Bool(true)),
                Scalar::Literal(b'f') => visitor.value(at, Value::Bool(false)),
                Scalar::Literal(b'n') => visitor.value(at, Value::Null),
                Scalar::Literal(_) | Scalar::Unwanted => {}
            }
        }
        self.end_value();
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], mut levels: u32) -> &'a [u8] {
        for (index, &byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => return self.skip_text(&bytes[index + 1..], levels, false),
                b'{' | b'[' => levels = levels.saturating_add(1),
                b'}' | b']' => {
                    levels -= 1;
                    if levels == 0 {
                        self.end_value();
                        return &bytes[index + 1..];
                    }
                }
                _ => {}
            }
        }
        self.state = State::Skip(levels);
        &[]
    }

    fn skip_text<'a>(&mut self, bytes: &'a [u8], levels: u32, escaped: bool) -> &'a [u8] {
        match string_end(bytes, escaped) {
            StringEnd::At(end) => {
                self.state = State::Skip(levels);
                &bytes[end + 1..]
            }
            StringEnd::Later { escaped } => {
                self.state = State::SkipText { levels, escaped };
                &[]
            }
        }
    }
}

fn with_digit(number: u64, byte: u8) -> Option<u64> {
    let digit = char::from(byte).to_digit(10)?;
    number.checked_mul(10)?.checked_add(u64::from(digit))
}

enum StringEnd {
    /// The closing quote.
    At(usize),
    Later {
        escaped: bool,
    },
}

/// Where the string ends that `bytes` are in; `escaped`: the byte before them was an escape's backslash.
fn string_end(bytes: &[u8], escaped: bool) -> StringEnd {
    let mut from = usize::from(escaped);
    while let Some(found) = bytes.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        let at = from + found;
        if bytes[at] == b'"' {
            return StringEnd::At(at);
        }
        from = at + 2;
    }
    StringEnd::Later { escaped: from > bytes.len() }
}
