//! An answer on its way to an HTTP/1.1 client: its head, then its body as it comes, framed as the client can read it
//! (RFC 9112 §6).
//!
//! What waits is bounded by [`Outgoing`]: a client that takes no more is not read for.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderMap, StatusCode, Version, response};
use http_body::Frame;
use httpdate::HttpDate;

use super::wire::Wire;
use crate::proxy::body::ResponseBody;
use crate::proxy::encode::write_field;
use crate::proxy::outgoing::Outgoing;

/// What the answer has to know of its request.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// `HEAD`: the answer has no body, whatever its fields say.
    pub head_only: bool,
    pub version: Version,
    /// Whether the client takes fields after the body.
    pub trailers: bool,
    /// Whether the connection may go on after it.
    pub keep_alive: bool,
}

/// How the client learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// As the fields say, or the status, or the method.
    Told,
    Length(u64),
    Chunked,
    UntilClose,
}

/// An answer as far as it is not with the kernel.
pub(super) struct Answer {
    outgoing: Outgoing,
    /// `None` once all of it is in `outgoing`.
    body: Option<ResponseBody>,
    /// The end of the connection is all that tells the body's end.
    until_close: bool,
    trailers: bool,
    /// The body broke off; what came of it is still written.
    is_broken: bool,
    /// Whether the client may send another request when it has this.
    pub keep_alive: bool,
    /// The client has been slow to take it; and is just now.
    pub was_blocked: bool,
    is_blocked: bool,
}

/// How an answer came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Whole,
    /// The body broke off, and the client must not take it for whole; or the client has gone.
    Broken,
}

impl Answer {
    /// `output` is what is to be said before it.
    pub fn new(mut output: Vec<u8>, parts: &response::Parts, body: ResponseBody, asked: Asked, date: &Date) -> Self {
        let has_body = !asked.head_only && !is_bodiless(parts.status);
        let framing = framing(&parts.headers, body.left(), has_body, asked.version);
        let keep_alive = asked.keep_alive && framing != Framing::UntilClose;
        write_head(&mut output, parts, framing, asked.version, keep_alive, date);
        Self {
            outgoing: Outgoing::new(output, framing == Framing::Chunked),
            // Letting go of it tells its record that it has ended.
            body: has_body.then_some(body),
            until_close: framing == Framing::UntilClose,
            trailers: asked.trailers,
            is_broken: false,
            keep_alive,
            was_blocked: false,
            is_blocked: false,
        }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>, wire: &Wire) -> Poll<Ended> {
        loop {
            // What waits goes first: to look for more may use up the turn each time.
            let gathered = if std::mem::take(&mut self.is_blocked) { Gathered::Enough } else { self.gather(cx) };
            while !self.outgoing.is_empty() {
                let (first, second) = self.outgoing.parts();
                match wire.poll_write_two(cx, first, second) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ended::Broken),
                    Poll::Ready(Ok(count)) => self.outgoing.advance(count),
                    Poll::Pending => return self.blocked(cx, wire),
                }
            }
            match wire.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Broken),
                Poll::Pending => return self.blocked(cx, wire),
            }
            match gathered {
                Gathered::All => return Poll::Ready(Ended::Whole),
                Gathered::Broken => return Poll::Ready(Ended::Broken),
                Gathered::ForNow if wire.poll_gone(cx) => return Poll::Ready(Ended::Broken),
                Gathered::ForNow => return Poll::Pending,
                Gathered::Enough => {}
            }
        }
    }

    /// The client takes no more just now. It may read nothing before it has sent everything.
    fn blocked(&mut self, cx: &mut Context<'_>, wire: &Wire) -> Poll<Ended> {
        self.was_blocked = true;
        self.is_blocked = true;
        let Some(body) = &mut self.body else {
            // All of the answer is here, and nobody wants the rest of the request.
            wire.drop_body(cx);
            return Poll::Pending;
        };
        if body.push_request(cx) {
            self.is_broken |= matches!(body.poll_frame(cx), Poll::Ready(Some(Err(_))));
        }
        Poll::Pending
    }

    /// Takes what there is of the body, up to a bound.
    fn gather(&mut self, cx: &mut Context<'_>) -> Gathered {
        while let Some(body) = &mut self.body {
            if self.is_broken {
                return Gathered::Broken;
            }
            if self.outgoing.is_full() {
                return Gathered::Enough;
            }
            // All that was announced is here; an end that comes apart has nothing to say to this client.
            if body.is_end_stream() || (!self.outgoing.is_chunked() && body.left() == Some(0)) {
                self.finish(None);
                break;
            }
            match body.poll_frame(cx) {
                Poll::Pending => return Gathered::ForNow,
                Poll::Ready(Some(Ok(frame))) => self.put(frame),
                Poll::Ready(Some(Err(_))) => self.is_broken = true,
                Poll::Ready(None) => self.finish(None),
            }
        }
        Gathered::All
    }

    fn put(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.outgoing.put(data),
            Err(frame) => self.finish(frame.into_trailers().ok().as_ref()),
        }
    }

    /// The body has ended. Letting go of it tells its record so.
    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        self.body = None;
        self.outgoing.finish(trailers.filter(|_| self.trailers));
    }

    /// Where a client would take the connection's end for the answer's.
    pub fn ends_with_connection(&self) -> bool {
        self.until_close
    }

    /// The buffer, for the next answer on this connection.
    pub fn into_buffer(self) -> Vec<u8> {
        self.outgoing.into_buffer()
    }
}

/// What a look at the body brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gathered {
    /// As much as is written at a time.
    Enough,
    /// The body has no more just now.
    ForNow,
    All,
    Broken,
}

/// Answers that never have a body (RFC 9112 §6.3).
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn framing(headers: &HeaderMap, length: Option<u64>, has_body: bool, version: Version) -> Framing {
    match length {
        _ if !has_body || headers.contains_key(CONTENT_LENGTH) => Framing::Told,
        Some(length) => Framing::Length(length),
        None if version == Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

fn write_head(
    out: &mut Vec<u8>,
    parts: &response::Parts,
    framing: Framing,
    version: Version,
    keep_alive: bool,
    date: &Date,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        write_field(out, name, value);
    }
    if !parts.headers.contains_key(DATE) {
        date.write(out);
    }
    match framing {
        Framing::Told | Framing::UntilClose => {}
        Framing::Length(length) => write!(out, "content-length: {length}\r\n").expect("memory takes what is written"),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    // A switch of protocols has its own options already.
    if !parts.headers.contains_key(CONNECTION) {
        match (keep_alive, version) {
            (false, _) => out.extend_from_slice(b"connection: close\r\n"),
            (true, Version::HTTP_11) => {}
            (true, _) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The `Date` of answers that have none (RFC 9110 §6.6.1), made once a second.
#[derive(Default)]
pub(in crate::proxy) struct Date {
    second: Cell<u64>,
    field: RefCell<String>,
}

impl Date {
    fn write(&self, out: &mut Vec<u8>) {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.replace(second) != second {
            *self.field.borrow_mut() = format!("date: {}\r\n", HttpDate::from(now));
        }
        out.extend_from_slice(self.field.borrow().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    const LENGTH_5: (&str, &str) = ("content-length", "5");

    fn parts(status: u16, fields: &[(&'static str, &str)]) -> response::Parts {
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        response.into_parts().0
    }

    fn head(parts: &response::Parts, length: Option<u64>, has_body: bool, version: Version) -> String {
        let (mut out, framing) = (Vec::new(), framing(&parts.headers, length, has_body, version));
        write_head(&mut out, parts, framing, version, framing != Framing::UntilClose, &Date::default());
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("date: "));
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn the_client_is_told_where_the_body_ends() {
        let is = |parts, length, has_body, version, expected: &str| {
            assert_eq!(head(&parts, length, has_body, version), expected);
        };
        let modern = Version::HTTP_11;
        is(parts(200, &[]), Some(3), true, modern, "HTTP/1.1 200 OK|content-length: 3");
        is(parts(200, &[LENGTH_5]), Some(5), true, modern, "HTTP/1.1 200 OK|content-length: 5");
        is(parts(200, &[]), None, true, modern, "HTTP/1.1 200 OK|transfer-encoding: chunked");
        is(parts(200, &[]), None, true, Version::HTTP_10, "HTTP/1.1 200 OK|connection: close");
        is(
            parts(200, &[]),
            Some(3),
            true,
            Version::HTTP_10,
            "HTTP/1.1 200 OK|content-length: 3|connection: keep-alive",
        );
        is(parts(200, &[LENGTH_5]), Some(0), false, modern, "HTTP/1.1 200 OK|content-length: 5");
        is(parts(204, &[]), Some(0), false, modern, "HTTP/1.1 204 No Content");
        is(parts(599, &[]), Some(0), true, modern, "HTTP/1.1 599 |content-length: 0");
    }

    #[test]
    fn an_answer_without_a_date_gets_one_that_can_be_read() {
        let mut out = Vec::new();
        write_head(&mut out, &parts(200, &[]), Framing::Told, Version::HTTP_11, true, &Date::default());
        let text = String::from_utf8(out).unwrap();
        let date = text.lines().find_map(|line| line.strip_prefix("date: ")).expect("has one");
        let age = SystemTime::now().duration_since(httpdate::parse_http_date(date).expect("is a date"));
        assert!(age.expect("is not of the future").as_secs() < 60, "{date}");

        let mut out = Vec::new();
        let own = parts(200, &[("date", "Tue, 15 Nov 1994 08:12:31 GMT")]);
        write_head(&mut out, &own, Framing::Told, Version::HTTP_11, true, &Date::default());
        assert_eq!(String::from_utf8(out).unwrap().matches("date: ").count(), 1);
    }
}
