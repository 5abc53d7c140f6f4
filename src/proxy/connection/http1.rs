//! HTTP/1.1 with a client: one exchange after the other, all in the connection's one task.
//!
//! [`head`] reads a request, [`wire`] is the socket with the request's body on it, [`answer`] writes what comes back.
//! While an exchange is on, the socket is watched: a client that goes away drops the exchange at once. What a
//! client sends ahead of its turn stays with the kernel, but for a little.
//!
//! Memory: between requests a connection holds no buffer but a small one for output; a head that is not yet whole
//! is held up to `limits.head_bytes`.

mod answer;
#[cfg(test)]
mod fuzz;
mod head;
mod wire;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::header::TE;
use http::{Method, Request};
use tokio::time::Sleep;

use super::{Client, ClientConn, LINGER, Opened};
use crate::proxy::client_body::ClientBody;
use crate::proxy::encode::accepts_trailers;
use crate::proxy::error::raw_reply;
use crate::proxy::serve::serve;
use crate::proxy::share::poll_proceed;
use crate::proxy::tunnel::Tunnel;
use crate::telemetry::counters::ErrorCode;
use answer::{Answer, Asked, Ended};
use head::{Limits, Refused, RequestHead};

pub(in crate::proxy) use answer::Date;
pub(in crate::proxy) use wire::Wire;

/// A client that is answered before it has sent everything is listened to for so long, and so much, so that it
/// gets to read the answer: a socket that is closed with bytes unread takes the answer with it. What is read is dropped.
const UNREAD_PATIENCE: Duration = Duration::from_secs(1);
const UNREAD_BYTES: usize = 16 << 20;

/// Serves the connection to its end; the first head is due at `timer`'s deadline.
pub(super) async fn run(opened: Opened, client: Rc<Client>, timer: Pin<&mut Sleep>) {
    let options = client.worker.snapshot().options.clone();
    let conn = ClientConn::new(client, false, Instant::now(), timer.deadline().into(), &options);
    let wire = Wire::new(opened, conn.clone());
    let limits = Limits { bytes: options.head_bytes, fields: options.head_fields };
    // What was accepted owes a head.
    let mut http1 = Http1 {
        conn,
        wire,
        timer,
        limits,
        partial: Vec::new(),
        in_head: true,
        told_to_stop: false,
        requests: 0,
        max_requests: options.requests_per_connection,
        output: Vec::new(),
    };
    let end = loop {
        let step = match http1.head().await {
            Ok(head) => http1.exchange(head).await,
            Err(end) => Err(end),
        };
        if let Err(end) = step {
            break end;
        }
    };
    match end {
        End::Broken => {}
        End::Closed => http1.wire.say_goodbye(),
        End::Unread => http1.linger().await,
        End::Refused(Refused { code, message }) => {
            http1.conn.worker.counters().error(code);
            // Best effort: what the socket's buffer does not take at once is not worth a wait.
            http1.wire.write_now(&raw_reply(code, message));
            http1.linger().await;
        }
    }
}

struct Http1<'a> {
    conn: Rc<ClientConn>,
    wire: Rc<Wire>,
    timer: Pin<&'a mut Sleep>,
    limits: Limits,
    /// Of a head that is not whole.
    partial: Vec<u8>,
    /// Some of a head has been read, or is owed.
    in_head: bool,
    told_to_stop: bool,
    /// Served on this connection.
    requests: usize,
    max_requests: usize,
    output: Vec<u8>,
}

/// Why the connection is over.
enum End {
    Closed,
    /// Before what was under way could be brought to an end.
    Broken,
    /// The client may still be sending what nobody reads.
    Unread,
    /// The head is answered by ourselves.
    Refused(Refused),
}

impl Http1<'_> {
    /// Polls `step` until it is ready or, without progress, the deadline has passed and nobody who waits took it.
    async fn timed<T>(&mut self, mut step: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>) -> Option<T> {
        poll_fn(|cx| {
            self.conn.task.remember(cx.waker());
            self.note_expiry(cx);
            match step(self, cx) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending => self.rearm(cx).map(|()| None),
            }
        })
        .await
    }

    /// Before anything is polled: has a wait run out?
    fn note_expiry(&mut self, cx: &mut Context<'_>) {
        while self.timer.as_mut().poll(cx).is_ready() {
            self.conn.look(Instant::now());
            if self.conn.expired.get() {
                return;
            }
            self.timer.as_mut().reset(self.conn.next_look().into());
        }
    }

    /// After: ready where nobody took the expiry; else the timer is armed for the nearest deadline.
    fn rearm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // With the turn over, who would have taken it may not have been asked.
        if poll_proceed().is_ready() && self.conn.take_expired() {
            return Poll::Ready(());
        }
        let next = self.conn.next_look().into();
        if next < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// The next request's head.
    async fn head(&mut self) -> Result<RequestHead, End> {
        match self.timed(Self::poll_head).await {
            Some(head) => head,
            None if self.in_head => {
                let message = "the request head did not arrive in time";
                Err(End::Refused(Refused { code: ErrorCode::HeadTimeout, message }))
            }
            None => Err(End::Closed),
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestHead, End>> {
        let early = self.wire.take_input();
        if let Some(head) = self.take_head(&early).transpose() {
            return Poll::Ready(head.map_err(End::Refused));
        }
        let worker = self.conn.worker.clone();
        loop {
            self.heed_stop();
            let mut scratch = worker.scratch.buffer();
            let Ok(count @ 1..) = ready!(self.wire.poll_read(cx, &mut scratch)) else {
                return Poll::Ready(Err(End::Closed));
            };
            if let Some(head) = self.take_head(&scratch[..count]).transpose() {
                return Poll::Ready(head.map_err(End::Refused));
            }
        }
    }

    /// At a stop the connection waits for a last request, that may be under way, and not for long.
    fn heed_stop(&mut self) {
        if self.conn.stopping.get() && !self.told_to_stop && self.partial.is_empty() {
            let now = Instant::now();
            self.told_to_stop = true;
            // Its end is not the client's fault.
            self.in_head = false;
            self.conn.wait(now, LINGER.min(self.conn.deadline.get().saturating_duration_since(now)));
        }
    }

    /// Adds what was received, and takes the head out of it when it is whole.
    fn take_head(&mut self, received: &[u8]) -> Result<Option<RequestHead>, Refused> {
        if received.is_empty() {
            return Ok(None);
        }
        let joined;
        let mut bytes = received;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(received);
            // No line ended: nothing that reading it again could tell.
            if !received.contains(&b'\n') && self.partial.len() < self.limits.bytes {
                return Ok(None);
            }
            joined = std::mem::take(&mut self.partial);
            bytes = &joined;
        }
        let head = head::read(bytes, self.limits)?;
        match &head {
            Some(head) => self.wire.take_rest(&bytes[head.length..]),
            None => self.await_rest(bytes),
        }
        Ok(head)
    }

    fn await_rest(&mut self, bytes: &[u8]) {
        self.partial = bytes.to_vec();
        if !self.in_head {
            self.in_head = true;
            let patience = self.conn.worker.snapshot().options.head_timeout;
            self.conn.wait(Instant::now(), patience);
        }
    }

    /// Serves one request and writes its answer; an error ends the connection.
    async fn exchange(&mut self, head: RequestHead) -> Result<(), End> {
        self.in_head = false;
        self.requests += 1;
        let RequestHead { parts, framing, keep_alive, expects_continue, .. } = head;
        let mut asked = Asked {
            head_only: parts.method == Method::HEAD,
            version: parts.version,
            trailers: parts.headers.get(TE).is_some_and(accepts_trailers),
            keep_alive,
        };
        let has_body = !framing.is_done();
        self.wire.begin(framing, expects_continue);
        let body = if has_body { ClientBody::Http1(self.wire.clone()) } else { ClientBody::None };
        let response = {
            let mut serving = pin!(serve(self.conn.clone(), Request::from_parts(parts, body)));
            self.timed(|http1, cx| http1.poll_served(cx, serving.as_mut())).await
        };
        // Nobody took the expiry: there is no one left to wait for.
        let (parts, body) = response.flatten().ok_or(End::Broken)?.into_parts();
        let tunnel = self.conn.tunnel.take();
        let unasked = self.wire.answer_begins();
        // Of what nobody will read, what is here is passed over, and what is not ends the connection.
        asked.keep_alive &= !unasked && !self.is_last() && (!body.is_own() || self.wire.skip_body());
        let before = std::mem::take(&mut self.output);
        let mut answer = Answer::new(before, &parts, body, asked, &self.conn.worker.date);
        drop(parts);
        let wire = self.wire.clone();
        match self.timed(|_, cx| answer.poll(cx, &wire)).await {
            Some(Ended::Whole) => match tunnel {
                Some(tunnel) => self.pass_through(tunnel).await,
                None => self.after(answer),
            },
            Some(Ended::Broken) | None => {
                if answer.ends_with_connection() {
                    self.wire.abort();
                }
                Err(End::Broken)
            }
        }
    }

    /// Whether the client is to come back over another connection, to whoever listens then.
    fn is_last(&self) -> bool {
        let client = &self.conn;
        client.stopping.get() || client.close_after.get() || client.worker.shared.is_leaving() || self.is_worn()
    }

    fn is_worn(&self) -> bool {
        self.requests >= self.max_requests
    }

    /// After a switch there are no messages any more. A stop does not touch it: its deadline does.
    async fn pass_through(&mut self, mut tunnel: Box<Tunnel>) -> Result<(), End> {
        tunnel.begin(self.wire.take_input());
        self.timed(|http1, cx| tunnel.poll(cx, &mut http1.wire.stream())).await;
        Err(End::Closed)
    }

    /// `None`: the client has gone.
    fn poll_served<R>(&mut self, cx: &mut Context<'_>, serving: Pin<&mut impl Future<Output = R>>) -> Poll<Option<R>> {
        if let Poll::Ready(response) = serving.poll(cx) {
            self.conn.interim.write(&mut self.output);
            return Poll::Ready(Some(response));
        }
        loop {
            if self.output.is_empty() {
                // Only now: what waits elsewhere is bounded there.
                self.conn.interim.write(&mut self.output);
            }
            if self.output.is_empty() {
                break;
            }
            match self.wire.poll_write_two(cx, &self.output, &[]) {
                Poll::Ready(Ok(count @ 1..)) => drop(self.output.drain(..count)),
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        // What cannot go on now goes on with the answer; an error shows when that is read or written.
        let _ = self.wire.poll_flush(cx);
        if self.wire.poll_gone(cx) { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The answer is with the kernel, and so the exchange is over, unless the client was slow to take the rest.
    fn after(&mut self, answer: Answer) -> Result<(), End> {
        let now = if answer.was_blocked { Instant::now() } else { self.conn.ended.get() };
        let unread = !self.wire.has_whole_body();
        if unread || !answer.keep_alive {
            return Err(if unread || self.wire.has_input() { End::Unread } else { End::Closed });
        }
        self.conn.wait(now, self.conn.keep_alive.get());
        self.output = answer.into_buffer();
        Ok(())
    }

    /// Says that no more will be written, and reads until the client has understood.
    async fn linger(&mut self) {
        self.conn.wait(Instant::now(), UNREAD_PATIENCE);
        let (worker, mut left) = (self.conn.worker.clone(), UNREAD_BYTES);
        self.timed(|http1, cx| {
            let _ = ready!(http1.wire.poll_shutdown(cx));
            loop {
                let count = ready!(http1.wire.poll_read(cx, &mut worker.scratch.buffer())).unwrap_or(0);
                left = left.saturating_sub(count);
                if count == 0 || left == 0 {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }
}
