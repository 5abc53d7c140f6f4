//! What reads the clear text of an answer, framed as its content type says.

use std::io::{self, Write};

use super::answer::Answer;
use super::document::Place;
use super::json::Filler;
use super::lines::Records;
use super::memo::{Frames, Memo};
use super::sse::{Events, Lines, Part};
use crate::proxy::media::Media;
use crate::routing::spec::Dialect;

/// A longer JSON body is passed over.
pub const DOCUMENT_BYTES: usize = 16 << 20;
/// How much longer a decoded answer may be than what was sent; streams of small events shrink well.
const MOST_GROWTH: usize = 200;
/// Growth is not looked at before so many bytes.
const GROWTH_GRACE: usize = 1 << 20;

/// What reads the clear text.
pub(super) struct Reader {
    framing: Framing,
    pub answer: Answer,
    memo: Memo,
    /// How much more may come out of a decoder.
    allowance: usize,
}

enum Framing {
    Events(Lines),
    Lines(Records),
    /// So many bytes are still read.
    Document {
        left: usize,
    },
}

impl Reader {
    pub fn new(dialect: Dialect, media: Media) -> Self {
        let framing = match media {
            Media::Events => Framing::Events(Lines::default()),
            Media::Lines => Framing::Lines(Records::default()),
            Media::Document => Framing::Document { left: DOCUMENT_BYTES },
        };
        Self { framing, answer: Answer::new(dialect), memo: Memo::default(), allowance: GROWTH_GRACE }
    }

    /// So many bytes go into the decoder.
    pub fn allow(&mut self, encoded: usize) {
        self.allowance = self.allowance.saturating_add(encoded.saturating_mul(MOST_GROWTH));
    }

    pub fn read(&mut self, bytes: &[u8]) {
        match &mut self.framing {
            Framing::Events(lines) => self.memo.read(bytes, lines, &mut self.answer),
            Framing::Lines(records) => self.memo.read(bytes, records, &mut self.answer),
            Framing::Document { left } => {
                *left = left.saturating_sub(bytes.len());
                if *left > 0 {
                    self.answer.data(bytes);
                }
            }
        }
    }

    pub fn is_between_events(&self) -> bool {
        matches!(&self.framing, Framing::Events(lines) if lines.is_between_events())
    }

    /// Whether nothing was passed over because it is too long.
    pub fn is_all_read(&self) -> bool {
        !matches!(self.framing, Framing::Document { left: 0 })
    }

    /// Takes what only lacks its end; answers whether the document is whole that was last read.
    pub fn finish(&mut self) -> bool {
        let is_whole = self.answer.is_whole();
        match &mut self.framing {
            Framing::Document { .. } => self.answer.end_document(),
            Framing::Events(lines) if is_whole => lines.finish(&mut self.answer),
            Framing::Lines(records) if is_whole => records.finish(&mut self.answer),
            Framing::Events(_) | Framing::Lines(_) => self.answer.end_within(),
        }
        is_whole
    }
}

impl Frames for Lines {
    fn is_between(&self) -> bool {
        self.is_between_events() && self.is_past_mark()
    }

    fn read_one<'a>(&mut self, bytes: &'a [u8], answer: &mut Answer) -> &'a [u8] {
        Lines::read_one(self, bytes, answer)
    }

    fn filler(&self, answer: &Answer) -> Option<Filler<Place>> {
        match self.part() {
            Part::Data => answer.filler(),
            Part::Ignored => Some(Filler::Digits),
            Part::Framing => None,
        }
    }

    fn pass(&mut self, last: u8) {
        Lines::pass(self, last);
    }
}

impl Frames for Records {
    fn is_between(&self) -> bool {
        self.is_between_events()
    }

    fn read_one<'a>(&mut self, bytes: &'a [u8], answer: &mut Answer) -> &'a [u8] {
        Records::read_one(self, bytes, answer)
    }

    fn filler(&self, answer: &Answer) -> Option<Filler<Place>> {
        if self.is_between_events() { None } else { answer.filler() }
    }

    fn pass(&mut self, _last: u8) {}
}

/// The end of a decoder.
impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.allowance.checked_sub(bytes.len());
        self.allowance = left.ok_or_else(|| io::Error::other("it grows too much"))?;
        self.read(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
