//! What the events of a stream have in common is scanned once.
//!
//! Most events repeat the one before them but for a text or a number that says nothing of how the answer ends or
//! what it takes. Such places are the [`Slot`]s of a [`Template`]: an event with the same bytes around them means
//! the same, whatever fills them, and is not scanned. That changes nothing of what is found: each slot stands where
//! the scanner itself said that it makes no difference, and all else that an event does is done anew or is the
//! same done twice.
//!
//! Only events that lie whole in one piece are looked at so; others are read as if there were no memo.
//!
//! Bounds: one template for each stream, made at its second event, of at most [`TEMPLATE_BYTES`] and [`SLOTS`].

use super::answer::{Answer, Shape};
use super::document::Place;
use super::json::Filler;

/// A longer event is no template.
pub(super) const TEMPLATE_BYTES: usize = 1024;
/// What differs beyond that makes an event of another shape.
const SLOTS: usize = 6;

#[derive(Default)]
pub(super) struct Memo(Option<Box<Template>>);

/// What cuts a stream into events.
pub(super) trait Frames {
    /// Whether what comes next begins an event, as far as it is anything.
    fn is_between(&self) -> bool;
    /// Reads to the end of an event, or all that there is, and answers the rest.
    fn read_one<'a>(&mut self, bytes: &'a [u8], answer: &mut Answer) -> &'a [u8];
    /// What may fill the place that comes next.
    fn filler(&self, answer: &Answer) -> Option<Filler<Place>>;
    /// A whole event was passed over, which ends with this byte.
    fn pass(&mut self, last: u8);
}

/// The last event that was read, as it was written.
#[derive(Default)]
pub(super) struct Template {
    bytes: Vec<u8>,
    slots: Slots,
    /// Some of the slots say something.
    tells: bool,
    shape: Shape,
}

/// In order, and apart from each other.
type Slots = [Option<Slot>; SLOTS];

/// Where something else may stand in an event of the same shape.
#[derive(Clone, Copy)]
struct Slot {
    start: u16,
    end: u16,
    filler: Filler<Place>,
}

impl Memo {
    pub fn read(&mut self, mut bytes: &[u8], frames: &mut impl Frames, answer: &mut Answer) {
        while !bytes.is_empty() {
            let known = self.0.as_deref().filter(|_| frames.is_between());
            bytes = match known.and_then(|template| template.repeat(bytes, frames, answer)) {
                Some(rest) => rest,
                None if frames.is_between() => self.read_anew(bytes, frames, answer),
                None => frames.read_one(bytes, answer),
            };
        }
    }

    /// Reads an event, which is the template of those to come.
    #[cold]
    fn read_anew<'a>(&mut self, bytes: &'a [u8], frames: &mut impl Frames, answer: &mut Answer) -> &'a [u8] {
        // Of an event before this one.
        answer.take_shape();
        let mut reading = Reading { bytes, read: 0, frames, answer };
        let slots = self.0.as_deref().map_or_else(Slots::default, |last| reading.compare(last));
        let rest = reading.finish();
        let event = &bytes[..bytes.len() - rest.len()];
        if let Some(shape) = answer.take_shape().filter(|_| event.len() <= TEMPLATE_BYTES) {
            self.remember(event, slots, shape);
        }
        rest
    }

    fn remember(&mut self, event: &[u8], slots: Slots, shape: Shape) {
        let template = self.0.get_or_insert_default();
        template.bytes.clear();
        template.bytes.extend_from_slice(event);
        template.tells = slots.iter().flatten().any(|slot| matches!(slot.filler, Filler::Number(_)));
        (template.slots, template.shape) = (slots, shape);
    }
}

impl Template {
    /// Passes over the event that `bytes` begin with, if it is of this shape and means what that meant.
    fn repeat<'a>(&self, bytes: &'a [u8], frames: &mut impl Frames, answer: &mut Answer) -> Option<&'a [u8]> {
        if !answer.can_repeat(&self.shape) {
            return None;
        }
        let (event, rest) = self.split(bytes, |_, _| {})?;
        if self.tells {
            self.tell(event, answer);
        }
        answer.repeat(&self.shape);
        frames.pass(*event.last()?);
        Some(rest)
    }

    #[cold]
    fn tell(&self, event: &[u8], answer: &mut Answer) {
        self.split(event, |filler, with| answer.fill(filler, with));
    }

    /// The event that `bytes` begin with, if it is of this shape, and the rest. Each slot is told on the way.
    fn split<'a>(
        &self,
        bytes: &'a [u8],
        mut tell: impl FnMut(Filler<Place>, &'a [u8]),
    ) -> Option<(&'a [u8], &'a [u8])> {
        let (mut rest, mut from) = (bytes, 0);
        for slot in self.slots.iter().map_while(Option::as_ref) {
            rest = rest.strip_prefix(&self.bytes[from..usize::from(slot.start)])?;
            let filled = slot.filler.length_in(rest)?;
            // An empty text is another thing than any other.
            if (filled == 0) != (slot.start == slot.end) {
                return None;
            }
            tell(slot.filler, &rest[..filled]);
            rest = &rest[filled..];
            from = usize::from(slot.end);
        }
        rest = rest.strip_prefix(&self.bytes[from..])?;
        Some(bytes.split_at(bytes.len() - rest.len()))
    }

    fn slot_from(&self, start: usize) -> Option<&Slot> {
        self.slots.iter().flatten().find(|slot| usize::from(slot.start) >= start)
    }
}

/// An event that is read piece by piece, beside the last one.
struct Reading<'a, 'b, F> {
    bytes: &'a [u8],
    read: usize,
    frames: &'b mut F,
    answer: &'b mut Answer,
}

impl<'a, F: Frames> Reading<'a, '_, F> {
    /// Reads on as far as it is of the same shape as the last one, and answers its slots up to there.
    fn compare(&mut self, last: &Template) -> Slots {
        let (mut slots, mut at) = (Slots::default(), 0);
        for slot in &mut slots {
            *slot = self.next_slot(last, &mut at);
            if slot.is_none() {
                break;
            }
        }
        slots
    }

    /// Reads up to the end of the next slot. `at` is how far that is in the last event.
    fn next_slot(&mut self, last: &Template, at: &mut usize) -> Option<Slot> {
        let known = last.slot_from(*at);
        let literal = &last.bytes[*at..known.map_or(last.bytes.len(), |slot| usize::from(slot.start))];
        let (from, rest) = (self.read, &self.bytes[self.read..]);
        let common = common_prefix(literal, rest);
        if common == rest.len() || common == literal.len() && known.is_none() {
            return None;
        }
        let same = &rest[..common];
        let starts =
            if common == literal.len() { [Some(common), None] } else { [text_start(same), digits_start(same)] };
        for start in starts.into_iter().flatten() {
            self.read_to(from + start);
            let Some(filler) = self.frames.filler(self.answer) else { continue };
            let lengths = (filler.length_in(&last.bytes[*at + start..]), filler.length_in(&rest[start..]));
            let (Some(in_last), Some(in_this)) = lengths else { continue };
            if (in_last == 0) == (in_this == 0) {
                *at += start + in_last;
                self.read_to(from + start + in_this);
                let offset = |at| u16::try_from(at).ok();
                return Some(Slot { start: offset(from + start)?, end: offset(self.read)?, filler });
            }
        }
        None
    }

    fn read_to(&mut self, end: usize) {
        let mut piece = &self.bytes[self.read..end];
        while !piece.is_empty() {
            piece = self.frames.read_one(piece, self.answer);
        }
        self.read = end;
    }

    fn finish(self) -> &'a [u8] {
        self.frames.read_one(&self.bytes[self.read..], self.answer)
    }
}

/// Where the text may have begun that the bytes end in. The scanner has the last word on it.
fn text_start(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).rev().find(|at| bytes[*at] == b'"' && (*at == 0 || bytes[*at - 1] != b'\\')).map(|quote| quote + 1)
}

fn digits_start(bytes: &[u8]) -> Option<usize> {
    Some(bytes.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |before| before + 1))
}

fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let blocks = left.as_chunks::<16>().0.iter().zip(right.as_chunks::<16>().0);
    let same = blocks.take_while(|(left, right)| left == right).count() * 16;
    same + left[same..].iter().zip(&right[same..]).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests;
