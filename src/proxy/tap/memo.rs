//! The beginning that the documents of a stream have in common is read once.
//!
//! Most events of a stream repeat all but a few of their bytes. What the last one began with is kept, with the
//! state that reading it led to; a document that begins so goes on from there. That changes nothing of what is
//! found, for a scanner's state follows from the bytes, and to say the same twice is to say it once.
//!
//! Bounds: [`MEMO_BYTES`] and one state per stream, made at its second document.

use super::document::{Document, Mark, Place};
use super::json::Scanner;

const MEMO_BYTES: usize = 256;
/// Less in common is not worth it.
const LEAST_BYTES: usize = 32;

#[derive(Default)]
pub(super) struct Memo(Option<Box<Beginning>>);

pub(super) struct Beginning {
    bytes: [u8; MEMO_BYTES],
    length: usize,
    /// Where all of it was read already.
    after: Option<(Scanner<Place>, Mark)>,
}

impl Memo {
    /// Reads as much of the first piece of a document as is known, and answers the rest.
    pub fn skip<'a>(&mut self, piece: &'a [u8], scanner: &mut Scanner<Place>, document: &mut Document) -> &'a [u8] {
        let beginning = self.0.get_or_insert_with(Box::default);
        let known = &beginning.bytes[..beginning.length];
        if let Some((state, mark)) = &beginning.after
            && let Some(rest) = piece.strip_prefix(known)
        {
            *scanner = *state;
            document.go_back_to(*mark);
            return rest;
        }
        let common = known.iter().zip(piece).take_while(|(known, byte)| known == byte).count();
        if common < LEAST_BYTES {
            beginning.remember(piece);
            return piece;
        }
        scanner.read(&piece[..common], document);
        beginning.length = common;
        beginning.after = Some((*scanner, document.mark()));
        &piece[common..]
    }
}

impl Default for Beginning {
    fn default() -> Self {
        Self { bytes: [0; MEMO_BYTES], length: 0, after: None }
    }
}

impl Beginning {
    fn remember(&mut self, piece: &[u8]) {
        self.length = piece.len().min(MEMO_BYTES);
        self.bytes[..self.length].copy_from_slice(&piece[..self.length]);
        self.after = None;
    }
}
