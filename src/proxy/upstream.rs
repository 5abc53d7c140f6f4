//! An exchange with an endpoint: on an HTTP/1.1 connection of its own, or on a stream of an HTTP/2 connection
//! that this worker's exchanges share. Whoever uses it need not know which.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;

use super::body::RequestBody;
use super::decode::Malformed;
use super::encode::RequestHead;
use crate::tls::client::Failure;

mod connection;
mod connections;
mod dial;
mod http1;
mod http2;
mod keepalive;

pub(super) use connections::Connections;
pub(super) use dial::{ConnectError, Dial};
pub(super) use http1::{DIRECT_BYTES, DIRECT_FROM_BYTES, Http1, Scratch, trim};
pub(super) use http2::Http2;

pub(super) enum Upstream {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

/// The final head of an answer, without what is for this hop alone.
#[derive(Debug)]
pub(super) struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// What the endpoint speaks next, where it switches protocols.
    pub upgrade: Option<HeaderValue>,
}

/// Why an exchange broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// No endpoint can have acted on the request: it was not written, or the endpoint has said so.
    #[error("the request was not taken up")]
    NotStarted,
    #[error("the connection ended before any byte of an answer")]
    Closed,
    /// In TLS, and with a word that says why.
    #[error("{0}")]
    Refused(Failure),
    #[error("the endpoint reset the stream before its answer")]
    Reset,
    #[error("the connection ended within the answer")]
    CutShort,
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the request body broke off")]
    Request,
}

/// More interim answers to one request end it.
const MAX_INTERIM: usize = 32;
const TOO_MANY_INTERIM: Malformed = Malformed("it has too many interim answers");

/// What came before the final head.
pub(super) type OnInterim<'a> = &'a mut dyn FnMut(StatusCode, &HeaderMap);

impl Upstream {
    /// Makes a request ready to be sent. With `probe`, a reused connection asks the kernel first whether it lives.
    pub fn begin(&mut self, head: &RequestHead<'_>, has_body: bool, to_head: bool, probe: bool) {
        match self {
            Self::Http1(upstream) => upstream.begin(head, has_body, to_head, probe),
            Self::Http2(upstream) => upstream.begin(head, has_body, to_head),
        }
    }

    /// Sends, and reads up to the final head.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        body: &mut RequestBody,
        interim: OnInterim<'_>,
    ) -> Poll<Result<Head, Broken>> {
        match self {
            Self::Http1(upstream) => upstream.poll_head(cx, scratch, body, interim),
            Self::Http2(upstream) => upstream.poll_head(cx, body, interim),
        }
    }

    /// The next frame of the response body; the rest of the request body is sent beside it.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        body: &mut RequestBody,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Http1(upstream) => upstream.poll_frame(cx, scratch, body),
            Self::Http2(upstream) => upstream.poll_frame(cx, body),
        }
    }

    /// Whether the connection has carried a request before: only then can it be stale.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(upstream) => upstream.reused,
            Self::Http2(upstream) => upstream.is_reused(),
        }
    }

    /// Whether other exchanges are on the same connection, which may refuse this one.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Moves the request on, and nothing else.
    pub fn push(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) -> Result<(), Broken> {
        match self {
            Self::Http1(upstream) => upstream.send(cx, body, &mut false),
            Self::Http2(upstream) => upstream.send(cx, body),
        }
    }

    /// The endpoint takes no more of the request.
    pub fn refuses(&self) -> bool {
        match self {
            Self::Http1(upstream) => upstream.refuses(),
            Self::Http2(upstream) => upstream.has_sent_all(),
        }
    }

    /// All of the request is with the kernel, or with the connection's task.
    pub fn has_sent_all(&self) -> bool {
        match self {
            Self::Http1(upstream) => upstream.has_sent_all(),
            Self::Http2(upstream) => upstream.has_sent_all(),
        }
    }

    /// What may become a tunnel: a connection of its own.
    pub fn http1(&mut self) -> Option<&mut Http1> {
        match self {
            Self::Http1(upstream) => Some(upstream),
            Self::Http2(_) => None,
        }
    }

    /// Nothing of the response is left.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Http1(upstream) => upstream.has_ended(),
            Self::Http2(upstream) => upstream.has_ended(),
        }
    }

    /// What is left of the response has arrived, as far as that can be told.
    pub fn has_received_all(&self) -> bool {
        match self {
            Self::Http1(upstream) => upstream.has_received_all(),
            Self::Http2(upstream) => upstream.has_ended(),
        }
    }

    /// What is left of the response body, where that is known.
    pub fn body_left(&self) -> Option<u64> {
        match self {
            Self::Http1(upstream) => upstream.body_left(),
            Self::Http2(upstream) => upstream.body_left(),
        }
    }
}
