//! A client's request head, from bytes to a request (RFC 9112 §2–§6).
//!
//! Strict where two readers could differ: what frames a body must say so once and in one way, and every line ends
//! with CR LF. Pure: the socket is in `wire`.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Uri, Version, request};

use crate::proxy::chunked::Chunked;
use crate::proxy::decode::{BadLength, Framing, has_bare_lf, read_length};
use crate::telemetry::counters::ErrorCode;

/// What a head may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub bytes: usize,
    pub fields: usize,
}

#[derive(Debug)]
pub(super) struct RequestHead {
    pub parts: request::Parts,
    pub framing: Framing,
    /// Whether the client would send another request on this connection.
    pub keep_alive: bool,
    /// The client sends no body before it is told to go on.
    pub expects_continue: bool,
    /// How many bytes it was.
    pub length: usize,
}

/// Why a head is answered by ourselves, and the connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: ErrorCode,
    pub message: &'static str,
}

const fn bad(message: &'static str) -> Refused {
    Refused { code: ErrorCode::BadRequest, message }
}

const INVALID: Refused = bad("the request is not valid HTTP/1.1");
const TOO_LARGE: Refused = Refused {
    code: ErrorCode::HeadTooLarge,
    message: "the request head is larger, or has more fields, than this proxy accepts",
};
const TARGET_TOO_LONG: Refused = Refused { code: ErrorCode::UriTooLong, message: "the request target is too long" };

/// Fields that are read without an allocation.
const COMMON_FIELDS: usize = 100;

/// Reads the head that `bytes` begin with; `None` while it is not whole.
pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Option<RequestHead>, Refused> {
    let mut common = [const { MaybeUninit::uninit() }; COMMON_FIELDS];
    let mut many;
    let fields = match common.get_mut(..limits.fields) {
        Some(common) => common,
        None => {
            many = vec![MaybeUninit::uninit(); limits.fields];
            &mut many[..]
        }
    };
    let mut head = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut head, bytes, fields) {
        Ok(httparse::Status::Complete(length)) if length <= limits.bytes => take(&head, bytes, length).map(Some),
        Ok(httparse::Status::Partial) if bytes.len() < limits.bytes => Ok(None),
        Ok(httparse::Status::Partial) if !bytes.contains(&b'\n') => Err(TARGET_TOO_LONG),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(TOO_LARGE),
        Err(_) => Err(INVALID),
    }
}

fn take(head: &httparse::Request<'_, '_>, bytes: &[u8], length: usize) -> Result<RequestHead, Refused> {
    let bytes = &bytes[..length];
    if has_bare_lf(bytes) {
        return Err(bad("a line of the request head does not end with CR LF"));
    }
    // The fields and the target share the one copy of it.
    let shared = Bytes::copy_from_slice(bytes);
    let slice = |part: &[u8]| {
        let start = (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        shared.get(start..start + part.len()).map_or_else(Bytes::new, |part| shared.slice_ref(part))
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(INVALID);
    };
    if target.contains('#') {
        return Err(bad("the request target has a fragment"));
    }
    let mut fields = Fields { headers: HeaderMap::with_capacity(head.headers.len()), ..Fields::default() };
    for field in head.headers.iter() {
        fields.take(field.name, field.value, slice(field.value))?;
    }
    let modern = version == 1;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| INVALID)?;
    *request.uri_mut() = Uri::from_maybe_shared(slice(target.as_bytes())).map_err(|_| INVALID)?;
    *request.version_mut() = if modern { Version::HTTP_11 } else { Version::HTTP_10 };
    fields.finish(request.into_parts().0, modern, length)
}

/// The fields as they are read, and what those of this hop said.
#[derive(Default)]
struct Fields {
    headers: HeaderMap,
    length: Option<u64>,
    /// The last of the transfer codings; `Some(false)`: it is not `chunked`.
    coded: Option<bool>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn take(&mut self, name: &str, bytes: &[u8], value: Bytes) -> Result<(), Refused> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| INVALID)?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| INVALID)?;
        // By its length, most fields are ruled out without a comparison.
        match name.as_str().len() {
            6 if name == EXPECT => self.expects_continue |= bytes.eq_ignore_ascii_case(b"100-continue"),
            10 if name == CONNECTION => self.take_connection(bytes),
            14 if name == CONTENT_LENGTH => {
                let repeated = self.length.is_some();
                self.take_length(bytes)?;
                if repeated {
                    return Ok(());
                }
            }
            17 if name == TRANSFER_ENCODING => self.take_coding(bytes)?,
            _ => {}
        }
        self.headers.append(name, value);
        Ok(())
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Refused> {
        self.length = Some(read_length(self.length, value).map_err(|wrong| match wrong {
            BadLength::NoNumber => bad("the Content-Length is not a number"),
            BadLength::Different => bad("the request has two different lengths"),
        })?);
        Ok(())
    }

    fn take_coding(&mut self, value: &[u8]) -> Result<(), Refused> {
        for coding in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if self.coded == Some(true) {
                return Err(bad("the transfer coding chunked is not the last"));
            }
            self.coded = Some(coding.eq_ignore_ascii_case(b"chunked"));
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.close |= option.eq_ignore_ascii_case(b"close");
        }
    }

    fn finish(self, mut parts: request::Parts, modern: bool, length: usize) -> Result<RequestHead, Refused> {
        let framing = match (self.coded, self.length) {
            (Some(_), Some(_)) => return Err(bad("the request has both a Content-Length and a Transfer-Encoding")),
            (Some(_), None) if !modern => return Err(bad("the request is of HTTP/1.0, and has a Transfer-Encoding")),
            (Some(false), None) => return Err(bad("the last transfer coding of the request is not chunked")),
            (Some(true), None) => Framing::Chunked(Chunked::default()),
            (None, length) => Framing::Length(length.unwrap_or(0)),
        };
        parts.headers = self.headers;
        let keep_alive = if modern { !self.close } else { self.keep_alive && !self.close };
        let expects_continue = modern && self.expects_continue && !framing.is_done();
        Ok(RequestHead { parts, framing, keep_alive, expects_continue, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 4096, fields: 20 };

    fn head(text: &str) -> RequestHead {
        let head = read(text.as_bytes(), LIMITS).expect("is valid").expect("is whole");
        assert_eq!(head.length, text.len());
        head
    }

    fn fault(text: &str) -> &'static str {
        let refused = read(text.as_bytes(), LIMITS).expect_err(text);
        assert_eq!(refused.code, ErrorCode::BadRequest, "{text:?}");
        refused.message
    }

    #[test]
    fn a_request_is_what_its_bytes_say() {
        let head = head("POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Y:  z \r\nx-y: \u{e9}\r\nContent-Length: 3\r\n\r\n");
        assert_eq!((head.parts.method.as_str(), head.parts.uri.to_string().as_str()), ("POST", "/a?b=c"));
        let values: Vec<_> = head.parts.headers.get_all("x-y").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [b"z", "\u{e9}".as_bytes()]);
        assert_eq!((head.framing.left(), head.keep_alive, head.expects_continue), (Some(3), true, false));
    }

    #[test]
    fn it_is_read_only_when_it_is_whole() {
        let text = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok";
        for cut in 0..text.len() - 2 {
            assert!(read(&text[..cut], LIMITS).expect("so far so good").is_none(), "{cut}");
        }
        assert_eq!(read(text, LIMITS).unwrap().unwrap().length, text.len() - 2);
    }

    #[test]
    fn a_connection_is_kept_as_the_version_and_the_options_say() {
        let kept = |version: &str, options: &str| {
            head(&format!("GET / HTTP/{version}\r\nhost: x\r\nconnection: {options}\r\n\r\n")).keep_alive
        };
        assert!(kept("1.1", "x-a") && kept("1.1", "Keep-Alive") && kept("1.0", "a, Keep-Alive"));
        assert!(!kept("1.1", "a, Close") && !kept("1.0", "x-a") && !kept("1.1", "keep-alive, close"));
    }

    #[test]
    fn what_two_readers_could_take_otherwise_is_refused() {
        let with = |fields: &str| format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n");
        for (fields, word) in [
            ("content-length: 5\r\ntransfer-encoding: chunked", "both"),
            ("transfer-encoding: chunked\r\ncontent-length: 5", "both"),
            ("content-length: 5\r\ncontent-length: 6", "two different"),
            ("content-length: 5, 6", "two different"),
            ("content-length: +5", "not a number"),
            ("content-length: ", "not a number"),
            ("content-length: 0x5", "not a number"),
            ("transfer-encoding: chunked, gzip", "not the last"),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "not the last"),
            ("transfer-encoding: gzip", "not chunked"),
            ("transfer-encoding: xchunked", "not chunked"),
            ("transfer-encoding: \u{b}chunked", "valid"),
            ("a: b\nc: d", "CR LF"),
            ("a : b", "valid"),
            ("a: b\r\n folded", "valid"),
            ("a: b\rc", "valid"),
            ("a: b\0c", "valid"),
            ("a\0: b", "valid"),
            (": b", "valid"),
        ] {
            let fault = fault(&with(fields));
            assert!(fault.contains(word), "{fields:?}: {fault}");
        }
        assert!(fault("POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").contains("HTTP/1.0"));
        assert!(fault("GET / HTTP/1.1\nhost: x\n\n").contains("CR LF"));
        assert!(fault("GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n").contains("fragment"));
        for line in ["GET / HTTP/2.0", "GET  / HTTP/1.1", "GET /\u{1} HTTP/1.1", "G(T / HTTP/1.1", "GET HTTP/1.1"] {
            assert!(fault(&format!("{line}\r\nhost: x\r\n\r\n")).contains("valid"), "{line}");
        }
    }

    #[test]
    fn lengths_that_agree_are_one() {
        let head = head("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n");
        assert_eq!((head.framing.left(), head.parts.headers.get_all(CONTENT_LENGTH).iter().count()), (Some(5), 1));
    }

    #[test]
    fn a_head_is_bounded() {
        let code = |text: &str| read(text.as_bytes(), LIMITS).expect_err("is too much").code;
        let long = "y".repeat(LIMITS.bytes);
        assert_eq!(code(&format!("GET / HTTP/1.1\r\nx: {long}")), ErrorCode::HeadTooLarge);
        assert_eq!(code(&format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n")), ErrorCode::HeadTooLarge);
        assert_eq!(code(&format!("GET /{long}")), ErrorCode::UriTooLong);
        let many = "a: b\r\n".repeat(LIMITS.fields + 1);
        assert_eq!(code(&format!("GET / HTTP/1.1\r\n{many}\r\n")), ErrorCode::HeadTooLarge);
        let generous = Limits { bytes: 1 << 20, fields: 1000 };
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(900));
        assert_eq!(read(many.as_bytes(), generous).unwrap().unwrap().parts.headers.len(), 900);
    }

    #[test]
    fn only_a_body_that_is_there_waits_to_go_on() {
        let waits = |fields: &str| head(&format!("PUT / HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n")).expects_continue;
        assert!(waits("expect: 100-Continue\r\ncontent-length: 1"));
        assert!(waits("transfer-encoding: chunked\r\nexpect: 100-continue"));
        assert!(!waits("expect: 100-continue") && !waits("expect: 200-ok\r\ncontent-length: 1"));
    }
}
