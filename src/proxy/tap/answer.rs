//! An answer as far as it has been read: document by document, whatever framed them.

use super::dialect::{Meaning, Tongue};
use super::document::{Choices, Document, Place};
use super::json::{Filler, Scanner, TEXT_BYTES, Visitor, scalar_of};
use super::sse::{EventName, Events};
use crate::routing::spec::Dialect;

/// What OpenAI ends its streams with.
const DONE: &[u8] = b"[DONE]";

pub(super) struct Answer {
    tongue: Tongue,
    scanner: Scanner<Place>,
    pub document: Document,
    start: Start,
    /// Of the last event, until it is asked for.
    shape: Option<Shape>,
    /// The last word was said.
    pub terminal: bool,
    pub failed: bool,
    /// The stream may end before its last word, to be gone on with later.
    resumable: bool,
    /// Events, and those with something for the user, since [`Answer::take_seen`].
    seen: Seen,
}

/// What a piece of an answer brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub events: u32,
    /// Events with something for the user.
    pub tokens: u32,
}

/// What an event says, of which each says the same that differs from it in what makes no difference only.
#[derive(Clone, Copy, Default)]
pub(super) struct Shape {
    meaning: Meaning,
    /// As they were then: what an event means depends on them.
    choices: Choices,
}

/// A document's first bytes: not all that comes as an event is JSON.
#[derive(Default)]
struct Start {
    bytes: [u8; 8],
    length: usize,
}

impl Start {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(free) = self.bytes.get_mut(self.length..) {
            let taken = free.len().min(bytes.len());
            free[..taken].copy_from_slice(&bytes[..taken]);
        }
        self.length = self.length.saturating_add(bytes.len());
    }

    fn is_done(&self) -> bool {
        self.bytes.get(..self.length).is_some_and(|bytes| bytes.trim_ascii() == DONE)
    }
}

impl Answer {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            tongue: Tongue::new(dialect),
            scanner: Scanner::new(),
            document: Document::default(),
            start: Start::default(),
            shape: None,
            terminal: false,
            failed: false,
            resumable: false,
            seen: Seen::default(),
        }
    }

    pub fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }

    /// Whether the document that is being read needs nothing more to be one.
    pub fn is_whole(&self) -> bool {
        self.scanner.is_done() || self.start.is_done()
    }

    /// Whether a clean end is a complete one. `awaits_result`: a JSON-RPC request was made.
    pub fn may_end(&self, awaits_result: bool) -> bool {
        let rpc = matches!(self.tongue, Tongue::Mcp | Tongue::A2a);
        self.terminal
            || !self.tongue.has_last_word()
            || rpc && !awaits_result
            || self.tongue == Tongue::Mcp && self.resumable
    }

    /// The one document of an answer that is no stream has ended, or broke off.
    pub fn end_document(&mut self) {
        self.tongue.learn(&self.document, true);
        if self.is_whole() {
            self.failed |= self.tongue.meaning(&self.document, EventName::Other).error;
        }
    }

    /// A stream has ended, maybe within a document: what shows its dialect counts.
    pub fn end_within(&mut self) {
        self.tongue.learn(&self.document, false);
    }

    /// Whether it shows the marks of a dialect, or an error.
    pub fn has_marks(&self) -> bool {
        self.failed || Tongue::shows_in(&self.document)
    }

    /// What may come next in an event of the same shape.
    pub fn filler(&self) -> Option<Filler<Place>> {
        self.scanner.filler(Document::filler)
    }

    /// Of the last event, where it is known what those of its shape mean.
    pub fn take_shape(&mut self) -> Option<Shape> {
        self.shape.take()
    }

    /// Whether an event of this shape means what it meant when it was read.
    pub fn can_repeat(&self, shape: &Shape) -> bool {
        shape.choices == self.document.choices
    }

    /// Another such event. What else it says of the whole answer was said by the first of them.
    pub fn repeat(&mut self, shape: &Shape) {
        self.take(shape.meaning);
    }

    /// What fills a place of such an event.
    pub fn fill(&mut self, filler: Filler<Place>, with: &[u8]) {
        if let Filler::Number(at) = filler
            && let Some(number) = scalar_of(&with[..with.len().min(TEXT_BYTES)])
        {
            self.document.value(at, number);
        }
    }

    /// An event is over.
    fn take(&mut self, meaning: Meaning) {
        self.seen.events += 1;
        self.terminal = meaning.terminal || self.terminal && !meaning.open;
        self.failed |= meaning.error;
        self.seen.tokens += u32::from(meaning.content);
    }
}

impl Events for Answer {
    fn data(&mut self, bytes: &[u8]) {
        self.start.push(bytes);
        if self.tongue.listens() {
            self.scanner.read(bytes, &mut self.document);
        }
    }

    fn event(&mut self, name: EventName) {
        let has_data = self.start.length > 0;
        if self.start.is_done() {
            let meaning = self.tongue.done();
            self.take(meaning);
        } else {
            if has_data {
                self.tongue.learn(&self.document, false);
            }
            let meaning = self.tongue.meaning(&self.document, name);
            self.take(Meaning { content: meaning.content && has_data, ..meaning });
            // Of a dialect that is not found yet, the next such event may mean something else.
            let is_known = has_data && self.tongue.has_last_word();
            self.shape = is_known.then_some(Shape { meaning, choices: self.document.choices });
        }
        self.start.length = 0;
        self.scanner.restart();
        self.document.restart();
    }

    fn retry(&mut self) {
        self.resumable = true;
    }
}
