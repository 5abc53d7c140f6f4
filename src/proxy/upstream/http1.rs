//! One HTTP/1.1 connection to an endpoint, and the exchange on it.
//!
//! It is polled by whoever uses it, in the client's own task: there is no task, channel or waker between the
//! client's connection and this one. Sending and reading go on side by side, for an endpoint may answer, or
//! refuse, before it has the whole request.
//!
//! Memory: an idle connection holds no buffer but its small output one. Reads go to the worker's one
//! [`Scratch`], and what is a body's is copied out of it; a long stretch of data is read into its own
//! buffer of [`DIRECT_BYTES`] at most, and never copied.

use std::cell::{RefCell, RefMut};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Frame;
use tokio::io::AsyncReadExt;

use super::super::body::RequestBody;
use super::super::decode::{self, Framing, HEAD_BYTES, Malformed, Piece, ResponseHead};
use super::super::encode::RequestHead;
use super::super::io::UpstreamStream;
use super::super::sending::{SendError, Sending};
use super::{Broken, Head, MAX_INTERIM, OnInterim, TOO_MANY_INTERIM};
use crate::tls::client::Failure;

/// What a worker reads into, one connection after the other.
pub struct Scratch(RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; SCRATCH_BYTES].into()))
    }
}

impl Scratch {
    /// Whoever holds it must not let another connection be polled.
    pub fn buffer(&self) -> RefMut<'_, [u8]> {
        RefMut::map(self.0.borrow_mut(), |buffer| &mut **buffer)
    }
}

const SCRATCH_BYTES: usize = 64 << 10;
/// From so much known data on, it is read to where it stays.
pub(in crate::proxy) const DIRECT_FROM_BYTES: u64 = 16 << 10;
pub(in crate::proxy) const DIRECT_BYTES: usize = 64 << 10;

/// What was read into a buffer of that size: little is copied, so that it does not keep all of the buffer.
pub(in crate::proxy) fn trim(read: BytesMut) -> Bytes {
    if read.len() < read.capacity() / 4 { Bytes::copy_from_slice(&read) } else { read.freeze() }
}

pub struct Http1 {
    stream: UpstreamStream,
    sending: Sending,
    reading: Reading,
    /// Received, and not yet taken.
    input: Bytes,
    keep_alive: bool,
    /// Whether a request has gone over it before: only then can it be stale.
    pub reused: bool,
    idle_since: Instant,
    pool_idle: Duration,
}

enum Reading {
    /// `Some` until it is known that the endpoint has not closed it meanwhile; whether to ask the kernel.
    Head {
        unchecked: Option<bool>,
        to_head: bool,
        partial: Vec<u8>,
        /// Interim answers so far.
        interim: usize,
    },
    Body(Framing),
    Ended,
}

impl Http1 {
    pub fn new(stream: UpstreamStream, pool_idle: Duration) -> Self {
        Self {
            stream,
            sending: Sending::default(),
            reading: Reading::Ended,
            input: Bytes::new(),
            keep_alive: true,
            reused: false,
            idle_since: Instant::now(),
            pool_idle,
        }
    }

    /// Makes a request ready to be sent. With `probe`, a reused connection asks the kernel first whether it lives.
    pub fn begin(&mut self, head: &RequestHead<'_>, has_body: bool, to_head: bool, probe: bool) {
        self.sending.begin(head, has_body);
        let unchecked = self.reused.then_some(probe);
        self.reading = Reading::Head { unchecked, to_head, partial: Vec::new(), interim: 0 };
    }

    /// Sends, and reads up to the final head.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        body: &mut RequestBody,
        interim: OnInterim<'_>,
    ) -> Poll<Result<Head, Broken>> {
        // Whether it is known in this poll that there is nothing to read, and the waker is where it belongs.
        let mut quiet = false;
        if let Reading::Head { unchecked, .. } = &mut self.reading
            && let Some(probe) = unchecked.take()
        {
            quiet = self.stream.poll_quiet(cx, probe);
            if !quiet {
                return Poll::Ready(Err(Broken::NotStarted));
            }
        }
        loop {
            if let Err(broken) = self.send(cx, body, &mut quiet) {
                return Poll::Ready(Err(broken));
            }
            if quiet {
                return Poll::Pending;
            }
            let mut scratch = scratch.0.borrow_mut();
            let Reading::Head { to_head, partial, interim: count, .. } = &mut self.reading else {
                return Poll::Pending;
            };
            let cut_short = if partial.is_empty() { Broken::Closed } else { Broken::CutShort };
            let received = match ready!(self.stream.poll_fill(cx, &mut scratch)) {
                Ok(0) => return Poll::Ready(Err(cut_short)),
                Err(error) => return Poll::Ready(Err(Failure::refusal(&error).map_or(cut_short, Broken::Refused))),
                Ok(received) => &scratch[..received],
            };
            let mut tell = |head: &ResponseHead| {
                *count += 1;
                if head.status == StatusCode::CONTINUE {
                    body.go_on();
                } else {
                    interim(head.status, &head.headers);
                }
            };
            let taken = take_head(partial, received, *to_head, &mut tell)?;
            if *count > MAX_INTERIM {
                return Poll::Ready(Err(TOO_MANY_INTERIM.into()));
            }
            if let Some((head, rest)) = taken {
                self.input = rest;
                return Poll::Ready(Ok(self.take_framing(head)));
            }
        }
    }

    fn take_framing(&mut self, head: ResponseHead) -> Head {
        self.keep_alive = head.keep_alive;
        self.reading = if head.framing.is_done() { Reading::Ended } else { Reading::Body(head.framing) };
        Head { status: head.status, headers: head.headers, upgrade: head.upgrade }
    }

    /// Moves the request on. `quiet` becomes false where an answer may have arrived unseen.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        quiet: &mut bool,
    ) -> Result<(), Broken> {
        match self.sending.poll(cx, &mut self.stream, body) {
            Poll::Ready(Err(SendError::Body)) => Err(Broken::Request),
            Poll::Ready(Err(SendError::Io)) if self.reused && !self.sending.begun => Err(Broken::NotStarted),
            Poll::Ready(Err(SendError::Io)) => {
                // It may have answered before it closed.
                self.sending.refused = true;
                *quiet = false;
                Ok(())
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// The next frame of the response body; the rest of the request body is sent beside it.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        body: &mut RequestBody,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let Reading::Body(framing) = &mut self.reading else { return Poll::Ready(None) };
            match framing.next(&mut self.input) {
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
                Ok(Some(Piece::Data(data))) => {
                    if framing.is_done() {
                        self.reading = Reading::Ended;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Some(Piece::Trailers(fields))) => {
                    self.reading = Reading::Ended;
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Some(Piece::End)) => {
                    self.reading = Reading::Ended;
                    return Poll::Ready(None);
                }
                Ok(None) => {}
            }
            let until_close = matches!(framing, Framing::UntilClose);
            let ahead = framing.data_ahead();
            if let Err(broken) = self.send(cx, body, &mut false) {
                return Poll::Ready(Some(Err(broken)));
            }
            match ready!(self.poll_input(cx, scratch, ahead)) {
                Ok(()) if !self.input.is_empty() => {}
                Ok(()) if until_close => {
                    self.reading = Reading::Ended;
                    return Poll::Ready(None);
                }
                Ok(()) | Err(_) => return Poll::Ready(Some(Err(Broken::CutShort))),
            }
        }
    }

    /// Reads once; an empty `input` then is the end.
    fn poll_input(&mut self, cx: &mut Context<'_>, scratch: &Scratch, ahead: u64) -> Poll<io::Result<()>> {
        if ahead >= DIRECT_FROM_BYTES {
            let capacity = usize::try_from(ahead).unwrap_or(usize::MAX).min(DIRECT_BYTES);
            let mut buffer = BytesMut::with_capacity(capacity);
            ready!(pin!(self.stream.read_buf(&mut buffer)).poll(cx))?;
            self.input = trim(buffer);
        } else {
            let mut scratch = scratch.0.borrow_mut();
            let received = ready!(self.stream.poll_fill(cx, &mut scratch))?;
            self.input = Bytes::copy_from_slice(&scratch[..received]);
        }
        Poll::Ready(Ok(()))
    }

    /// For a tunnel, which has no messages.
    pub fn stream(&mut self) -> &mut UpstreamStream {
        &mut self.stream
    }

    /// What was received beyond the head.
    pub fn take_input(&mut self) -> Bytes {
        std::mem::take(&mut self.input)
    }

    /// The endpoint takes no more of the request.
    pub fn refuses(&self) -> bool {
        self.sending.refused
    }

    /// All of the request is with the kernel.
    pub fn has_sent_all(&self) -> bool {
        self.sending.ended
    }

    /// Nothing of the response is left.
    pub fn has_ended(&self) -> bool {
        matches!(self.reading, Reading::Ended)
    }

    /// What is left of the response has arrived, as far as that can be told.
    pub fn has_received_all(&self) -> bool {
        self.body_left() == Some(self.input.len() as u64)
    }

    /// What is left of the response body, where that is known.
    pub fn body_left(&self) -> Option<u64> {
        match &self.reading {
            Reading::Body(framing) => framing.left(),
            Reading::Head { .. } => None,
            Reading::Ended => Some(0),
        }
    }

    /// Whether it can carry another request after the one that has ended; it is then idle.
    pub fn rest(&mut self, now: Instant) -> bool {
        self.sending.rest();
        self.reused = true;
        self.idle_since = now;
        let at_its_end = self.has_ended() && self.sending.ended && self.input.is_empty();
        self.keep_alive && at_its_end && self.stream.is_current()
    }

    pub fn is_too_old(&self, now: Instant) -> bool {
        now.duration_since(self.idle_since) >= self.pool_idle
    }

    /// Whether an idle connection is still open, as far as the runtime knows.
    pub fn is_quiet(&mut self) -> bool {
        self.stream.poll_quiet(&mut Context::from_waker(std::task::Waker::noop()), false)
    }
}

/// Adds what was received, and takes the final head out of it with the bytes that follow it.
fn take_head(
    partial: &mut Vec<u8>,
    received: &[u8],
    to_head: bool,
    interim: &mut dyn FnMut(&ResponseHead),
) -> Result<Option<(ResponseHead, Bytes)>, Malformed> {
    let held = std::mem::take(partial);
    let joined;
    let mut bytes = received;
    if !held.is_empty() {
        joined = [&held, received].concat();
        bytes = &joined;
        // No line ended: nothing that reading it again could tell.
        if !received.contains(&b'\n') && bytes.len() < HEAD_BYTES {
            *partial = joined;
            return Ok(None);
        }
    }
    while !bytes.is_empty() {
        let Some((head, length)) = decode::read_head(bytes, to_head)? else { break };
        bytes = &bytes[length..];
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            interim(&head);
        } else {
            return Ok(Some((head, Bytes::copy_from_slice(bytes))));
        }
    }
    *partial = bytes.to_vec();
    Ok(None)
}
