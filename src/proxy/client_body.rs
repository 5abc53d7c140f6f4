//! A client's request body, by whatever protocol it comes.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::connection::{Received, Wire};
use super::decode::Malformed;

pub(super) enum ClientBody {
    /// Known to be empty from the head.
    None,
    Http1(Rc<Wire>),
    Http2(Received),
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
}

impl ClientBody {
    /// Nothing of it is left.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(wire) => wire.has_whole_body(),
            Self::Http2(received) => received.has_ended(),
        }
    }

    /// What is left of it, where the client has said so.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Http1(wire) => wire.body_left(),
            Self::Http2(received) => received.left(),
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBroken>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::Http1(wire) => wire.poll_frame(cx),
            Self::Http2(received) => received.poll_frame(cx).map(|frame| frame.map(Ok)),
        }
    }
}
