//! HTTP/1.1 with a client: hyper's server driven by one task, with one exchange at a time.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Sleep;

use super::{Client, ClientConn, LINGER, Opened, refuse_late_head};
use crate::proxy::io::ClientIo;
use crate::proxy::serve::serve;
use crate::proxy::tunnel::Tunnel;

/// What the socket and the task tell each other beside the exchange.
pub(in crate::proxy) struct Http1 {
    pub conn: Rc<ClientConn>,
    /// Some of a request head has been read, and no exchange has begun with it.
    head: Cell<bool>,
    /// A response may still be in hyper's buffer.
    unflushed: Cell<bool>,
    flush_blocked: Cell<bool>,
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

impl Http1 {
    fn new(conn: Rc<ClientConn>) -> Rc<Self> {
        let (unflushed, flush_blocked) = (Cell::new(false), Cell::new(false));
        // What was accepted owes a head.
        Rc::new(Self { conn, head: Cell::new(true), unflushed, flush_blocked })
    }

    /// The socket gave bytes.
    pub fn bytes_arrived(&self) {
        // Before the last response is with the kernel, they are a pipelined request's: its time counts from then.
        if !self.conn.busy.get() && !self.head.get() && !self.unflushed.get() {
            self.head.set(true);
            self.conn.patience.set(Duration::ZERO);
            self.conn.expired.set(false);
        }
    }

    /// The head is whole.
    fn exchange_begins(&self) {
        self.head.set(false);
        self.unflushed.set(true);
    }

    /// Whether bytes written now belong to an exchange's response.
    pub fn may_be_response(&self) -> bool {
        self.unflushed.get()
    }

    /// All that hyper had buffered is with the kernel.
    pub fn flushed(&self) {
        let busy = self.conn.busy.get();
        if self.unflushed.replace(busy) && !busy {
            // The end of the exchange, unless the client was slow to take the rest.
            let end = self.conn.ended.get();
            let now = if self.flush_blocked.replace(false) { Instant::now() } else { end };
            self.conn.wait(now, self.conn.keep_alive.get());
        }
    }

    /// The kernel took no more for now.
    pub fn flush_pending(&self) {
        self.flush_blocked.set(true);
    }

    /// The last wait for a request, and not a client's fault.
    fn linger(&self) {
        let now = Instant::now();
        self.head.set(false);
        self.conn.wait(now, LINGER.min(self.conn.deadline.get().saturating_duration_since(now)));
    }

    /// A head that did not arrive whole in one read gets its deadline here, off the common path.
    fn settle_head_deadline(&self) {
        if self.head.get() && self.conn.patience.get().is_zero() {
            self.conn.wait(Instant::now(), self.conn.worker.snapshot().options.head_timeout);
        }
    }

    /// Before hyper is polled: has a wait run out?
    fn note_expiry(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        while timer.as_mut().poll(cx).is_ready() {
            self.conn.look(Instant::now());
            if self.conn.expired.get() {
                return;
            }
            timer.as_mut().reset(self.conn.next_look().into());
        }
    }

    /// After: nobody took the expiry, so it ends the connection; else be woken for the nearest deadline.
    fn rearm(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<End> {
        if self.conn.take_expired() {
            // Outside an exchange it is the head or the next request that did not come. Inside one, whoever
            // waits for the endpoint would have taken it: it is the client that takes no more bytes.
            return Poll::Ready(if self.head.get() { End::HeadTimeout } else { End::Expired });
        }
        self.settle_head_deadline();
        let next = self.conn.next_look().into();
        if next < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(next);
            if timer.poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

/// Serves the connection to its end; the first head is due at `timer`'s deadline.
pub(super) async fn run(opened: Opened, client: Rc<Client>, mut timer: Pin<&mut Sleep>) {
    let options = client.worker.snapshot().options.clone();
    let conn = ClientConn::new(client, false, timer.deadline().into(), &options);
    let http1 = Http1::new(conn.clone());
    let io = TokioIo::new(ClientIo::new(opened, http1.clone()));
    let _held = HeldTunnel(&conn);
    let service = {
        let http1 = http1.clone();
        service_fn(move |request: Request<Incoming>| {
            http1.exchange_begins();
            serve(http1.conn.clone(), request)
        })
    };
    let mut http = http1::Builder::new()
        .max_headers(options.head_fields)
        .max_header_size(options.head_bytes)
        .max_buf_size(options.head_bytes.max(MIN_BUFFER_BYTES))
        .serve_connection(io, service);
    let mut told_to_stop = false;
    let end = poll_fn(|cx| {
        conn.task.remember(cx.waker());
        if conn.stopping.get() && !told_to_stop {
            told_to_stop = true;
            if conn.busy.get() {
                Pin::new(&mut http).graceful_shutdown();
            } else {
                http1.linger();
            }
        }
        http1.note_expiry(timer.as_mut(), cx);
        match Pin::new(&mut http).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(End::Finished),
            Poll::Ready(Err(_)) => Poll::Ready(End::Closed),
            Poll::Pending => http1.rearm(timer.as_mut(), cx),
        }
    })
    .await;
    let Parts { io, read_buf, .. } = http.into_parts();
    match end {
        End::Finished => {
            if let Some(mut tunnel) = conn.tunnel.take() {
                tunnel.begin(read_buf);
                pass_through(tunnel, io.into_inner(), &http1, timer).await;
            }
        }
        End::HeadTimeout if !http1.may_be_response() => refuse_late_head(io.inner().stream(), &conn),
        End::Closed | End::HeadTimeout | End::Expired => {}
    }
}

/// After a switch there are no messages any more. A stop does not touch it: its deadline does.
async fn pass_through(mut tunnel: Box<Tunnel>, mut client: ClientIo, http1: &Http1, mut timer: Pin<&mut Sleep>) {
    poll_fn(|cx| {
        http1.note_expiry(timer.as_mut(), cx);
        match tunnel.poll(cx, &mut client) {
            Poll::Ready(()) => Poll::Ready(End::Finished),
            Poll::Pending => http1.rearm(timer.as_mut(), cx),
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
