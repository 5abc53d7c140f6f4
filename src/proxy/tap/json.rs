//! A scanner of JSON text that comes in pieces: no tree, no allocation, any cut.
//!
//! It follows only the members that its [`Visitor`] asks for. All else is skipped: strings from quote to quote,
//! containers by counting brackets. It reads what JSON says and does not check that it *is* JSON: of other
//! text it tells something or nothing, and never fails.
//!
//! Bounds: containers are followed [`DEPTH`] levels deep, deeper ones are skipped whole; keys and texts are
//! told by their first [`TEXT_BYTES`], as written (escapes included).

mod text;

use text::{Held, StringEnd, end_on_line, string_end};

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

/// What may stand in place of other such without a difference to what is told, but for an empty text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filler<P> {
    /// The rest of a string, up to its quote.
    Text,
    Digits,
    /// A whole number that is told of this place, and nothing else is.
    Number(P),
}

impl<P> Filler<P> {
    /// How much of the bytes it is: `None` where it is none, goes on after them, or reaches into another line.
    pub fn length_in(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Text => end_on_line(bytes),
            Self::Digits => digits(bytes),
            Self::Number(_) => digits(bytes).filter(|length| ENDS[usize::from(bytes[*length])]),
        }
    }
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
    /// Within a string; whether what was held of it is wanted.
    Text { wanted: bool, escaped: bool },
    /// Within a number or a literal.
    Scalar { wanted: bool },
    /// So many levels deep in a container that nobody asked for, or in a string there.
    Skip { levels: u32, text: Option<Escaped> },
    /// The document is whole; what follows is passed over.
    Done,
}

/// Whether the last byte was an escape's backslash.
type Escaped = bool;

/// What ends a number or a literal.
const ENDS: [bool; 256] = {
    let (ends, mut table, mut index) = (b",}] \n\r\t\":{[", [false; 256], 0);
    while index < ends.len() {
        table[ends[index] as usize] = true;
        index += 1;
    }
    table
};

impl<P: Copy> Scanner<P> {
    pub fn new() -> Self {
        Self { state: State::Fresh, at: None, wants_key: false, levels: [None; DEPTH], depth: 0, held: Held::default() }
    }

    /// Forgets what it is in; a new document begins.
    pub fn restart(&mut self) {
        self.state = State::Fresh;
        self.depth = 0;
    }

    /// Whether a whole document has been read.
    pub fn is_done(&self) -> bool {
        // A bare number ends with the text.
        self.state == State::Done || self.depth == 0 && matches!(self.state, State::Scalar { .. })
    }

    /// What may come next in place of what does; `of` says it of a place of interest.
    pub fn filler(&self, of: impl Fn(P) -> Option<Filler<P>>) -> Option<Filler<P>> {
        match (self.state, self.at) {
            (State::Text { escaped: false, .. }, None) if !self.wants_key => Some(Filler::Text),
            (State::Text { escaped: false, .. }, Some(at)) => of(at).filter(|filler| matches!(filler, Filler::Text)),
            (State::Skip { text: Some(false), .. }, _) => Some(Filler::Text),
            (State::Skip { text: None, .. } | State::Scalar { wanted: false }, _) => Some(Filler::Digits),
            (State::Between, None) => Some(Filler::Digits),
            (State::Between, Some(at)) => of(at).filter(|filler| matches!(filler, Filler::Number(_))),
            _ => None,
        }
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
                State::Scalar { wanted } => self.scalar(bytes, wanted, visitor),
                State::Skip { levels, text } => self.skip(bytes, levels, text),
                State::Done => return,
            };
        }
    }

    /// All that is whole in this piece; the rest is for the state that it ends in.
    fn between<'a, V: Visitor<Place = P>>(&mut self, bytes: &'a [u8], visitor: &mut V) -> &'a [u8] {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            match byte {
                b'"' => {
                    let text = &bytes[index + 1..];
                    let StringEnd::At(end) = string_end(text, false) else {
                        self.held.clear();
                        return self.text(text, self.wants_key || self.at.is_some(), false, visitor);
                    };
                    index += end + 1;
                    self.end_text(&text[..end.min(TEXT_BYTES)], visitor);
                }
                b',' => self.next_value(visitor),
                b'{' | b'[' => self.open(byte == b'[', visitor),
                b'}' | b']' => self.close(visitor),
                b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => {
                    let text = &bytes[index..];
                    let Some(end) = text.iter().position(|byte| ENDS[usize::from(*byte)]) else {
                        self.held.clear();
                        return self.scalar(text, self.at.is_some(), visitor);
                    };
                    index += end - 1;
                    self.end_scalar(&text[..end.min(TEXT_BYTES)], visitor);
                }
            }
            index += 1;
            if self.state != State::Between {
                return &bytes[index..];
            }
        }
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
            self.state = State::Skip { levels: 1, text: None };
            return;
        };
        visitor.value(place, if is_array { Value::Array } else { Value::Object });
        let Some(level) = self.levels.get_mut(self.depth) else {
            self.state = State::Skip { levels: 1, text: None };
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
        if self.depth == 0 {
            self.state = State::Done;
        }
    }

    fn text<'a, V: Visitor<Place = P>>(
        &mut self,
        bytes: &'a [u8],
        wanted: bool,
        escaped: bool,
        visitor: &mut V,
    ) -> &'a [u8] {
        let (end, next) = match string_end(bytes, escaped) {
            StringEnd::At(end) => (end, State::Between),
            StringEnd::Later { escaped } => (bytes.len(), State::Text { wanted, escaped }),
        };
        self.hold(&bytes[..end], wanted, next);
        if next != State::Between {
            return &[];
        }
        let held = self.held;
        self.end_text(held.get(), visitor);
        &bytes[end + 1..]
    }

    fn scalar<'a, V: Visitor<Place = P>>(&mut self, bytes: &'a [u8], wanted: bool, visitor: &mut V) -> &'a [u8] {
        let Some(end) = bytes.iter().position(|byte| ENDS[usize::from(*byte)]) else {
            self.hold(bytes, wanted, State::Scalar { wanted });
            return &[];
        };
        self.hold(&bytes[..end], wanted, State::Between);
        let held = self.held;
        self.end_scalar(held.get(), visitor);
        &bytes[end..]
    }

    fn hold(&mut self, bytes: &[u8], wanted: bool, next: State) {
        if wanted {
            self.held.push(bytes);
        }
        self.state = next;
    }

    /// A string has ended, which is of no interest where nothing is wanted.
    fn end_text<V: Visitor<Place = P>>(&mut self, text: &[u8], visitor: &mut V) {
        if self.wants_key {
            self.wants_key = false;
            self.at = self.level().and_then(|level| visitor.member(level.place, text));
            return;
        }
        if let Some(at) = self.at {
            visitor.value(at, Value::Text(text));
        }
        self.end_value();
    }

    fn end_scalar<V: Visitor<Place = P>>(&mut self, text: &[u8], visitor: &mut V) {
        if let Some(at) = self.at
            && let Some(value) = scalar_of(text)
        {
            visitor.value(at, value);
        }
        self.end_value();
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], mut levels: u32, mut text: Option<Escaped>) -> &'a [u8] {
        let mut index = 0;
        while index < bytes.len() {
            if let Some(escaped) = text {
                match string_end(&bytes[index..], escaped) {
                    StringEnd::At(end) => {
                        index += end + 1;
                        text = None;
                    }
                    StringEnd::Later { escaped } => {
                        self.state = State::Skip { levels, text: Some(escaped) };
                        return &[];
                    }
                }
                continue;
            }
            match bytes[index] {
                b'"' => text = Some(false),
                b'{' | b'[' => levels = levels.saturating_add(1),
                b'}' | b']' => levels -= 1,
                _ => {}
            }
            index += 1;
            if levels == 0 {
                self.state = State::Between;
                self.end_value();
                return &bytes[index..];
            }
        }
        self.state = State::Skip { levels, text };
        &[]
    }
}

/// A number or a literal, by how it begins.
pub(super) fn scalar_of(text: &[u8]) -> Option<Value<'static>> {
    match text.first()? {
        b'0'..=b'9' => Some(Value::Number(text.iter().try_fold(0, |number, digit| with_digit(number, *digit)))),
        b'-' => Some(Value::Number(None)),
        b't' => Some(Value::Bool(true)),
        b'f' => Some(Value::Bool(false)),
        b'n' => Some(Value::Null),
        _ => None,
    }
}

/// How many digits they begin with; `None`: none, or nothing else follows.
fn digits(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| !byte.is_ascii_digit()).filter(|length| *length > 0)
}

fn with_digit(number: u64, byte: u8) -> Option<u64> {
    let digit = char::from(byte).to_digit(10)?;
    number.checked_mul(10)?.checked_add(u64::from(digit))
}

#[cfg(test)]
mod tests;
