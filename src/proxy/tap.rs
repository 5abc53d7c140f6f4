//! The tap: how an answer ends, when its first token comes and what it takes, read from its body as it passes.
//!
//! Nothing is changed, delayed or buffered for it, and it may be fed pieces that are cut anywhere. In reading order:
//! [`reader`] frames documents by [`sse`] or [`lines`], [`json`] scans a document, [`document`] takes from it what
//! is of interest, [`dialect`] says what that means, [`answer`] adds it up; [`memo`] knows the events again that
//! differ from the one before them in what means nothing.
//!
//! It never fails: what it does not understand, or what is beyond its bounds, is passed over. Bounds: less than
//! 768 bytes of state per answer, and of a stream the last event where it has no more than 1 KiB; a whole JSON body is read up to [`DOCUMENT_BYTES`]. A coded answer that is to be
//! decoded takes some 80 KiB more while it lasts, and is given up where it grows more than 200-fold.

use std::io::Write;

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};

use super::media::Media;
use crate::routing::spec::{Dialect, Encoded};
use crate::telemetry::stats::{StreamEnd, Usage};
pub use answer::Seen;
pub use reader::DOCUMENT_BYTES;
use reader::Reader;

mod answer;
#[cfg(test)]
mod corpus;
mod dialect;
mod document;
#[cfg(test)]
mod fuzz;
mod json;
mod lines;
mod memo;
mod reader;
mod sse;
#[cfg(test)]
mod tests;
mod words;

/// How the transport of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As HTTP says that it should.
    Clean,
    Broken,
    /// Given up, for nothing came.
    Stalled,
    /// The client went away.
    Cancelled,
}

pub struct Tap {
    source: Source,
    media: Media,
    /// The request was one that JSON-RPC answers.
    awaits_result: bool,
}

#[allow(clippy::large_enum_variant, reason = "nearly every answer is clear, and the tap is in a box already")]
enum Source {
    Clear(Reader),
    Gzip(Box<MultiGzDecoder<Reader>>),
    Deflate(Box<ZlibDecoder<Reader>>),
    Opaque,
}

impl Tap {
    /// For an answer with these fields; `None` where there is nothing to read. `awaits_result`: its request was a
    /// `POST`, which JSON-RPC answers.
    pub fn of(dialect: Dialect, encoded: Encoded, headers: &HeaderMap, awaits_result: bool) -> Option<Self> {
        let media = Media::of(headers)?;
        if dialect == Dialect::Off || dialect == Dialect::Plain && media == Media::Document {
            return None;
        }
        let mut codings = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
        let coding = codings.next().unwrap_or(b"identity");
        let is = |names: &[&str]| names.iter().any(|name| coding.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
        let reader = Reader::new(dialect, media);
        let source = if codings.next().is_some() {
            Source::Opaque
        } else if is(&["identity", ""]) {
            Source::Clear(reader)
        } else if encoded == Encoded::Decode && is(&["gzip", "x-gzip"]) {
            Source::Gzip(Box::new(MultiGzDecoder::new(reader)))
        } else if encoded == Encoded::Decode && is(&["deflate"]) {
            Source::Deflate(Box::new(ZlibDecoder::new(reader)))
        } else {
            Source::Opaque
        };
        Some(Self { source, media, awaits_result })
    }

    pub fn media(&self) -> Media {
        self.media
    }

    /// Reads the next piece. What cannot be read counts as an event, for at least it came.
    pub fn read(&mut self, bytes: &[u8]) -> Seen {
        let decoded = match &mut self.source {
            Source::Clear(reader) => {
                reader.read(bytes);
                return reader.answer.take_seen();
            }
            Source::Gzip(decoder) => {
                decoder.get_mut().allow(bytes.len());
                decoder.write_all(bytes).and_then(|()| decoder.flush())
            }
            Source::Deflate(decoder) => {
                decoder.get_mut().allow(bytes.len());
                decoder.write_all(bytes).and_then(|()| decoder.flush())
            }
            Source::Opaque => return Seen { events: 1, tokens: 0 },
        };
        let seen = self.reader_mut().map(|reader| reader.answer.take_seen()).unwrap_or_default();
        if decoded.is_err() {
            // What was read up to here goes, but for an end that was already seen.
            self.give_up();
        }
        seen
    }

    fn give_up(&mut self) {
        if !self.reader().is_some_and(|reader| reader.answer.terminal || reader.answer.failed) {
            self.source = Source::Opaque;
        }
    }

    fn reader(&self) -> Option<&Reader> {
        match &self.source {
            Source::Clear(reader) => Some(reader),
            Source::Gzip(decoder) => Some(decoder.get_ref()),
            Source::Deflate(decoder) => Some(decoder.get_ref()),
            Source::Opaque => None,
        }
    }

    fn reader_mut(&mut self) -> Option<&mut Reader> {
        match &mut self.source {
            Source::Clear(reader) => Some(reader),
            Source::Gzip(decoder) => Some(decoder.get_mut()),
            Source::Deflate(decoder) => Some(decoder.get_mut()),
            Source::Opaque => None,
        }
    }

    /// Whether the client is between two server-sent events, so that a comment can be put there.
    pub fn is_between_events(&self) -> bool {
        let Source::Clear(reader) = &self.source else { return false };
        reader.is_between_events()
    }

    /// Whether the last word was said: what follows is awaited no more.
    pub fn has_last_word(&self) -> bool {
        self.reader().is_some_and(|reader| reader.answer.terminal)
    }

    pub fn usage(&self) -> Usage {
        self.reader().map(|reader| reader.answer.document.usage()).unwrap_or_default()
    }

    /// The model that the answer says it is of.
    pub fn model(&self) -> Option<&str> {
        self.reader().and_then(|reader| reader.answer.document.model.as_deref())
    }

    /// How the answer ended; `None` for one that is no stream and shows no dialect. To be asked once.
    pub fn end(&mut self, transport: Transport) -> Option<StreamEnd> {
        let (media, awaits_result) = (self.media, self.awaits_result);
        let Some(reader) = self.reader_mut() else { return Some(end_unread(transport)) };
        let is_whole = reader.finish();
        let answer = &reader.answer;
        if media == Media::Document {
            let end = match transport {
                _ if answer.failed => StreamEnd::Error,
                Transport::Clean if is_whole => StreamEnd::Complete,
                Transport::Clean => StreamEnd::Truncated,
                _ => end_unread(transport),
            };
            return (reader.is_all_read() && answer.has_marks()).then_some(end);
        }
        Some(match transport {
            _ if answer.failed => StreamEnd::Error,
            Transport::Clean if answer.may_end(awaits_result) => StreamEnd::Complete,
            Transport::Clean => StreamEnd::Truncated,
            // A client need not wait for more.
            Transport::Cancelled if answer.terminal => StreamEnd::Complete,
            _ => end_unread(transport),
        })
    }
}

/// What the transport alone tells.
fn end_unread(transport: Transport) -> StreamEnd {
    match transport {
        Transport::Clean => StreamEnd::Opaque,
        Transport::Broken => StreamEnd::Truncated,
        Transport::Stalled => StreamEnd::Stalled,
        Transport::Cancelled => StreamEnd::Cancelled,
    }
}
