//! What is read of a request before it is decided and sent: its target and host in one form, what makes
//! it unacceptable, and the JSON body where the key may be in it.

pub(super) mod http2;
mod target;

pub(super) use target::{AsReceived, normalise_target};

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{HeaderValue, TRANSFER_ENCODING};
use http::{Version, request};

use super::client_body::ClientBody;
use super::connection::ClientConn;
use super::error::Fault;
use super::headers;
use super::media::Media;
use crate::routing::key;
use crate::routing::spec::Attribute;
use crate::routing::table::{Agent, Head};
use crate::telemetry::access::AccessRecord;
use crate::telemetry::counters::ErrorCode;

pub(super) fn head<'a>(parts: &'a request::Parts, host: &'a Host, conn: &'a ClientConn, nonce: u64) -> Head<'a> {
    Head {
        method: &parts.method,
        host: host.name(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        client: conn.address(),
        certificate: conn.certificate(),
        json: None,
        nonce,
    }
}

/// The authority that a request is for.
pub(super) struct Host {
    pub value: Option<HeaderValue>,
    /// How much of it is the name, without the port. Zero where there is none or it is no text.
    name_bytes: usize,
}

impl Host {
    pub fn new(value: Option<HeaderValue>) -> Self {
        let authority = value.as_ref().map_or(&[][..], HeaderValue::as_bytes);
        let name_bytes = match memchr::memrchr(b':', authority) {
            // The colons of an IPv6 literal stand inside its brackets.
            Some(colon) if !authority[colon..].contains(&b']') => colon,
            _ => authority.len(),
        };
        Self { value, name_bytes }
    }

    pub fn name(&self) -> &str {
        let name = self.value.as_ref().and_then(|value| value.as_bytes().get(..self.name_bytes));
        name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }
}

pub(super) fn no_route(parts: &request::Parts, host: &Host) -> Fault {
    let text = format!("no agent matches host {:?} and path {:?}", host.name(), parts.uri.path());
    Fault::new(ErrorCode::NoRoute, text)
}

pub(super) fn body_too_large(max_bytes: u64) -> Fault {
    let text = format!("the request body is larger than {max_bytes} bytes");
    Fault::new(ErrorCode::BodyTooLarge, text)
}

/// A transfer coding other than `chunked` would be lost here: it is of this hop, and we cannot undo it.
pub(super) fn unknown_coding(parts: &request::Parts) -> Option<Fault> {
    let coding = parts.headers.get(TRANSFER_ENCODING)?;
    let known = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let message = "only the transfer coding chunked is supported";
    (!known).then(|| Fault::new(ErrorCode::MethodNotSupported, message))
}

pub(super) fn body_too_late() -> Fault {
    Fault::new(ErrorCode::BodyTimeout, "the request body did not arrive in time")
}

/// Zero where none is declared; what is no number has been refused.
pub(super) fn declared_length(parts: &request::Parts) -> u64 {
    headers::declared_length(&parts.headers).unwrap_or(0)
}

/// Whether the key or the conversation's id may be in the body: no source before the first `json:` one is present.
pub(super) fn wants_json(agent: &Agent, head: &Head<'_>) -> bool {
    let conversations = agent.spec.conversations.as_ref();
    if !agent.key_wants_json && conversations.is_none() {
        return false;
    }
    if Media::of(head.headers) != Some(Media::Document) {
        return false;
    }
    may_be_in_body(&agent.key, head) || conversations.is_some_and(|spec| may_be_in_body(&spec.id, head))
}

fn may_be_in_body(sources: &[Attribute], head: &Head<'_>) -> bool {
    let first = sources.iter().position(|source| matches!(source, Attribute::Json(_)));
    first.is_some_and(|first| key::find(&sources[..first], head).is_none())
}

const SHORT_BYTES: usize = 4 << 10;

/// Reads the body for its key, up to the limit; what was read goes on with the rest. A body that is
/// larger, or no JSON, has no key.
pub(super) async fn read_json(
    body: &mut ClientBody,
    read_ahead: &mut VecDeque<Bytes>,
    limit_bytes: usize,
    conn: &ClientConn,
) -> Result<Option<serde_json::Value>, Fault> {
    let mut read_bytes = 0;
    loop {
        let frame = poll_fn(|cx| match body.poll_frame(cx) {
            Poll::Pending if conn.take_expired() => Poll::Ready(Err(body_too_late())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        });
        match frame.await? {
            None => break,
            Some(Err(_)) => return Err(Fault::new(ErrorCode::BadRequest, "the request body broke off")),
            Some(Ok(frame)) => {
                conn.progress();
                let Ok(data) = frame.into_data() else { continue };
                read_bytes += data.len();
                // A short piece must not keep all that was read with it.
                read_ahead.push_back(if data.len() < SHORT_BYTES { Bytes::copy_from_slice(&data) } else { data });
                if read_bytes > limit_bytes {
                    return Ok(None);
                }
            }
        }
    }
    let text = match read_ahead.len() {
        1 => read_ahead[0].clone(),
        _ => read_ahead.iter().flatten().copied().collect(),
    };
    Ok(serde_json::from_slice(&text).ok())
}

/// What only the access log wants of the request; without the query, which may hold secrets.
pub(super) fn log_head(parts: &request::Parts, host: &Host, conn: &ClientConn) -> Box<AccessRecord> {
    let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    Box::new(AccessRecord {
        time: SystemTime::now(),
        client: conn.address(),
        protocol: protocol(parts.version),
        method: parts.method.clone(),
        host: host.value.as_ref().map(|_| host.name().to_owned()),
        path: parts.uri.path().to_owned(),
        environment: conn.environment.shared(),
        agent: None,
        version: None,
        bucket: None,
        reason: None,
        epoch: 0,
        status: None,
        outcome: None,
        error: None,
        duration_us: 0,
        ttfb_us: None,
        stream: None,
        ttft_us: None,
        input_tokens: None,
        output_tokens: None,
        model: None,
        request_bytes: declared_length(parts),
        response_bytes: 0,
        endpoint: None,
        retries: 0,
        request_id: text("x-request-id"),
        user_agent: text("user-agent"),
    })
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}
