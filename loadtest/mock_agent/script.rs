//! A streamed answer, made beforehand: its events, their pace, and how it ends.
//!
//! That it is whole before it begins lets the head say the SHA-256 of all that follows (`Repr-Digest`,
//! RFC 9530), so that whoever reads it knows each byte and their order. A stream that is told to fail
//! has the digest of what it sends until then.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::Frame;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, Sleep};

use super::behaviour::{Behaviour, Fault};
use super::units::MAX_WAIT;

/// What the agent says before its connection breaks is out by then.
const BEFORE_A_CUT: Duration = Duration::from_millis(2);

/// One answer's events, in the bytes of its dialect.
pub struct Script {
    pub content_type: &'static str,
    /// Sent with the head.
    pub opening: Vec<Bytes>,
    /// Sent one by one, at the pace of the behaviour.
    pub tokens: Vec<Bytes>,
    /// Sent with the last token.
    pub closing: Vec<Bytes>,
    /// How the dialect says that the agent failed.
    pub error: Bytes,
}

impl Script {
    pub fn play(self, behaviour: &Behaviour, fault: Fault) -> Response {
        let content_type = self.content_type;
        let (pieces, paced, ending) = self.cast(fault);
        let mut digest = Sha256::new();
        pieces.iter().for_each(|piece| digest.update(piece));
        let digest = format!("sha-256=:{}:", STANDARD.encode(digest.finalize()));
        let headers =
            [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")].map(|(name, value)| (name, value.to_owned()));
        let performance = Performance {
            pieces,
            next: 0,
            paced,
            interval: behaviour.token_interval.get(),
            due: Box::pin(tokio::time::sleep(behaviour.first_token.get())),
            ending,
        };
        (headers, [("repr-digest", digest)], Body::new(performance)).into_response()
    }

    /// What is sent, which part of it at the pace of tokens, and what comes then.
    fn cast(mut self, fault: Fault) -> (Vec<Bytes>, Range<usize>, Ending) {
        let half = self.tokens.len() / 2;
        let (ending, closing) = match fault {
            Fault::None => (Ending::Proper, std::mem::take(&mut self.closing)),
            Fault::Error => (Ending::Proper, vec![self.error]),
            Fault::End => (Ending::Proper, Vec::new()),
            Fault::Stall => (Ending::Silence, Vec::new()),
            Fault::Cut => {
                let broken = self.tokens.get(half).unwrap_or(&self.error);
                (Ending::Cut, vec![broken.slice(..broken.len() / 2)])
            }
        };
        if fault != Fault::None {
            self.tokens.truncate(half);
        }
        let paced = self.opening.len()..self.opening.len() + self.tokens.len();
        ([self.opening, self.tokens, closing].concat(), paced, ending)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Proper,
    Cut,
    /// Cut as well, but only after the longest wait that there is.
    Silence,
}

/// The body: hands out each piece when it is due and the client has room for it.
struct Performance {
    pieces: Vec<Bytes>,
    next: usize,
    paced: Range<usize>,
    interval: Duration,
    due: Pin<Box<Sleep>>,
    ending: Ending,
}

impl http_body::Body for Performance {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(piece) = self.pieces.get(self.next).cloned() else {
            return self.end(context);
        };
        if self.paced.contains(&self.next) {
            // A timer rounds up to a whole millisecond, also what is due already.
            if self.due.deadline() > Instant::now() {
                ready!(self.due.as_mut().poll(context));
            }
            let interval = self.interval;
            self.wait(interval);
        }
        self.next += 1;
        if self.next == self.pieces.len() {
            let silence = if self.ending == Ending::Silence { MAX_WAIT } else { BEFORE_A_CUT };
            self.wait(silence);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Performance {
    fn wait(&mut self, time: Duration) {
        self.due.as_mut().reset(Instant::now() + time);
    }

    fn end(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.ending == Ending::Proper {
            return Poll::Ready(None);
        }
        ready!(self.due.as_mut().poll(context));
        Poll::Ready(Some(Err(io::Error::other("the mock agent was told to fail"))))
    }
}
