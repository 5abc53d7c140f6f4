//! Bodies in transit: streamed frame by frame with backpressure, never gathered.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request;
use http_body::Frame;
use tokio::time::Sleep;

use super::client_body::{ClientBody, ClientBroken};
use super::connection::ClientConn;
use super::conversation;
use super::encode::RequestFraming;
use super::outcome::{Busy, Record};
use super::pool::Lease;
use super::share::{FRAME, charge, end_turn, poll_proceed};
use super::streamed::Silence;
use super::upstream::Broken;
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::stats::Outcome;

#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the request body is larger than the agent's max_request_body")]
    TooLarge,
    #[error("the client's body broke off: {0}")]
    Client(ClientBroken),
    #[error("the endpoint's body broke off: {0}")]
    Upstream(Broken),
    #[error("the body stood still for longer than the idle time-out")]
    Idle,
    #[error("the exchange took longer than the request time-out")]
    Late,
    #[error("no event came for longer than the stall time-out")]
    Stalled,
}

/// How long a client that waits for `100 Continue` is left waiting for the endpoint's word.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// A longer body is not sent a second time: it would have to be held in memory for that.
const REPEATABLE_BYTES: usize = 64 << 10;

/// What goes to the endpoint; `None` where there is no body.
pub(super) struct RequestBody(Option<Box<Upload>>);

/// A client's body on its way.
struct Upload {
    conn: Rc<ClientConn>,
    /// Frames that were read before the decision, because the key was looked for in them.
    read_ahead: VecDeque<Bytes>,
    rest: ClientBody,
    left_bytes: u64,
    /// What an endpoint may already have, to be sent again if need be; `None` once it is too much, or not wanted. A
    /// copy: a frame, however short, would keep all that was read with it.
    sent: Option<Vec<u8>>,
    /// Nothing is sent before the endpoint's `100 Continue`, or this.
    gate: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub fn new(conn: &Rc<ClientConn>, rest: ClientBody, read_ahead: VecDeque<Bytes>, max_bytes: u64) -> Self {
        if rest.has_ended() && read_ahead.is_empty() {
            return Self(None);
        }
        let conn = conn.clone();
        Self(Some(Box::new(Upload { conn, read_ahead, rest, left_bytes: max_bytes, sent: None, gate: None })))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether nothing more will come, as far as that can be told without waiting.
    pub fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.read_ahead.is_empty() && upload.rest.has_ended())
    }

    /// How its end is told to the endpoint.
    pub fn framing(&self, parts: &request::Parts) -> RequestFraming {
        match &self.0 {
            None => RequestFraming::of_empty(parts),
            Some(upload) => upload.length().map_or(RequestFraming::Chunked, RequestFraming::Length),
        }
    }

    /// Keeps what is sent, up to [`REPEATABLE_BYTES`], for [`RequestBody::rewind`].
    pub fn keep_for_repeat(&mut self) {
        if let Some(upload) = &mut self.0 {
            upload.sent = Some(Vec::new());
        }
    }

    /// An endpoint has answered: it will not be sent again.
    pub fn forget_sent(&mut self) {
        if let Some(upload) = &mut self.0 {
            upload.sent = None;
        }
    }

    /// Whether [`RequestBody::rewind`] gets it back whole.
    pub fn may_be_repeated(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.sent.is_some())
    }

    /// Back to its beginning, or to where [`RequestBody::keep_for_repeat`] has begun. What was not kept is gone.
    pub fn rewind(&mut self) {
        let Some(upload) = &mut self.0 else { return };
        let Some(sent) = upload.sent.take() else { return };
        upload.left_bytes += sent.len() as u64;
        if !sent.is_empty() {
            upload.read_ahead.push_front(sent.into());
        }
    }

    /// Sends nothing until [`RequestBody::go_on`], or a second without a word.
    pub fn hold_for_continue(&mut self) {
        if let Some(upload) = &mut self.0 {
            upload.gate = Some(Box::pin(tokio::time::sleep(CONTINUE_PATIENCE)));
        }
    }

    /// The endpoint has asked for it.
    pub fn go_on(&mut self) {
        if let Some(upload) = &mut self.0 {
            upload.gate = None;
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |upload| upload.poll_frame(cx))
    }
}

impl Upload {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(patience) = &mut self.gate {
            ready!(patience.as_mut().poll(cx));
            self.gate = None;
        }
        let frame = match self.read_ahead.pop_front() {
            Some(bytes) => Frame::data(bytes),
            None => match ready!(self.poll_rest(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
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

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBroken>>> {
        let polled = self.rest.poll_frame(cx);
        self.conn.awaits_client.set(polled.is_pending());
        polled
    }

    fn remember(&mut self, frame: &Frame<Bytes>) {
        let Some(sent) = &mut self.sent else { return };
        match frame.data_ref() {
            Some(data) if sent.len() + data.len() <= REPEATABLE_BYTES => sent.extend_from_slice(data),
            // Too much to keep, or trailers.
            _ => self.sent = None,
        }
    }

    /// How long it is, where the client has said so.
    fn length(&self) -> Option<u64> {
        let ahead: u64 = self.read_ahead.iter().map(|bytes| bytes.len() as u64).sum();
        self.rest.length().map(|rest| ahead + rest)
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
    /// `None` once the body has ended and the connection went back to its pool, or broke.
    lease: Option<Lease>,
    /// What broke it, and is still to be told.
    broken: Option<BodyError>,
    /// What broke the request while nobody asked for more of the answer.
    unsent: Option<Broken>,
    /// What the endpoint has not yet taken of the request; it goes on beside the response.
    request: RequestBody,
    record: Record,
    /// When all of it was here, where that is known before it is passed on: a clock costs more than a field.
    received: Option<Instant>,
}

impl Relay {
    /// `now` is when the head came.
    pub fn new(lease: Lease, request: RequestBody, record: Record, now: Instant) -> Self {
        let received = lease.upstream_ref().has_received_all().then_some(now);
        Self { lease: Some(lease), broken: None, unsent: None, request, record, received }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(self.broken.take().map(Err)) };
        ready!(poll_proceed());
        let scratch = &self.record.conn().worker.scratch;
        let polled = match self.unsent.take() {
            Some(broken) => Poll::Ready(Some(Err(broken))),
            None => lease.upstream().poll_frame(cx, scratch, &mut self.request),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.pass(frame)))),
            Poll::Ready(Some(Err(broken))) => {
                // A client that leaves in the middle of its upload breaks the connection too.
                let by_client = self.record.conn().request_fault.get().is_some();
                let outcome = if by_client { Outcome::ClientError } else { Outcome::Truncated };
                self.give_up(outcome, BodyError::Upstream(broken), cx)
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_idle(cx),
        }
    }

    /// A reset of HTTP/2 overtakes what came before it and is not written yet, be it the head: so that is written
    /// first, in the turn that the connection gets now, or by the ticket that it has: the stream ends its own turn, and
    /// is called behind it. A client that takes nothing may still miss it.
    fn give_up(
        &mut self,
        outcome: Outcome,
        error: BodyError,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.record.break_off(outcome);
        self.lease = None;
        if !self.record.conn().http2 {
            return Poll::Ready(Some(Err(error)));
        }
        self.broken = Some(error);
        end_turn();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn push_request(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(lease) = &mut self.lease else {
            self.drop_request(cx);
            return false;
        };
        if self.unsent.is_none() {
            self.unsent = lease.upstream().push(cx, &mut self.request).err();
        }
        if lease.upstream_ref().refuses() {
            self.drop_request(cx);
        }
        self.unsent.is_some()
    }

    /// Reads what comes of a request that nobody wants any more. It is bounded like any.
    fn drop_request(&mut self, cx: &mut Context<'_>) {
        loop {
            match self.request.poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return self.request = RequestBody(None),
                Poll::Pending => return,
            }
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        charge(FRAME);
        if let Some(data) = frame.data_ref() {
            conversation::see(&mut self.record, data);
        }
        // Nothing comes after trailers, and nobody asks for it.
        let last = frame.is_trailers() || self.is_end_stream();
        self.record.pass(&frame, last, self.received);
        if last {
            self.finish();
        }
        frame
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let conn = self.record.conn();
        if conn.take_expired() {
            let (outcome, error) = match conn.is_over_limit() {
                true => (Outcome::ResponseTimeout, BodyError::Late),
                false => (Outcome::IdleTimeout, BodyError::Idle),
            };
            let by_client = conn.awaits_client.get();
            return self.give_up(if by_client { Outcome::ClientError } else { outcome }, error, cx);
        }
        match self.record.is_silent() {
            Silence::Bear => Poll::Pending,
            Silence::Fill(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Silence::End => self.give_up(Outcome::Stalled, BodyError::Stalled, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.lease.as_ref().is_none_or(|lease| lease.upstream_ref().has_ended())
    }

    fn left(&self) -> Option<u64> {
        self.lease.as_ref().map_or(Some(0), |lease| lease.upstream_ref().body_left())
    }

    fn finish(&mut self) {
        let now = self.received.unwrap_or_else(Instant::now);
        self.record.complete(now);
        if let Some(lease) = self.lease.take() {
            lease.give_back(now);
        }
    }
}

impl ResponseBody {
    /// Whether it is an answer of our own, beside which nothing of the request is sent on.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own { .. })
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Own { text, .. } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relay(relay) => relay.poll_frame(cx),
        }
    }

    /// Moves the request on while the client takes no more of the answer: it may send everything before it reads.
    /// Whether the exchange broke, of which the next frame tells.
    pub fn push_request(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Own { .. } => false,
            Self::Relay(relay) => relay.push_request(cx),
        }
    }

    /// Nothing of the request is left with the client; or nobody asks for it.
    pub fn has_whole_request(&self) -> bool {
        match self {
            Self::Own { .. } => true,
            Self::Relay(relay) => relay.request.has_ended(),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, .. } => text.is_none(),
            Self::Relay(relay) => relay.is_end_stream(),
        }
    }

    /// What is left of it, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Own { text, .. } => Some(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Relay(relay) => relay.left(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A body without bytes (204, HEAD, empty) is never polled: it was complete with its head. Nor is one whose
        // announced bytes are all there, though an end of stream or trailers may follow them on HTTP/2.
        if self.lease.as_ref().is_some_and(|lease| lease.upstream_ref().body_left() == Some(0)) {
            self.finish();
        }
    }
}
