//! An endpoint's answer, from bytes to a head and to the pieces of its body (RFC 9112 §4, §6).
//!
//! Strict where two readers could differ: lengths that contradict each other, a length beside a coding, a transfer
//! coding other than `chunked`, a body where there is none, and bare line feeds are errors. What speaks of this hop
//! alone is left out of the fields at once. Pure: the sockets are in `upstream`.
//!
//! Bounds: a head of [`HEAD_BYTES`] and [`HEAD_FIELDS`] fields; more is an error.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, StatusCode};

use super::chunked::Chunked;
use super::headers::{is_hop_by_hop, may_be_of_this_hop, named_in};

pub(super) const HEAD_BYTES: usize = 64 << 10;
pub(super) const HEAD_FIELDS: usize = 128;

/// What an endpoint said is not HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub &'static str);

const INVALID_FIELD: Malformed = Malformed("a response field is not valid");

#[derive(Debug)]
pub(super) struct ResponseHead {
    pub status: StatusCode,
    /// Without what is for this hop alone.
    pub headers: HeaderMap,
    pub framing: Framing,
    /// What the endpoint speaks next, where it switches protocols.
    pub upgrade: Option<HeaderValue>,
    /// Whether the connection may carry another exchange after this one.
    pub keep_alive: bool,
}

/// Where the body ends.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// A piece of a body.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Data(Bytes),
    /// The fields after a chunked body; nothing follows them.
    Trailers(HeaderMap),
    End,
}

/// Reads the head that `bytes` begin with, and says how long it is; `None` while it is not whole.
/// An answer `to_head` has no body, whatever its fields say.
pub(super) fn read_head(bytes: &[u8], to_head: bool) -> Result<Option<(ResponseHead, usize)>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; HEAD_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut head, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(Malformed("the response head is too large")),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("the response head has too many fields")),
        Err(_) => return Err(Malformed("the response head is not valid HTTP/1.1")),
    };
    if has_bare_lf(&bytes[..length]) {
        return Err(Malformed("a line of the response head does not end with CR LF"));
    }
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed("the status is none"))?;
    let mut read = Fields { headers: HeaderMap::with_capacity(head.headers.len() + 1), ..Fields::default() };
    head.headers.iter().try_for_each(|field| read.take(field.name, field.value))?;
    let modern = head.version == Some(1);
    read.finish(status, modern, to_head).map(|head| Some((head, length)))
}

/// Whether a line ends with LF alone, which other readers may not take for an end (RFC 9112 §2.2). No byte is left out,
/// so that many are compared at a time.
pub(super) fn has_bare_lf(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    let pairs = bytes.iter().zip(rest);
    pairs.fold(*first == b'\n', |found, (before, byte)| found | ((*byte == b'\n') & (*before != b'\r')))
}

/// The fields of a head as they are read, and what those of this hop said.
#[derive(Default)]
struct Fields {
    headers: HeaderMap,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: Option<HeaderValue>,
    /// By `Connection`, to be left out.
    named: Vec<HeaderName>,
}

impl Fields {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Malformed> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| INVALID_FIELD)?;
        if name == CONTENT_LENGTH {
            let repeated = self.length.is_some();
            self.take_length(value)?;
            if repeated {
                return Ok(());
            }
            // `5, 5` is one length to us, and not to every client.
            let value = match (self.length, value.contains(&b',')) {
                (Some(length), true) => length.into(),
                _ => HeaderValue::from_bytes(value).map_err(|_| INVALID_FIELD)?,
            };
            self.headers.append(name, value);
            return Ok(());
        }
        if may_be_of_this_hop(&name) {
            if name == CONNECTION {
                self.take_connection(value);
                return Ok(());
            }
            if name == TRANSFER_ENCODING {
                return self.take_coding(value);
            }
            if name == UPGRADE {
                return self.take_upgrade(value);
            }
            if is_hop_by_hop(&name) {
                return Ok(());
            }
        }
        self.headers.append(name, HeaderValue::from_bytes(value).map_err(|_| INVALID_FIELD)?);
        Ok(())
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        self.length = Some(read_length(self.length, value).map_err(|wrong| match wrong {
            BadLength::NoNumber => Malformed("the Content-Length is not a number"),
            BadLength::Different => Malformed("the response has two different lengths"),
        })?);
        Ok(())
    }

    /// A coding other than `chunked` would be lost here: it is of this hop, and we cannot undo it.
    fn take_coding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed("the response has a transfer coding other than chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    fn take_upgrade(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let known = self.upgrade.as_ref().map_or(&[][..], HeaderValue::as_bytes);
        let list = if known.is_empty() { value.to_vec() } else { [known, value].join(&b',') };
        self.upgrade = Some(HeaderValue::from_bytes(&list).map_err(|_| INVALID_FIELD)?);
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        match value {
            _ if value.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
            _ if value.eq_ignore_ascii_case(b"close") => self.close = true,
            _ => {
                let options = || value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                self.keep_alive |= options().any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
                self.close |= options().any(|option| option.eq_ignore_ascii_case(b"close"));
                self.named.extend(named_in(value));
            }
        }
    }

    fn finish(mut self, status: StatusCode, modern: bool, to_head: bool) -> Result<ResponseHead, Malformed> {
        for name in &self.named {
            self.headers.remove(name);
        }
        if self.chunked && !modern {
            return Err(Malformed("the response is chunked, and of HTTP/1.0"));
        }
        if self.chunked && self.length.is_some() {
            return Err(Malformed("the response has both a Content-Length and a Transfer-Encoding"));
        }
        let never_has_body = status.is_informational() || status == StatusCode::NO_CONTENT;
        if never_has_body {
            // RFC 9110 §8.6, RFC 9112 §6.1. A length of nothing is common, and says nothing.
            if self.chunked || self.length.is_some_and(|length| length > 0) {
                return Err(Malformed("a response that can have no body says where it ends"));
            }
            self.headers.remove(CONTENT_LENGTH);
        }
        let bodiless = to_head || never_has_body || status == StatusCode::NOT_MODIFIED;
        let framing = match self.length {
            _ if bodiless => Framing::Length(0),
            _ if self.chunked => Framing::Chunked(Chunked::default()),
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        let persistent = if modern { !self.close } else { self.keep_alive && !self.close };
        let keep_alive = persistent && !matches!(framing, Framing::UntilClose);
        Ok(ResponseHead { status, headers: self.headers, framing, upgrade: self.upgrade, keep_alive })
    }
}

/// Why a `Content-Length` tells no length.
pub(super) enum BadLength {
    NoNumber,
    Different,
}

/// The one length that a `Content-Length` and those before it (`known`) tell (RFC 9110 §8.6).
pub(super) fn read_length(known: Option<u64>, value: &[u8]) -> Result<u64, BadLength> {
    if let (None, Some(length)) = (known, number(value)) {
        return Ok(length);
    }
    let mut told = known;
    for item in value.split(|b| *b == b',') {
        let length = number(item.trim_ascii()).ok_or(BadLength::NoNumber)?;
        if told.replace(length).is_some_and(|before| before != length) {
            return Err(BadLength::Different);
        }
    }
    told.ok_or(BadLength::NoNumber)
}

/// Digits and nothing else; no sign, unlike the standard library.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

impl Framing {
    /// Takes the next piece from the front of `input`; `None`: more bytes are wanted.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        match self {
            Self::Length(0) => Ok(Some(Piece::End)),
            Self::Chunked(chunked) => chunked.next(input),
            _ if input.is_empty() => Ok(None),
            Self::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                Ok(Some(Piece::Data(input.split_to(take))))
            }
            Self::UntilClose => Ok(Some(Piece::Data(std::mem::take(input)))),
        }
    }

    /// Nothing more belongs to the body.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// What is left of it, where that is known.
    pub fn left(&self) -> Option<u64> {
        if let Self::Length(left) = self { Some(*left) } else { None }
    }

    /// How many bytes of plain data are known to come next.
    pub fn data_ahead(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(chunked) => chunked.data_ahead(),
            Self::UntilClose => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> ResponseHead {
        let bytes = text.as_bytes();
        let (head, length) = read_head(bytes, false).expect("is valid").expect("is whole");
        assert_eq!(length, bytes.len());
        head
    }

    fn fault(text: &str) -> &'static str {
        read_head(text.as_bytes(), false).expect_err("is not valid").0
    }

    #[test]
    fn the_framing_follows_the_fields() {
        let framing = |text: &str| {
            let head = head(text);
            (
                format!("{:?}", head.framing).split(['(', ' ']).next().map(str::to_owned),
                head.framing.left(),
                head.keep_alive,
            )
        };
        let is = |name: &str, left, keep_alive| (Some(name.to_owned()), left, keep_alive);
        assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"), is("Length", Some(5), true));
        assert_eq!(framing("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"), is("Chunked", None, true));
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n"), is("UntilClose", None, false));
        assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n"), is("Length", Some(0), true));
        assert_eq!(framing("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"), is("Length", Some(0), true));
        assert_eq!(
            framing("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            is("Length", Some(0), false)
        );
        assert_eq!(framing("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"), is("Length", Some(0), false));
        let kept = "HTTP/1.0 200 OK\r\nconnection: x, Keep-Alive\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(framing(kept), is("Length", Some(0), true));
        let (answer, _) = read_head(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true).unwrap().unwrap();
        assert_eq!(
            (answer.framing.left(), &answer.headers["content-length"]),
            (Some(0), &HeaderValue::from_static("5"))
        );
    }

    #[test]
    fn lengths_that_agree_are_one_and_others_an_error() {
        let agree = head("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\n");
        assert_eq!(agree.headers.get_all("content-length").iter().collect::<Vec<_>>(), ["5"]);
        let differ = "the response has two different lengths";
        assert_eq!(fault("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n"), differ);
        assert_eq!(fault("HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n"), differ);
        for length in ["+5", "-1", "5 5", "", "0x5", "18446744073709551616"] {
            assert!(fault(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).contains("not a number"));
        }
    }

    #[test]
    fn a_coding_stands_alone_and_is_chunked() {
        let both = fault("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(both.contains("both"));
        for coding in ["gzip, chunked", "gzip", "chunked\r\ntransfer-encoding: chunked"] {
            assert!(fault(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\n")).contains("coding"));
        }
        assert!(fault("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").contains("HTTP/1.0"));
    }

    #[test]
    fn what_can_have_no_body_says_nothing_of_one() {
        for (status, fields) in [
            ("204 No Content", "transfer-encoding: chunked"),
            ("204 No Content", "content-length: 5"),
            ("103 Early Hints", "content-length: 5"),
        ] {
            assert!(fault(&format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n")).contains("no body"), "{fields}");
        }
        let empty = head("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n");
        assert!(empty.headers.is_empty() && empty.keep_alive);
        // These tell what a GET would have got.
        let unmodified = head("HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(unmodified.framing.left(), Some(0));
    }

    #[test]
    fn lines_end_with_cr_lf() {
        for text in ["HTTP/1.1 200 OK\ncontent-length: 0\n\n", "HTTP/1.1 200 OK\r\nx: y\ncontent-length: 0\r\n\r\n"] {
            assert!(fault(text).contains("CR LF"), "{text:?}");
        }
    }

    #[test]
    fn fields_of_this_hop_stay_here() {
        let head = head(
            "HTTP/1.1 200 OK\r\nConnection: X-Secret, content-length\r\nx-secret: 1\r\nKeep-Alive: timeout=5\r\n\
             X-Kept: 1\r\nx-kept: 2\r\nx-pointsman-version: forged\r\ncontent-length: 0\r\n\r\n",
        );
        let mut fields: Vec<_> = head.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        fields.sort_unstable();
        assert_eq!(fields, [("content-length", "0"), ("x-kept", "1"), ("x-kept", "2")]);
    }

    #[test]
    fn a_head_is_read_only_when_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let head_bytes = text.len() - 2;
        for cut in 0..head_bytes {
            assert!(read_head(&text[..cut], false).expect("so far so good").is_none(), "{cut}");
        }
        assert_eq!(read_head(text, false).unwrap().unwrap().1, head_bytes);
        assert!(fault(&format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES))).contains("too large"));
        assert!(fault(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEAD_FIELDS + 1))).contains("too many"));
        assert!(fault("SSH-2.0-OpenSSH_9.2\r\n").contains("not valid"));
    }

    #[test]
    fn a_body_with_a_length_ends_there() {
        let (mut framing, mut input) = (Framing::Length(3), Bytes::from_static(b"abXY"));
        assert_eq!(framing.next(&mut input.split_to(2)), Ok(Some(Piece::Data("ab".into()))));
        assert_eq!(framing.next(&mut Bytes::new()), Ok(None));
        assert_eq!(framing.next(&mut input), Ok(Some(Piece::Data("X".into()))));
        assert_eq!((framing.next(&mut input), &input[..]), (Ok(Some(Piece::End)), &b"Y"[..]));
    }
}
