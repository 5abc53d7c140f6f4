//! A request on its way to an endpoint: its head written from the client's fields, and the framing of its body.
//!
//! The head is rebuilt, never copied: what speaks of the client's hop stays behind, and this hop's own fields
//! (RFC 9110 §7.6, RFC 7239) are added as it is written. The client's fields stay as they are, so that a
//! request can be written again.

use std::io::Write;

use http::header::{CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, request};

use super::chunked::is_trailer;
use super::headers::{Forwarded, is_hop_by_hop, may_be_of_this_hop, named_by_connection};

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
}

impl RequestHead<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        let headers = &self.parts.headers;
        out.extend_from_slice(self.parts.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.parts.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(host) = self.host {
            write_field(out, &HOST, host);
        }
        let named = named_by_connection(headers);
        let mut relayed = false;
        for (name, value) in headers {
            if is_replaced(name, &mut relayed) || named.contains(name) {
                continue;
            }
            write_field(out, name, value);
        }
        self.forwarded.write(out, self.client_host, relayed.then_some(headers));
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
}

/// Whether a field of the client's is written anew or not at all. Notes where an earlier proxy has been.
fn is_replaced(name: &HeaderName, relayed: &mut bool) -> bool {
    match name.as_str().len() {
        // Most fields are ruled out by their length.
        4 => name == HOST,
        14 => name == CONTENT_LENGTH,
        9 if name == FORWARDED => {
            *relayed = true;
            true
        }
        15..=17 if Forwarded::is_field(name) => {
            *relayed = true;
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
