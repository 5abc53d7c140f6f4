//! HTTP/2 with a client: hyper's server is the connection's task, and each stream is a task of its own with an
//! exchange of its own, so that one that waits, breaks or is cancelled is nothing to the others.
//!
//! The connection has the one timer. It looks at the deadlines of all streams when it fires and wakes those whose
//! time is over; a stream that wants it earlier wakes the connection. A stream that nobody gives up by itself is
//! reset: its client takes no more bytes of it. Interim (1xx) answers are not passed on, for hyper's server cannot
//! send them; a client that waits for `100 Continue` sends its body when it has waited long enough.
//!
//! Bounds, per connection: `streams_per_connection` streams, of which more are refused; [`CONNECTION_WINDOW`] bytes
//! of request bodies that no endpoint has taken, [`STREAM_WINDOW`] of any one; [`SEND_BYTES`] and a frame of each
//! response that the client has not taken; a head of `head_bytes` and of as many frames as that fills, and five at
//! least. A connection is closed on a client that resets [`RESETS_AT_ONCE`] streams before we could look at them,
//! that has had to be refused `stream_errors` streams, that floods us with [`frames`], whose head is not whole within
//! `head_timeout`, or that has not answered a ping for [`PING_PATIENCE`]. After `requests_per_connection` it is told
//! to open another.

mod frames;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Sleep;

pub use frames::Floods;
use frames::{Frames, Watched};

use super::{Client, ClientConn, Opened, Task};
use crate::proxy::client_body::ClientBody;
use crate::proxy::serve::serve;
use crate::proxy::share::Turn;
use crate::proxy::worker::ProxyOptions;
use crate::telemetry::counters::{ErrorCode, add};

const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BYTES: usize = 64 << 10;
const RESETS_AT_ONCE: usize = 32;
/// How long a client is left in peace, and how long it has to answer; both at most the keep-alive time-out.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How long a client has to close a connection without streams after it was told that there will be none.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves the connection to its end. `timer` is the one that the preface was due by.
pub(super) async fn run(opened: Opened, client: Rc<Client>, mut timer: Pin<&mut Sleep>) {
    let options = client.worker.snapshot().options.clone();
    add(&client.worker.counters().client_http2);
    let streams = Streams::new(client, &options);
    let service = {
        let streams = streams.clone();
        service_fn(move |request: Request<Incoming>| {
            // On the heap at once: what is made of it is moved several times before it runs.
            let exchange = Box::pin(serve(streams.begin(), request.map(ClientBody::Http2)));
            async move { Ok::<_, Infallible>(exchange.await) }
        })
    };
    let io = TokioIo::new(Watched::new(opened, streams.frames.clone()));
    let mut http = pin!(builder(&options, streams.clone()).serve_connection(io, service));
    let mut told_to_leave = false;
    poll_fn(|cx| {
        streams.client.task.remember(cx.waker());
        if streams.client.stopping.get() {
            streams.leave();
        }
        while timer.as_mut().poll(cx).is_ready() {
            if streams.look(Instant::now()) {
                return Poll::Ready(());
            }
            timer.as_mut().reset(streams.next_look.get().into());
        }
        if streams.leaving.get() && !told_to_leave {
            told_to_leave = true;
            http.as_mut().graceful_shutdown();
        }
        // Why it ended is the client's affair: its streams are told, and their records tell.
        if http.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        streams.await_head();
        streams.rearm(timer.as_mut(), cx);
        Poll::Pending
    })
    .await;
    if streams.frames.borrow().is_flood() {
        add(&streams.client.worker.counters().client_floods);
    }
}

fn builder(options: &ProxyOptions, streams: Rc<Streams>) -> Builder<OnWorker> {
    let patient = |most: Duration| most.min(options.keep_alive_timeout);
    let mut builder = Builder::new(OnWorker(streams));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_per_connection)
        .max_header_list_size(u32::try_from(options.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BYTES)
        .max_pending_accept_reset_streams(RESETS_AT_ONCE)
        .max_local_error_reset_streams(options.stream_errors)
        .keep_alive_interval(patient(PING_EVERY))
        .keep_alive_timeout(patient(PING_PATIENCE));
    builder
}

/// The streams of a connection, and when its timer has to look at them.
struct Streams {
    client: Rc<Client>,
    /// By place; the places of those that have ended are used again.
    live: RefCell<Vec<Option<Stream>>>,
    /// Those places.
    free: RefCell<Vec<usize>>,
    /// Begun by the service, and about to get its task.
    begun: RefCell<Option<Rc<ClientConn>>>,
    /// Since when there has been none, and for how long there may be none.
    idle_since: Cell<Instant>,
    idle_patience: Cell<Duration>,
    next_look: Cell<Instant>,
    /// No more streams are taken.
    leaving: Cell<bool>,
    frames: Rc<RefCell<Frames>>,
    head_patience: Duration,
    /// How many more requests are taken.
    requests_left: Cell<usize>,
}

struct Stream {
    conn: Rc<ClientConn>,
    task: Task,
}

impl Streams {
    fn new(client: Rc<Client>, options: &ProxyOptions) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            client,
            live: RefCell::default(),
            free: RefCell::default(),
            begun: RefCell::default(),
            idle_since: Cell::new(now),
            idle_patience: Cell::new(options.keep_alive_timeout),
            next_look: Cell::new(now + options.keep_alive_timeout),
            leaving: Cell::new(false),
            frames: Rc::new(RefCell::new(Frames::new(options.http2_floods))),
            head_patience: options.head_timeout,
            requests_left: Cell::new(options.requests_per_connection),
        })
    }

    /// The exchange of a request that has just arrived.
    fn begin(&self) -> Rc<ClientConn> {
        let options = &self.client.worker.snapshot().options;
        let conn = ClientConn::new(self.client.clone(), true, Instant::now() + options.head_timeout, options);
        *self.begun.borrow_mut() = Some(conn.clone());
        self.requests_left.set(self.requests_left.get().saturating_sub(1));
        if self.requests_left.get() == 0 {
            self.leave();
            self.client.task.wake();
        }
        conn
    }

    /// When a head that has begun must be whole.
    fn head_due(&self) -> Option<Instant> {
        self.frames.borrow().unfinished_since().map(|since| since + self.head_patience)
    }

    fn await_head(&self) {
        if let Some(due) = self.head_due() {
            self.look_by(due);
        }
    }

    /// Lists the exchange begun last, and says where.
    fn admit(&self, conn: Rc<ClientConn>) -> usize {
        let stream = Some(Stream { conn, task: Task::default() });
        let mut live = self.live.borrow_mut();
        if let Some(place) = self.free.borrow_mut().pop() {
            live[place] = stream;
            return place;
        }
        live.push(stream);
        live.len() - 1
    }

    fn end(&self, place: usize) {
        let stream = self.live.borrow_mut()[place].take();
        self.free.borrow_mut().push(place);
        if let Some(stream) = stream
            && self.is_idle()
        {
            self.idle_since.set(Instant::now());
            if !self.leaving.get() {
                self.idle_patience.set(stream.conn.keep_alive.get());
            }
            self.look_by(self.idle_until());
        }
    }

    fn is_idle(&self) -> bool {
        self.live.borrow().len() == self.free.borrow().len()
    }

    fn idle_until(&self) -> Instant {
        self.idle_since.get() + self.idle_patience.get()
    }

    /// Takes no more streams.
    fn leave(&self) {
        if !self.leaving.replace(true) {
            self.idle_since.set(Instant::now());
            self.idle_patience.set(GOODBYE);
            self.next_look.set(self.next_look.get().min(self.idle_until()));
        }
    }

    /// Wakes the streams whose time is over; answers whether the connection's own is, too.
    fn look(&self, now: Instant) -> bool {
        let mut next = now + self.idle_patience.get().max(GOODBYE);
        match self.head_due() {
            Some(due) if due <= now => {
                self.client.worker.counters().error(ErrorCode::HeadTimeout);
                return true;
            }
            due => next = due.map_or(next, |due| due.min(next)),
        }
        for stream in self.live.borrow().iter().flatten() {
            if stream.conn.look(now) {
                stream.task.wake();
            } else {
                next = next.min(stream.conn.next_look());
            }
        }
        self.next_look.set(next);
        if !self.is_idle() {
            return false;
        }
        if self.idle_until() > now {
            self.next_look.set(self.idle_until().min(next));
            return false;
        }
        // First it is told; then it is over.
        let told = self.leaving.get();
        self.leave();
        told
    }

    /// Has the timer look at `deadline` or before.
    fn look_by(&self, deadline: Instant) {
        if deadline < self.next_look.get() {
            self.next_look.set(deadline);
            self.client.task.wake();
        }
    }

    fn rearm(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        let next = self.next_look.get().into();
        if next < timer.deadline() {
            timer.as_mut().reset(next);
            if timer.poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// Where hyper's tasks for the streams run: beside the connection, on its worker.
#[derive(Clone)]
struct OnWorker(Rc<Streams>);

impl<F: Future<Output = ()> + 'static> Executor<F> for OnWorker {
    fn execute(&self, future: F) {
        let streams = self.0.clone();
        let Some(conn) = streams.begun.take() else {
            tokio::task::spawn_local(future);
            return;
        };
        let place = streams.admit(conn.clone());
        let (turn, future) = (Turn::new(&streams.client.worker.turns), Box::pin(future));
        tokio::task::spawn_local(StreamTask { streams, conn, place, turn, future });
    }
}

/// One stream to its end, or to its deadline.
struct StreamTask<F> {
    streams: Rc<Streams>,
    conn: Rc<ClientConn>,
    place: usize,
    turn: Turn,
    future: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(stream) = &self.streams.live.borrow()[self.place] {
            stream.task.remember(cx.waker());
        }
        let Self { streams, conn, turn, future, .. } = &mut *self;
        if turn.poll(&streams.client.worker.turns, cx, |cx| future.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        // Who waits for his turn is polled again when it comes.
        if turn.is_over() {
            return Poll::Pending;
        }
        // Nobody took the expiry: it is the client that takes no more. Dropping its future resets the stream.
        if conn.take_expired() {
            return Poll::Ready(());
        }
        streams.look_by(conn.next_look());
        Poll::Pending
    }
}

impl<F> Drop for StreamTask<F> {
    fn drop(&mut self) {
        self.streams.end(self.place);
        if std::thread::panicking() {
            self.streams.client.worker.counters().error(ErrorCode::Internal);
        }
    }
}
