//! One client connection: hyper's server driven by one task, and a single timer for all its waits.
//!
//! Each phase sets a deadline; the timer is armed for the earliest one it has seen and looks again
//! when it fires. In steady traffic no request touches the timer at all.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::error::raw_reply;
use super::headers::Forwarded;
use super::interim::Interim;
use super::io::ClientIo;
use super::serve::serve;
use super::tunnel::Tunnel;
use super::worker::{ProxyOptions, Worker};
use crate::routing::ids::EnvironmentId;
use crate::telemetry::counters::ErrorCode;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between exchanges, nothing read.
    Idle,
    /// Some of a request head has been read.
    Head,
    /// From a whole request head to the end of the response body.
    Exchange,
}

/// What the parts of a connection (socket, service, bodies) tell each other. One task, so cells do.
pub(super) struct ClientConn {
    pub worker: Rc<Worker>,
    pub environment: EnvironmentId,
    pub peer: SocketAddr,
    pub forwarded: Forwarded,
    phase: Cell<Phase>,
    /// A response may still be in hyper's buffer.
    unflushed: Cell<bool>,
    deadline: Cell<Instant>,
    /// The time-out of a wait without progress in this exchange.
    patience: Cell<Duration>,
    /// The deadline has passed; whoever waits takes this and gives up.
    expired: Cell<bool>,
    /// How long it may be idle; as of the last request.
    keep_alive: Cell<Duration>,
    pub interim: Interim,
    /// Why the request body could not be sent whole.
    pub request_fault: Cell<Option<ErrorCode>>,
    /// The exchange waits for the client's own body, not for the endpoint.
    pub awaits_client: Cell<bool>,
    started: Cell<Instant>,
    /// When the last exchange ended.
    ended: Cell<Instant>,
    flush_blocked: Cell<bool>,
    stopping: Cell<bool>,
    /// A switched exchange, until the connection is its own. [`run`] takes it in any case: it holds this.
    pub tunnel: Cell<Option<Box<Tunnel>>>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
}

/// How a connection's task ended.
enum End {
    /// In order: all was said, or it goes on as a tunnel.
    Finished,
    Closed,
    HeadTimeout,
    /// An idle connection, or a client that took no more bytes.
    Expired,
}

impl ClientConn {
    pub fn new(worker: Rc<Worker>, environment: EnvironmentId, peer: SocketAddr) -> Rc<Self> {
        let now = Instant::now();
        let snapshot = worker.snapshot();
        let ProxyOptions { head_timeout, keep_alive_timeout, .. } = *snapshot.options;
        Rc::new(Self {
            environment,
            peer,
            forwarded: Forwarded::new(peer.ip()),
            // The head's time-out counts from accept, so that a silent client is not held for longer.
            phase: Cell::new(Phase::Head),
            unflushed: Cell::new(false),
            deadline: Cell::new(now + head_timeout),
            patience: Cell::new(head_timeout),
            expired: Cell::new(false),
            keep_alive: Cell::new(keep_alive_timeout),
            interim: Interim::default(),
            request_fault: Cell::new(None),
            awaits_client: Cell::new(false),
            started: Cell::new(now),
            ended: Cell::new(now),
            flush_blocked: Cell::new(false),
            stopping: Cell::new(false),
            tunnel: Cell::default(),
            waker: RefCell::default(),
            worker,
        })
    }

    /// The socket gave bytes.
    pub fn bytes_arrived(&self) {
        // Before the last response is with the kernel, they are a pipelined request's: its time counts from then.
        if self.phase.get() == Phase::Idle && !self.unflushed.get() {
            self.phase.set(Phase::Head);
            self.patience.set(Duration::ZERO);
            self.expired.set(false);
        }
    }

    /// Whether bytes written now belong to an exchange's response.
    pub fn may_be_response(&self) -> bool {
        self.unflushed.get()
    }

    /// All that hyper had buffered is with the kernel.
    pub fn flushed(&self) {
        let busy = self.phase.get() == Phase::Exchange;
        if self.unflushed.replace(busy) && !busy {
            // The end of the exchange, unless the client was slow to take the rest.
            let end = self.ended.get();
            let now = if self.flush_blocked.replace(false) { Instant::now() } else { end };
            self.wait(now, self.keep_alive.get());
        }
    }

    /// The kernel took no more for now.
    pub fn flush_pending(&self) {
        self.flush_blocked.set(true);
    }

    pub fn begin_exchange(&self, now: Instant, options: &ProxyOptions) {
        self.phase.set(Phase::Exchange);
        self.started.set(now);
        self.unflushed.set(true);
        self.request_fault.set(None);
        self.awaits_client.set(false);
        self.keep_alive.set(options.keep_alive_timeout);
        self.wait(now, options.head_timeout);
    }

    /// From now on, give up after `patience` without progress.
    pub fn wait(&self, now: Instant, patience: Duration) {
        self.patience.set(patience);
        self.deadline.set(now + patience);
        // A deadline that passed in this very poll was the last wait's.
        self.expired.set(false);
    }

    /// A body moved on.
    pub fn progress(&self) {
        self.wait(Instant::now(), self.patience.get());
    }

    /// The moment of the request's head.
    pub fn exchange_start(&self) -> Instant {
        self.started.get()
    }

    pub fn end_exchange(&self, now: Instant) {
        self.phase.set(Phase::Idle);
        self.ended.set(now);
        // The client has as long for what hyper still holds as it had for the rest; see `flushed`.
        self.wait(now, self.patience.get());
    }

    /// Whether the wait is over; whoever asks deals with it.
    pub fn take_expired(&self) -> bool {
        self.expired.replace(false)
    }

    /// Finish what is in flight, then close.
    pub fn stop(&self) {
        self.stopping.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// A head that did not arrive whole in one read gets its deadline here, off the common path.
    fn settle_head_deadline(&self) {
        if self.phase.get() == Phase::Head && self.patience.get().is_zero() {
            self.wait(Instant::now(), self.worker.snapshot().options.head_timeout);
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn run(stream: TcpStream, conn: Rc<ClientConn>) {
    let options = conn.worker.snapshot().options.clone();
    let io = TokioIo::new(ClientIo::new(stream, conn.clone()));
    let _held = HeldTunnel(&conn);
    let service = {
        let conn = conn.clone();
        service_fn(move |request: Request<Incoming>| serve(conn.clone(), request))
    };
    let mut http = http1::Builder::new()
        .max_headers(options.head_fields)
        .max_header_size(options.head_bytes)
        .max_buf_size(options.head_bytes.max(MIN_BUFFER_BYTES))
        .serve_connection(io, service);
    let mut timer = pin!(tokio::time::sleep_until(conn.deadline.get().into()));
    let mut told_to_stop = false;
    let end = poll_fn(|cx| {
        conn.remember(cx.waker());
        if conn.stopping.get() && !told_to_stop {
            told_to_stop = true;
            Pin::new(&mut http).graceful_shutdown();
        }
        conn.note_expiry(timer.as_mut(), cx);
        match Pin::new(&mut http).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(End::Finished),
            Poll::Ready(Err(_)) => Poll::Ready(End::Closed),
            Poll::Pending => conn.rearm(timer.as_mut(), cx),
        }
    })
    .await;
    let Parts { io, read_buf, .. } = http.into_parts();
    match end {
        End::Finished => {
            if let Some(mut tunnel) = conn.tunnel.take() {
                tunnel.begin(read_buf);
                pass_through(tunnel, io.into_inner(), &conn, timer).await;
            }
        }
        End::HeadTimeout if !conn.may_be_response() => {
            conn.worker.counters().error(ErrorCode::HeadTimeout);
            let reply = raw_reply(ErrorCode::HeadTimeout, "the request head did not arrive in time");
            // Best effort: what the socket's buffer does not take at once is not worth a wait.
            let _ = io.inner().stream().try_write(&reply);
        }
        End::Closed | End::HeadTimeout | End::Expired => {}
    }
}

/// After a switch there are no messages any more. A stop does not touch it: its deadline does.
async fn pass_through(mut tunnel: Box<Tunnel>, mut client: ClientIo, conn: &ClientConn, mut timer: Pin<&mut Sleep>) {
    poll_fn(|cx| {
        conn.note_expiry(timer.as_mut(), cx);
        match tunnel.poll(cx, &mut client) {
            Poll::Ready(()) => Poll::Ready(End::Closed),
            Poll::Pending => conn.rearm(timer.as_mut(), cx),
        }
    })
    .await;
}

/// Whatever ends the task, an exchange that has switched does not keep its connection, and so itself, alive.
struct HeldTunnel<'a>(&'a ClientConn);

impl Drop for HeldTunnel<'_> {
    fn drop(&mut self) {
        self.0.tunnel.take();
    }
}

/// hyper's own least.
const MIN_BUFFER_BYTES: usize = 8192;

impl ClientConn {
    /// Before hyper is polled: has a wait run out?
    fn note_expiry(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.deadline.get() {
                self.expired.set(true);
                return;
            }
            timer.as_mut().reset(self.deadline.get().into());
        }
    }

    /// After: nobody took the expiry, so it ends the connection; else be woken for the nearest deadline.
    fn rearm(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<End> {
        if self.take_expired() {
            // Outside an exchange it is the head or the next request that did not come. Inside one, whoever
            // waits for the endpoint would have taken it: it is the client that takes no more bytes.
            return Poll::Ready(if self.phase.get() == Phase::Head { End::HeadTimeout } else { End::Expired });
        }
        self.settle_head_deadline();
        let deadline = self.deadline.get().into();
        if deadline < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(deadline);
            if timer.poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}
