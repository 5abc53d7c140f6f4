//! The chunked transfer coding, read (RFC 9112 §7.1). A state machine over whatever bytes there are.
//!
//! Chunk extensions are passed over, and end here: they are of this hop. Bounds: a size line of
//! [`LINE_BYTES`], extensions of [`EXTENSION_BYTES`] in all, trailers of [`TRAILER_BYTES`]; more is an error.

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, HOST, HeaderName,
    HeaderValue, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};

use super::decode::{Malformed, Piece};
use super::headers::{is_hop_by_hop, is_of_earlier_hops};

const LINE_BYTES: usize = 4 << 10;
const EXTENSION_BYTES: usize = 16 << 10;
const TRAILER_BYTES: usize = 16 << 10;
const TRAILER_FIELDS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// The beginning of a line, or of the trailers, whose end has not arrived.
    held: Vec<u8>,
    /// What the lines of all sizes so far had beside these.
    extensions: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    /// The line end after a chunk's data.
    DataEnd,
    Trailers,
    Ended,
}

impl Chunked {
    /// Takes the next piece from the front of `input`; `None`: more bytes are wanted.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.state {
                State::Size => match self.line(input, LINE_BYTES)? {
                    Some(line) => self.state = self.after_size(&line)?,
                    None => return Ok(None),
                },
                State::Data(_) if input.is_empty() => return Ok(None),
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Some(Piece::Data(input.split_to(take))));
                }
                State::DataEnd => match self.line(input, 0)? {
                    Some(_) => self.state = State::Size,
                    None => return Ok(None),
                },
                State::Trailers => return self.trailers(input),
                State::Ended => return Ok(Some(Piece::End)),
            }
        }
    }

    pub fn data_ahead(&self) -> u64 {
        if let State::Data(left) = self.state { left } else { 0 }
    }

    fn after_size(&mut self, line: &[u8]) -> Result<State, Malformed> {
        let (size, digits) = chunk_size(line)?;
        self.extensions += line.len() - digits;
        if self.extensions > EXTENSION_BYTES {
            return Err(Malformed("the chunk extensions are too large"));
        }
        Ok(if size == 0 { State::Trailers } else { State::Data(size) })
    }

    /// The next line, without its end, when it is whole; one longer than `limit` is an error.
    fn line(&mut self, input: &mut Bytes, limit: usize) -> Result<Option<Bytes>, Malformed> {
        let end = memchr::memchr(b'\n', input);
        let mut part = input.split_to(end.map_or(input.len(), |at| at + 1));
        if self.held.len() + part.len() > limit + 2 {
            return Err(Malformed("a chunk of the response is not framed as chunks are"));
        }
        if end.is_none() {
            self.held.extend_from_slice(&part);
            return Ok(None);
        }
        if !self.held.is_empty() {
            self.held.extend_from_slice(&part);
            part = std::mem::take(&mut self.held).into();
        }
        match part.strip_suffix(b"\r\n") {
            Some(line) => Ok(Some(part.slice(..line.len()))),
            None => Err(Malformed("a line of the response's chunked framing does not end with CR LF")),
        }
    }

    /// Fields up to an empty line.
    fn trailers(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        while !input.is_empty() {
            let end = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
            if self.held.len() + end > TRAILER_BYTES {
                return Err(Malformed("the response's trailers are too large"));
            }
            self.held.extend_from_slice(&input[..end]);
            input.advance(end);
            if self.held.ends_with(b"\n") && !self.held.ends_with(b"\r\n") {
                return Err(Malformed("a line of the response's trailers does not end with CR LF"));
            }
            let last = self.held == b"\r\n" || self.held.ends_with(b"\r\n\r\n");
            if last {
                self.state = State::Ended;
                let fields = read_trailers(&std::mem::take(&mut self.held))?;
                return Ok(Some(if fields.is_empty() { Piece::End } else { Piece::Trailers(fields) }));
            }
        }
        Ok(None)
    }
}

/// `1*HEXDIG`, then nothing or an extension; the size, and how long its digits are.
fn chunk_size(line: &[u8]) -> Result<(u64, usize), Malformed> {
    let wrong = Malformed("a chunk of the response has no valid size");
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(wrong);
    }
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest.starts_with(b";")) {
        return Err(wrong);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| wrong)?;
    u64::from_str_radix(text, 16).map(|size| (size, digits)).map_err(|_| wrong)
}

fn read_trailers(block: &[u8]) -> Result<HeaderMap, Malformed> {
    let wrong = Malformed("the response's trailers are not valid");
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(block, &mut fields) else {
        return Err(wrong);
    };
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| wrong)?;
        if is_trailer(&name) {
            trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| wrong)?);
        }
    }
    Ok(trailers)
}

/// Whether a field may come after the body (RFC 9110 §6.5.1): not where it would frame, route or authorise.
pub(super) fn is_trailer(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 11] = [
        AUTHORIZATION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        HOST,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        COOKIE,
    ];
    !is_hop_by_hop(name) && !NEVER.contains(name) && !is_of_earlier_hops(name)
}

/// Of a message's trailers, those that may pass.
pub(super) fn passed_trailers(trailers: &HeaderMap) -> HeaderMap {
    let passed = trailers.iter().filter(|(name, _)| is_trailer(name));
    passed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is read when the bytes arrive in pieces of this size.
    fn read(text: &str, piece: usize) -> Result<(String, Option<HeaderMap>, usize), Malformed> {
        let (mut chunked, mut data, mut input) = (Chunked::default(), Vec::new(), Bytes::new());
        let mut pieces = text.as_bytes().chunks(piece);
        loop {
            match chunked.next(&mut input)? {
                Some(Piece::Data(bytes)) => data.extend_from_slice(&bytes),
                Some(Piece::Trailers(fields)) => {
                    let left = input.len() + pieces.map(<[u8]>::len).sum::<usize>();
                    return Ok((String::from_utf8(data).unwrap(), Some(fields), left));
                }
                Some(Piece::End) => {
                    let left = input.len() + pieces.map(<[u8]>::len).sum::<usize>();
                    return Ok((String::from_utf8(data).unwrap(), None, left));
                }
                None => match pieces.next() {
                    Some(more) => input = Bytes::copy_from_slice(more),
                    None => return Err(Malformed("cut short")),
                },
            }
        }
    }

    #[test]
    fn it_is_read_the_same_however_it_is_cut() {
        let text =
            "5\r\nhello\r\n1;name=\"v\"\r\n \r\n00A\r\n0123456789\r\n0\r\nX-T: 1\r\ncontent-length: 9\r\n\r\nrest";
        for piece in 1..=text.len() {
            let (data, trailers, left) = read(text, piece).expect("is valid");
            let trailers = trailers.expect("has one that may be passed on");
            assert_eq!((data.as_str(), trailers.len(), left), ("hello 0123456789", 1, 4), "{piece}");
            assert_eq!(read("0\r\n\r\n", piece), Ok((String::new(), None, 0)));
        }
    }

    #[test]
    fn what_another_reader_could_take_otherwise_is_an_error() {
        let bad = [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloo\r\n0\r\n\r\n",
            "+5\r\nhello\r\n",
            "5\r\r\nhello\r\n",
            "5\x0c\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5 5\r\nhello\r\n",
            "\r\nhello\r\n",
            "11111111111111111\r\n",
            "0\r\nno field\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\n\n",
        ];
        for text in bad {
            for piece in [1, 2, 100] {
                let error = read(text, piece).expect_err(text);
                assert_ne!(error.0, "cut short", "{text:?}");
            }
        }
    }

    #[test]
    fn lines_and_trailers_are_bounded() {
        let extension = format!("1;{}", "x".repeat(LINE_BYTES + 1));
        let trailers = format!("0\r\n{}", "x: y\r\n".repeat(TRAILER_BYTES / 6 + 1));
        let extensions = format!("1;{}\r\nx\r\n", "x".repeat(100)).repeat(EXTENSION_BYTES / 100);
        for (text, word) in [(extension, "framed"), (trailers, "too large"), (extensions, "extensions are too large")] {
            for piece in [7, 100_000] {
                let error = read(&text, piece).expect_err("is too long").0;
                assert!(error.contains(word), "{error}");
            }
        }
    }
}
