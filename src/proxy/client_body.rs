//! A client's request body, by whatever protocol it comes.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::connection::Wire;
use super::decode::Malformed;

pub(super) enum ClientBody {
    /// Known to be empty from the head.
    None,
    Http1(Rc<Wire>),
    Http2(Incoming),
}

/// Why it is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientBroken {
    #[error("the connection ended within it")]
    CutShort,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Http2(#[from] hyper::Error),
}

impl ClientBody {
    /// Nothing of it is left.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(wire) => wire.has_whole_body(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    /// What is left of it, where the client has said so.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Http1(wire) => wire.body_left(),
            Self::Http2(incoming) => incoming.size_hint().exact(),
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBroken>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::Http1(wire) => wire.poll_frame(cx),
            Self::Http2(incoming) => poll_http2(incoming, cx),
        }
    }
}

/// What broke off must never look whole, or be answered: of a stream that its client has reset nothing more comes, and
/// hyper ends its exchange when it has seen this pending. Some resets it takes for the body's end.
fn poll_http2(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBroken>>> {
    match Pin::new(&mut *incoming).poll_frame(cx) {
        Poll::Ready(Some(Err(_))) => Poll::Pending,
        Poll::Ready(None) if !incoming.is_end_stream() => Poll::Pending,
        polled => polled.map_err(ClientBroken::from),
    }
}
