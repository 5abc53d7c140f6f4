//! Strings that come in pieces.

use memchr::memchr2;

use super::TEXT_BYTES;

/// A string's beginning that came in more than one piece.
#[derive(Clone, Copy)]
pub(super) struct Held {
    bytes: [u8; TEXT_BYTES],
    length: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self { bytes: [0; TEXT_BYTES], length: 0 }
    }
}

impl Held {
    pub fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(TEXT_BYTES - self.length);
        self.bytes[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
    }

    pub fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }
}

pub(super) enum StringEnd {
    /// The closing quote.
    At(usize),
    Later {
        escaped: bool,
    },
}

/// Where the string ends that `bytes` are in; `escaped`: the byte before them was an escape's backslash.
pub(super) fn string_end(bytes: &[u8], escaped: bool) -> StringEnd {
    let mut from = usize::from(escaped);
    while let Some(found) = bytes.get(from..).and_then(quote_or_backslash) {
        let at = from + found;
        if bytes[at] == b'"' {
            return StringEnd::At(at);
        }
        from = at + 2;
    }
    StringEnd::Later { escaped: from > bytes.len() }
}

/// Where the string ends that `bytes` are in, if that is before any line does.
pub(super) fn end_on_line(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += quote_backslash_or_control(bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => return Some(at),
            b'\\' if *bytes.get(at + 1)? >= b' ' => at += 2,
            _ => return None,
        }
    }
}

fn quote_backslash_or_control(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // As in `zero_bytes`: the highest bit of each byte below a space.
        let controls = word.wrapping_sub(ONES * u64::from(b' ')) & !word & (ONES << 7);
        let hit = quotes_and_backslashes(word) | controls;
        if hit != 0 {
            return Some(index * 8 + hit.trailing_zeros() as usize / 8);
        }
    }
    let in_rest = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
    Some(words.len() * 8 + in_rest)
}

/// Most strings are so short that a call costs more than the search.
const SHORT_BYTES: usize = 32;
const ONES: u64 = u64::from_ne_bytes([1; 8]);

fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(SHORT_BYTES / 8).enumerate() {
        let hit = quotes_and_backslashes(u64::from_le_bytes(*word));
        if hit != 0 {
            return Some(index * 8 + hit.trailing_zeros() as usize / 8);
        }
    }
    let seen = (words.len() * 8).min(SHORT_BYTES);
    memchr2(b'"', b'\\', &bytes[seen..]).map(|found| seen + found)
}

fn quotes_and_backslashes(word: u64) -> u64 {
    zero_bytes(word ^ (ONES * u64::from(b'"'))) | zero_bytes(word ^ (ONES * u64::from(b'\\')))
}

/// The highest bit of each byte that is zero; of what is above the lowest such byte, some may be wrong.
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}
