//! Bodies in transit: streamed frame by frame with backpressure, never gathered.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::connection::ClientConn;
use super::interim::Gate;
use super::outcome::{Busy, Record};
use super::upstream::Lease;
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::stats::Outcome;

#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the request body is larger than the agent's max_request_body")]
    TooLarge,
    #[error("the client's body broke off: {0}")]
    Client(hyper::Error),
    #[error("the endpoint's body broke off: {0}")]
    Upstream(hyper::Error),
    #[error("the body stood still for longer than the idle time-out")]
    Idle,
}

/// How long a client that waits for `100 Continue` is left waiting for the endpoint's word.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// A longer body is not sent a second time: it would have to be held in memory for that.
const REPEATABLE_BYTES: usize = 64 << 10;

/// What goes to the endpoint.
pub(super) enum RequestBody {
    Empty,
    /// Shared with the sender, who may have to begin anew.
    Stream(Rc<RefCell<Upload>>),
}

/// A client's body on its way.
pub(super) struct Upload {
    conn: Rc<ClientConn>,
    /// Frames that were read before the decision, because the key was looked for in them.
    read_ahead: VecDeque<Bytes>,
    rest: Incoming,
    left_bytes: u64,
    /// What has been sent, to be sent again if need be; `None` once it is too much, or was never wanted.
    sent: Option<Sent>,
    gate: Option<(Arc<Gate>, Pin<Box<Sleep>>)>,
}

/// The frames of a request body that an endpoint may already have.
#[derive(Default)]
struct Sent {
    frames: Vec<Bytes>,
    bytes: usize,
}

impl RequestBody {
    pub fn new(conn: &Rc<ClientConn>, rest: Incoming, read_ahead: VecDeque<Bytes>, max_bytes: u64) -> Self {
        if rest.is_end_stream() && read_ahead.is_empty() {
            return Self::Empty;
        }
        let upload = Upload { conn: conn.clone(), read_ahead, rest, left_bytes: max_bytes, sent: None, gate: None };
        Self::Stream(Rc::new(RefCell::new(upload)))
    }

    /// Keeps what is sent, up to [`REPEATABLE_BYTES`]; [`RequestBody::again`] then begins anew.
    pub fn keep_for_repeat(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Stream(upload) => {
                upload.borrow_mut().sent = Some(Sent::default());
                Self::Stream(upload.clone())
            }
        }
    }

    /// The body from its beginning; `None` where too much of it is gone.
    pub fn again(self) -> Option<Self> {
        if let Self::Stream(upload) = &self {
            let mut upload = upload.borrow_mut();
            let sent = upload.sent.take()?;
            upload.left_bytes += sent.bytes as u64;
            for bytes in sent.frames.into_iter().rev() {
                upload.read_ahead.push_front(bytes);
            }
        }
        Some(self)
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Sends nothing until the gate opens: by the endpoint's `100 Continue`, or after a second without a word.
    pub fn hold_for_continue(&mut self) -> Option<Arc<Gate>> {
        let Self::Stream(upload) = self else { return None };
        let gate = Arc::new(Gate::default());
        upload.borrow_mut().gate = Some((gate.clone(), Box::pin(tokio::time::sleep(CONTINUE_PATIENCE))));
        Some(gate)
    }
}

impl Upload {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some((gate, patience)) = &mut self.gate {
            if gate.poll(cx).is_pending() && patience.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.gate = None;
        }
        let frame = match self.read_ahead.pop_front() {
            Some(bytes) => Frame::data(bytes),
            None => match self.poll_rest(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    self.conn.request_fault.set(Some(ErrorCode::BadRequest));
                    return Poll::Ready(Some(Err(BodyError::Client(error))));
                }
            },
        };
        self.conn.progress();
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left_bytes.checked_sub(length) else {
            self.conn.request_fault.set(Some(ErrorCode::BodyTooLarge));
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        };
        self.left_bytes = left;
        self.remember(&frame);
        Poll::Ready(Some(Ok(frame)))
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.rest).poll_frame(cx);
        self.conn.awaits_client.set(polled.is_pending());
        polled
    }

    fn remember(&mut self, frame: &Frame<Bytes>) {
        let Some(sent) = &mut self.sent else { return };
        match frame.data_ref() {
            Some(data) if sent.bytes + data.len() <= REPEATABLE_BYTES => {
                sent.bytes += data.len();
                sent.frames.push(data.clone());
            }
            // Too much to keep, or trailers.
            _ => self.sent = None,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.read_ahead.iter().map(|bytes| bytes.len() as u64).sum();
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(ahead + rest),
            None => SizeHint::default(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Stream(upload) => upload.borrow_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(upload) => {
                let upload = upload.borrow();
                upload.read_ahead.is_empty() && upload.rest.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(upload) => upload.borrow().size_hint(),
        }
    }
}

/// What goes to the client.
pub(super) enum ResponseBody {
    /// An answer of our own.
    Own {
        text: Option<Bytes>,
        _busy: Option<Busy>,
    },
    Relay(Box<Relay>),
}

/// An endpoint's body on its way. Polling it is what moves the upstream connection.
pub(super) struct Relay {
    /// `None` once it has ended.
    body: Option<Incoming>,
    /// `None` once the body has ended and the connection went back to its pool.
    lease: Option<Lease>,
    record: Record,
}

impl Relay {
    pub fn new(body: Incoming, lease: Lease, record: Record) -> Self {
        Self { body: Some(body), lease: Some(lease), record }
    }

    fn poll_frame(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut driven = false;
        loop {
            // Nothing reaches the body but by `drive` below, so there is nobody to be woken by.
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(self.pass(frame)))),
                Poll::Ready(Some(Err(error))) => {
                    // A client that leaves in the middle of its upload breaks the connection too.
                    let by_client = self.record.conn().request_fault.get().is_some();
                    self.record.break_off(if by_client { Outcome::ClientError } else { Outcome::Truncated });
                    self.lease = None;
                    return Poll::Ready(Some(Err(BodyError::Upstream(error))));
                }
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Pending if !driven => {
                    driven = true;
                    if let Some(lease) = &mut self.lease {
                        lease.upstream().drive(&self.record.conn().damper);
                    }
                }
                Poll::Pending => return self.poll_idle(),
            }
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
        // hyper takes nothing after trailers, not even the end.
        if frame.is_trailers() || self.is_end_stream() {
            self.finish();
        } else {
            self.record.conn().progress();
        }
        frame
    }

    fn poll_idle(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.record.conn().take_expired() {
            return Poll::Pending;
        }
        let by_client = self.record.conn().awaits_client.get();
        self.record.break_off(if by_client { Outcome::ClientError } else { Outcome::IdleTimeout });
        self.lease = None;
        Poll::Ready(Some(Err(BodyError::Idle)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn finish(&mut self) {
        // Its end wakes the connection; that is to happen before the connection goes back, not after.
        self.body = None;
        let now = Instant::now();
        self.record.complete(now);
        if let Some(lease) = self.lease.take() {
            lease.give_back(&self.record.conn().damper, now);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Own { text, .. } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relay(relay) => relay.poll_frame(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, .. } => text.is_none(),
            Self::Relay(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Relay(relay) => relay.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A body without bytes (204, HEAD, empty) is never polled: it was complete with its head.
        if self.lease.is_some() && self.is_end_stream() {
            self.finish();
        }
    }
}
