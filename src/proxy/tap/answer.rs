//! An answer as far as it has been read: document by document, whatever framed them.

use super::dialect::{Meaning, Tongue};
use super::document::{Document, Place};
use super::json::Scanner;
use super::memo::Memo;
use super::sse::{EventName, Events};
use crate::routing::spec::Dialect;

/// What OpenAI ends its streams with.
const DONE: &[u8] = b"[DONE]";

pub(super) struct Answer {
    tongue: Tongue,
    scanner: Scanner<Place>,
    pub document: Document,
    memo: Memo,
    start: Start,
    /// A document went before: the next may begin as it did.
    is_repeating: bool,
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
            memo: Memo::default(),
            start: Start::default(),
            is_repeating: false,
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

    fn take(&mut self, meaning: Meaning) {
        self.terminal = meaning.terminal || self.terminal && !meaning.open;
        self.failed |= meaning.error;
        self.seen.tokens += u32::from(meaning.content);
    }
}

impl Events for Answer {
    fn data(&mut self, mut bytes: &[u8]) {
        let is_first = self.start.length == 0;
        self.start.push(bytes);
        if !self.tongue.listens() {
            return;
        }
        if is_first && self.is_repeating {
            bytes = self.memo.skip(bytes, &mut self.scanner, &mut self.document);
        }
        self.scanner.read(bytes, &mut self.document);
    }

    fn event(&mut self, name: EventName) {
        self.seen.events += 1;
        self.is_repeating = true;
        if self.start.is_done() {
            let meaning = self.tongue.done();
            self.take(meaning);
        } else {
            if self.start.length > 0 {
                self.tongue.learn(&self.document, false);
            }
            let meaning = self.tongue.meaning(&self.document, name);
            self.take(Meaning { content: meaning.content && self.start.length > 0, ..meaning });
        }
        self.start.length = 0;
        self.scanner.restart();
        self.document.restart();
    }

    fn retry(&mut self) {
        self.resumable = true;
    }
}
