//! One stream to its end, or to its deadline: an exchange, then its answer as the client takes it.
//!
//! A client that resets the stream ends the task, whatever it waits for. A task that ends before its answer has ended
//! resets the stream.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use httpdate::HttpDate;

use super::streams::Streams;
use crate::proxy::body::ResponseBody;
use crate::proxy::connection::ClientConn;
use crate::proxy::share::{Turn, poll_proceed};
use crate::telemetry::counters::ErrorCode;

/// A first frame of no more goes to the connection at once: it is not worth asking for room.
const SHORT_BYTES: usize = 8 << 10;

pub(super) struct StreamTask {
    pub streams: Rc<Streams>,
    pub conn: Rc<ClientConn>,
    /// In the list of streams.
    pub place: usize,
    pub turn: Turn,
    pub phase: Phase,
}

pub(super) enum Phase {
    Exchange(Exchange),
    Answer(Answer),
}

pub(super) struct Exchange {
    /// In a place of its own, which is given back when the answer begins.
    pub future: Pin<Box<dyn Future<Output = Response<ResponseBody>>>>,
    pub respond: SendResponse<Bytes>,
    /// `HEAD`: the answer has no body, whatever its fields say.
    pub head_only: bool,
}

/// The stream is over: the client has reset it, or its connection has ended.
struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl Future for StreamTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { streams, conn, turn, phase, place } = &mut *self;
        streams.remember(*place, cx.waker());
        let mut is_over = false;
        let polled = turn.poll(&streams.client.worker.turns, cx, |cx| {
            let polled = phase.poll(cx, conn);
            // Nobody took the expiry: it is the client that takes no more. With the turn over, nobody was asked.
            is_over = poll_proceed().is_ready() && conn.take_expired();
            polled
        });
        if polled.is_ready() || is_over {
            return Poll::Ready(());
        }
        // Who waits for his turn is polled again when it comes.
        if turn.is_over() {
            return Poll::Pending;
        }
        streams.look_by(conn.next_look());
        Poll::Pending
    }
}

impl Drop for StreamTask {
    fn drop(&mut self) {
        self.streams.end(self.place);
        if std::thread::panicking() {
            self.streams.client.worker.counters().error(ErrorCode::Internal);
        }
    }
}

impl Phase {
    fn poll(&mut self, cx: &mut Context<'_>, conn: &ClientConn) -> Poll<Result<(), Gone>> {
        loop {
            match self {
                Self::Answer(answer) => return answer.poll(cx),
                Self::Exchange(exchange) => match ready!(exchange.poll(cx, conn))? {
                    Some(answer) => *self = Self::Answer(answer),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}

impl Exchange {
    /// The answer, once its head is with the connection; `None` where that is all of it.
    fn poll(&mut self, cx: &mut Context<'_>, conn: &ClientConn) -> Poll<Result<Option<Answer>, Gone>> {
        let polled = self.future.as_mut().poll(cx);
        let interim = conn.interim.take();
        // On a stream that was reset it would be sent all the same.
        if !interim.is_empty() && self.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        for (status, headers) in interim {
            let mut head = Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = headers;
            self.respond.send_informational(head)?;
        }
        match polled {
            Poll::Ready(response) => Poll::Ready(self.answer(response)),
            Poll::Pending => self.respond.poll_reset(cx).map(|_| Err(Gone)),
        }
    }

    fn answer(&mut self, response: Response<ResponseBody>) -> Result<Option<Answer>, Gone> {
        let (mut head, body) = response.into_parts();
        complete(&mut head.headers, &body);
        let is_all = self.head_only || body.is_end_stream();
        let stream = self.respond.send_response(Response::from_parts(head, ()), is_all)?;
        // Letting go of the body tells its record that it has ended.
        Ok((!is_all).then(|| Answer { stream, body, begun: false, waiting: None }))
    }
}

/// What every head has to say (RFC 9110 §6.6.1, §8.6). An endpoint has told the length that we know of.
fn complete(headers: &mut HeaderMap, body: &ResponseBody) {
    if !headers.contains_key(DATE) {
        let now = HttpDate::from(SystemTime::now()).to_string();
        headers.insert(DATE, HeaderValue::try_from(now).expect("a date is of letters and digits"));
    }
    if let Some(length) = body.left().filter(|_| body.is_own() && !body.is_end_stream()) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// What follows the head.
pub(super) struct Answer {
    stream: SendStream<Bytes>,
    body: ResponseBody,
    /// Some of it is with the connection.
    begun: bool,
    /// Taken from the body, until the connection has room; with whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

impl Answer {
    /// Ready when all of it is with the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        // First: what is read of the body now would count as taken.
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        loop {
            if self.waiting.is_some() {
                ready!(self.poll_room(cx))?;
            }
            if let Some((data, is_last)) = self.waiting.take() {
                if self.send_waiting(data, is_last)? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match self.body.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if self.put(frame)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(None) => return Poll::Ready(self.send(Bytes::new(), true)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Answers whether it was the last.
    fn put(&mut self, frame: Frame<Bytes>) -> Result<bool, Gone> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.stream.send_trailers(frame.into_trailers().unwrap_or_default())?;
                return Ok(true);
            }
        };
        let is_last = self.body.is_end_stream();
        if data.is_empty() && !is_last {
            return Ok(false);
        }
        if data.is_empty() || (data.len() <= SHORT_BYTES && !self.begun && !self.is_needed()) {
            self.send(data, is_last)?;
            return Ok(is_last);
        }
        self.await_room(data, is_last);
        Ok(false)
    }

    /// Not before there is something to send: what is promised to one stream is kept from the others. And not for all of
    /// it, which the connection asks for when it has it.
    fn await_room(&mut self, data: Bytes, is_last: bool) {
        self.stream.reserve_capacity(if self.is_needed() { data.len() } else { 1 });
        self.waiting = Some((data, is_last));
    }

    /// Whether a client that reads nothing before it has sent everything needs this task to the end, where we take the
    /// rest of the request from it: then the connection gets no more than the client takes.
    fn is_needed(&self) -> bool {
        !self.body.has_whole_request()
    }

    /// Answers whether that was the last.
    fn send_waiting(&mut self, mut data: Bytes, is_last: bool) -> Result<bool, Gone> {
        let room = self.stream.capacity();
        if data.len() > room && self.is_needed() {
            self.send(data.split_to(room), false)?;
            self.await_room(data, is_last);
            return Ok(false);
        }
        self.send(data, is_last)?;
        Ok(is_last)
    }

    fn send(&mut self, data: Bytes, is_last: bool) -> Result<(), Gone> {
        self.begun = true;
        Ok(self.stream.send_data(data, is_last)?)
    }

    /// Waits until the client takes more; what waits is dropped where the request breaks meanwhile, of which the body
    /// tells.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Gone)),
                // It may read nothing before it has sent everything.
                Poll::Pending if self.body.push_request(cx) => {
                    self.waiting = None;
                    break;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}
