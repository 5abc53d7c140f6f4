//! Two connections as one: after `101 Switching Protocols` the bytes of both sides pass as they are (RFC 9110 §7.8).
//!
//! The version was decided at the handshake, and the exchange's record lives as long as the tunnel:
//!
//! | how it ends | outcome |
//! | --- | --- |
//! | both sides have ended theirs | success |
//! | the endpoint's connection breaks | truncated; client cancel where the client had ended its side before |
//! | the client's connection breaks | client cancel |
//! | nothing passes for the agent's idle time-out | idle time-out where the client had the last word, else client cancel: an endpoint that has answered owes nothing |
//!
//! One side's end is passed on as one (a half-close), and the other may go on. A connection that ends without a word
//! looks like a clean end: what that means is known to the protocol within alone.
//!
//! Bounds: of what one side has not taken, one read of the worker's scratch is held for each direction, and the other
//! side is not read until it is gone. An idle tunnel holds no buffer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Version, request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::ClientStream;
use super::outcome::Record;
use super::pool::Lease;
use super::upstream::Http1;
use crate::telemetry::stats::Outcome;

/// The one protocol that is never offered on: a connection begins as HTTP/2, it does not become it (RFC 9113 §3.1).
const OBSOLETE: &[u8] = b"h2c";

/// What the client offers to switch to, as it is passed on; `None`: it does not ask for it.
pub(super) fn offer(parts: &request::Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 || !parts.headers.contains_key(UPGRADE) {
        return None;
    }
    let mut options = parts.headers.get_all(CONNECTION).iter().flat_map(tokens);
    if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let offered = parts.headers.get_all(UPGRADE).iter().flat_map(tokens);
    let kept: Vec<_> = offered.filter(|protocol| !protocol.eq_ignore_ascii_case(OBSOLETE)).collect();
    if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept.join(&b", "[..])).ok() }
}

/// Whether all that the endpoint switches to was offered.
pub(super) fn is_offered(offer: &HeaderValue, chosen: &HeaderValue) -> bool {
    let is_known = |protocol: &[u8]| tokens(offer).any(|offered| offered.eq_ignore_ascii_case(protocol));
    tokens(chosen).next().is_some() && tokens(chosen).all(is_known)
}

fn tokens(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// A switched exchange, from the endpoint's `101` on.
pub(super) struct Tunnel {
    lease: Lease,
    record: Record,
    /// From the client to the endpoint.
    up: Way,
    down: Way,
    /// The endpoint, or the end of the client's side, had the last word.
    answered: bool,
}

impl Tunnel {
    pub fn new(mut lease: Lease, record: Record) -> Box<Self> {
        // What the endpoint has sent after its `101`.
        let early = lease.upstream().http1().map(Http1::take_input).unwrap_or_default();
        Box::new(Self { lease, record, up: Way::default(), down: Way::of(early), answered: true })
    }

    /// What the client has sent after its request.
    pub fn begin(&mut self, early: Bytes) {
        self.answered = early.is_empty();
        self.up = Way::of(early);
    }

    /// Moves bytes both ways until the tunnel has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>, client: &mut ClientStream) -> Poll<()> {
        let conn = self.record.conn().clone();
        // Only a connection of HTTP/1.1 becomes one.
        let Some(endpoint) = self.lease.upstream().http1().map(Http1::stream) else { return Poll::Ready(()) };
        let mut scratch = conn.worker.scratch.buffer();
        // Who has something waiting goes first: the other way may use up the turn each time.
        let (mut up, down);
        if self.down.waiting.is_empty() {
            up = self.up.poll(cx, client, endpoint, &mut scratch);
            down = self.down.poll(cx, endpoint, client, &mut scratch);
        } else {
            down = self.down.poll(cx, endpoint, client, &mut scratch);
            up = self.up.poll(cx, client, endpoint, &mut scratch);
        }
        let (sent, received) = (self.up.take_moved(), self.down.take_moved());
        self.record.bytes_out += received;
        if sent + received > 0 {
            conn.progress();
            self.answered = received > 0;
        }
        if matches!(up, Poll::Ready(Err(Side::To))) && self.down.has_ended() {
            // The endpoint has said all that it had to say, and takes no more.
            self.up.give_up();
            up = Poll::Ready(Ok(()));
        }
        self.answered |= self.up.has_ended();
        let outcome = match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                self.record.complete(Instant::now());
                return Poll::Ready(());
            }
            (Poll::Ready(Err(Side::From)), _) | (_, Poll::Ready(Err(Side::To))) => Outcome::ClientCancel,
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) if self.up.has_ended() => Outcome::ClientCancel,
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Outcome::Truncated,
            _ if !conn.take_expired() => return Poll::Pending,
            _ if self.answered => Outcome::ClientCancel,
            _ => Outcome::IdleTimeout,
        };
        self.record.break_off(outcome);
        Poll::Ready(())
    }
}

/// Which connection of a [`Way`] broke.
enum Side {
    From,
    To,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Read, and not yet taken by the other side.
    waiting: Bytes,
    end: End,
    /// How much has passed since it was last asked.
    moved: u64,
}

#[derive(Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// One side has ended; the other is to be told.
    Seen,
    PassedOn,
}

impl Way {
    fn of(waiting: Bytes) -> Self {
        Self { waiting, ..Self::default() }
    }

    fn has_ended(&self) -> bool {
        self.end != End::Open
    }

    /// As if its end had been passed on.
    fn give_up(&mut self) {
        (self.waiting, self.end) = (Bytes::new(), End::PassedOn);
    }

    fn take_moved(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }

    /// Ready when the end has been passed on, or a side broke.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<Result<(), Side>> {
        loop {
            while !self.waiting.is_empty() {
                let count = ready!(self.write(cx, to, None))?;
                self.waiting.advance(count);
            }
            match self.end {
                End::PassedOn => return Poll::Ready(Ok(())),
                End::Seen => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Side::To)?;
                    self.end = End::PassedOn;
                }
                End::Open => {
                    // Under TLS, what was taken may still be on its way.
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| Side::To)?;
                    let mut buffer = ReadBuf::new(scratch);
                    ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)).map_err(|_| Side::From)?;
                    let received = buffer.filled();
                    if received.is_empty() {
                        self.end = End::Seen;
                        continue;
                    }
                    // What is not taken at once is kept before anything else is told of it.
                    let count = match self.write(cx, to, Some(received)) {
                        Poll::Ready(count) => count?,
                        Poll::Pending => 0,
                    };
                    self.waiting = Bytes::copy_from_slice(&received[count..]);
                }
            }
        }
    }

    /// Writes these bytes, or those that wait; a side that takes none of some has broken.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
        bytes: Option<&[u8]>,
    ) -> Poll<Result<usize, Side>> {
        match ready!(Pin::new(to).poll_write(cx, bytes.unwrap_or(&self.waiting))) {
            Ok(0) | Err(_) => Poll::Ready(Err(Side::To)),
            Ok(count) => {
                self.moved += count as u64;
                Poll::Ready(Ok(count))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn only_what_was_offered_may_be_switched_to() {
        let offer = value("websocket, Chat/2");
        for chosen in ["websocket", "WebSocket", "chat/2", "chat/2, websocket"] {
            assert!(is_offered(&offer, &value(chosen)), "{chosen}");
        }
        for chosen in ["", ",", "chat", "websocket, h2c", "websockets"] {
            assert!(!is_offered(&offer, &value(chosen)), "{chosen}");
        }
    }
}
