//! A request on its way to an endpoint: its head written from the client's fields, and the framing of its body.
//! The same rules make the text of HTTP/1.1 and the field map of HTTP/2.
//!
//! The head is rebuilt, never copied: what speaks of the client's hop stays behind, and this hop's own fields
//! (RFC 9110 §7.6, RFC 7239) are added as it is written. The client's fields stay as they are, so that a
//! request can be written again.

use std::io::Write;

use http::header::{CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, TE, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version, request};

use super::chunked::is_trailer;
use super::headers::{Forwarded, VERSION_HEADER, is_hop_by_hop, may_be_of_this_hop, named_by_connection};
use super::read::AsReceived;

/// How an endpoint learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestFraming {
    /// There is none, and nothing says so.
    None,
    Length(u64),
    Chunked,
}

impl RequestFraming {
    /// For a request without a body.
    pub fn of_empty(parts: &request::Parts) -> Self {
        let expects_one = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        if expects_one || parts.headers.contains_key(CONTENT_LENGTH) { Self::Length(0) } else { Self::None }
    }
}

/// Where fields are written to.
pub(super) trait Fields {
    fn put(&mut self, name: &HeaderName, value: &HeaderValue);
    /// A comma-separated list: what is there already, and one element more.
    fn put_list<'a>(&mut self, name: &HeaderName, earlier: impl Iterator<Item = &'a HeaderValue>, element: &[u8]);
}

impl Fields for Vec<u8> {
    fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        write_field(self, name, value);
    }

    fn put_list<'a>(&mut self, name: &HeaderName, earlier: impl Iterator<Item = &'a HeaderValue>, element: &[u8]) {
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        join(self, earlier, element);
        self.extend_from_slice(b"\r\n");
    }
}

impl Fields for HeaderMap {
    fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name.clone(), value.clone());
    }

    fn put_list<'a>(&mut self, name: &HeaderName, earlier: impl Iterator<Item = &'a HeaderValue>, element: &[u8]) {
        let mut list = Vec::new();
        join(&mut list, earlier, element);
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(list));
        self.append(name, value.expect("valid values with commas between them"));
    }
}

fn join<'a>(out: &mut Vec<u8>, earlier: impl Iterator<Item = &'a HeaderValue>, element: &[u8]) {
    for value in earlier {
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(element);
}

/// What a head is written from.
pub(super) struct RequestHead<'a> {
    pub parts: &'a request::Parts,
    /// As the agent's host policy wants it.
    pub host: Option<&'a HeaderValue>,
    /// As the client named it.
    pub client_host: Option<&'a HeaderValue>,
    pub forwarded: &'a Forwarded,
    pub framing: RequestFraming,
    /// What to offer the endpoint to switch to.
    pub upgrade: Option<&'a HeaderValue>,
    /// The version that was asked for, where the agent is to know.
    pub version: Option<&'a HeaderValue>,
}

impl RequestHead<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        let headers = &self.parts.headers;
        out.extend_from_slice(self.parts.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target().map_or("/", |target| target.as_str()).as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(host) = self.host {
            write_field(out, &HOST, host);
        }
        let seen = self.put_fields(out);
        self.forwarded.write(out, self.client_host, seen.relayed.then_some(headers));
        if seen.trailers {
            // Of this hop, and so named as such; it says the same of the next.
            out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
        }
        match self.framing {
            RequestFraming::None => {}
            RequestFraming::Length(length) => {
                out.extend_from_slice(b"content-length: ");
                write_number(out, format_args!("{length}"));
                out.extend_from_slice(b"\r\n");
            }
            RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if let Some(offer) = self.upgrade {
            out.extend_from_slice(b"connection: upgrade\r\n");
            write_field(out, &UPGRADE, offer);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The same for HTTP/2, where the host is `:authority`, the framing frames itself, and no protocol is switched.
    pub fn to_http2(&self) -> Request<()> {
        let headers = &self.parts.headers;
        let mut request = Request::new(());
        *request.method_mut() = self.parts.method.clone();
        let fields = request.headers_mut();
        fields.reserve(headers.len() + 4);
        let seen = self.put_fields(fields);
        self.forwarded.append(fields, self.client_host, seen.relayed.then_some(headers));
        if let RequestFraming::Length(length) = self.framing {
            fields.insert(CONTENT_LENGTH, length.into());
        }
        // Of this hop too, but the one word of it that HTTP/2 allows says the same of the next.
        if seen.trailers {
            fields.insert(TE, HeaderValue::from_static("trailers"));
        }
        let path = self.target().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let authority = self.host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        if authority.is_none()
            && let Some(host) = self.host
        {
            // No authority by the letter, which a host of the client's choice may be.
            fields.insert(HOST, host.clone());
        }
        *request.uri_mut() = target(path, authority);
        request
    }

    /// The normal form, or the one that was received, as the policy wants it.
    fn target(&self) -> Option<&PathAndQuery> {
        let received = self.parts.extensions.get().map(|AsReceived(target)| target);
        received.or_else(|| self.parts.uri.path_and_query())
    }

    /// What passes of the client's fields.
    fn put_fields(&self, out: &mut impl Fields) -> Seen {
        let headers = &self.parts.headers;
        // HTTP/2 has no such field, and refuses it.
        let is_http2 = self.parts.version == Version::HTTP_2;
        let named = if is_http2 { Vec::new() } else { named_by_connection(headers) };
        let mut seen = Seen::default();
        for (name, value) in headers {
            if is_replaced(name, value, &mut seen) || named.contains(name) {
                continue;
            }
            out.put(name, value);
        }
        if let Some(version) = self.version {
            out.put(&VERSION_HEADER, version);
        }
        seen
    }
}

/// What the client's fields said that is written anew.
#[derive(Default)]
struct Seen {
    /// An earlier proxy has been there.
    relayed: bool,
    /// The client takes trailers.
    trailers: bool,
}

/// Whether `TE` says that fields after the body are welcome (RFC 9110 §10.1.4).
pub(super) fn accepts_trailers(te: &HeaderValue) -> bool {
    te.as_bytes().split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn target(path: PathAndQuery, authority: Option<Authority>) -> Uri {
    let mut parts = http::uri::Parts::default();
    // Without an authority, `http` wants no scheme either; the library then adds it.
    parts.scheme = authority.is_some().then_some(Scheme::HTTP);
    parts.authority = authority;
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("a path, or all three parts")
}

/// Whether a field of the client's is written anew or not at all.
fn is_replaced(name: &HeaderName, value: &HeaderValue, seen: &mut Seen) -> bool {
    match name.as_str().len() {
        // Most fields are ruled out by their length.
        2 if name == TE => {
            seen.trailers |= accepts_trailers(value);
            true
        }
        4 => name == HOST,
        14 => name == CONTENT_LENGTH,
        9 if name == FORWARDED => {
            seen.relayed = true;
            true
        }
        15..=17 if Forwarded::is_field(name) => {
            seen.relayed = true;
            true
        }
        _ => may_be_of_this_hop(name) && is_hop_by_hop(name),
    }
}

pub(super) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_number(out: &mut Vec<u8>, number: std::fmt::Arguments<'_>) {
    out.write_fmt(number).expect("memory takes what is written to it");
}

/// The line before a chunk's data.
pub(super) fn write_chunk_size(out: &mut Vec<u8>, length: usize) {
    write_number(out, format_args!("{length:x}\r\n"));
}

/// What ends a chunked body.
pub(super) fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| is_trailer(name)) {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}
