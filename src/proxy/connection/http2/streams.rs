//! The streams of a connection, by place, and when its timer has to look at them.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request};
use tokio::time::Sleep;

use super::stream::{Exchange, Phase, StreamTask};
use super::{Client, ClientConn, Frames, Received, Task};
use crate::proxy::client_body::ClientBody;
use crate::proxy::serve::serve;
use crate::proxy::share::Turn;
use crate::proxy::worker::ProxyOptions;
use crate::telemetry::counters::ErrorCode;

/// How long a client has to close a connection without streams after it was told that there will be none.
const GOODBYE: Duration = Duration::from_secs(2);
/// When a connection is looked at again whose turn was over.
const AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Streams {
    pub client: Rc<Client>,
    /// By place; the places of those that have ended are used again.
    live: RefCell<Vec<Option<Stream>>>,
    /// Those places.
    free: RefCell<Vec<usize>>,
    /// Since when there has been none.
    idle_since: Cell<Instant>,
    /// For how long there may be none; as of the last request.
    pub keep_alive: Cell<Duration>,
    pub next_look: Cell<Instant>,
    /// No more streams are taken.
    pub leaving: Cell<bool>,
    pub frames: Rc<RefCell<Frames>>,
    head_patience: Duration,
    /// How many more requests are taken.
    requests_left: Cell<usize>,
}

struct Stream {
    conn: Rc<ClientConn>,
    task: Task,
}

impl Streams {
    pub fn new(client: Rc<Client>, options: &ProxyOptions) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            client,
            live: RefCell::default(),
            free: RefCell::default(),
            idle_since: Cell::new(now),
            keep_alive: Cell::new(options.keep_alive_timeout),
            next_look: Cell::new(now + options.keep_alive_timeout),
            leaving: Cell::new(false),
            frames: Rc::new(RefCell::new(Frames::new(options.http2_floods))),
            head_patience: options.head_timeout,
            requests_left: Cell::new(options.requests_per_connection),
        })
    }

    /// Serves a request that has just arrived, beside the connection and on its worker.
    pub fn begin(self: &Rc<Self>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (now, snapshot) = (Instant::now(), self.client.worker.snapshot());
        let deadline = now + snapshot.options.head_timeout;
        let conn = ClientConn::new(self.client.clone(), true, now, deadline, &snapshot.options);
        let head_only = request.method() == Method::HEAD;
        let (head, body) = request.into_parts();
        let body = ClientBody::Http2(Received::new(body, &head.headers, &conn));
        let future = Box::pin(serve(conn.clone(), Request::from_parts(head, body)));
        let (place, turn) = (self.admit(conn.clone()), Turn::new(&self.client.worker.turns));
        let phase = Phase::Exchange(Exchange { future, respond, head_only });
        tokio::task::spawn_local(StreamTask { streams: self.clone(), conn, place, turn, phase });
        self.requests_left.set(self.requests_left.get().saturating_sub(1));
        if self.requests_left.get() == 0 {
            self.leave();
            self.client.task.wake();
        }
    }

    /// When a head that has begun must be whole.
    fn head_due(&self) -> Option<Instant> {
        self.frames.borrow().unfinished_since().map(|since| since + self.head_patience)
    }

    /// `has_read`: else it is not known whether the head is still not whole.
    pub fn await_head(&self, has_read: bool) {
        if let Some(due) = self.head_due().filter(|_| has_read) {
            self.look_by(due);
        }
    }

    /// Lists an exchange, and says where.
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

    /// How to wake the stream.
    pub fn remember(&self, place: usize, waker: &Waker) {
        if let Some(stream) = &self.live.borrow()[place] {
            stream.task.remember(waker);
        }
    }

    pub fn end(&self, place: usize) {
        let stream = self.live.borrow_mut()[place].take();
        self.free.borrow_mut().push(place);
        if let Some(stream) = stream
            && self.is_idle()
        {
            self.idle_since.set(Instant::now());
            self.keep_alive.set(stream.conn.keep_alive.get());
            self.look_by(self.idle_until(false));
        }
    }

    fn is_idle(&self) -> bool {
        self.live.borrow().len() == self.free.borrow().len()
    }

    /// `unsent`: answers still wait for the client, which is to have them also where it was told to leave.
    fn idle_until(&self, unsent: bool) -> Instant {
        let keep_alive = self.keep_alive.get();
        self.idle_since.get() + if self.leaving.get() && !unsent { GOODBYE.min(keep_alive) } else { keep_alive }
    }

    /// Takes no more streams.
    pub fn leave(&self) {
        if !self.leaving.replace(true) {
            self.idle_since.set(Instant::now());
            self.look_not_after(self.idle_until(false));
        }
    }

    /// Wakes the streams whose time is over; answers whether the connection's own is, too. `has_read`: what has arrived
    /// has been read. `unsent`: some of what streams have passed on still waits for the client.
    pub fn look(&self, now: Instant, has_read: bool, unsent: bool) -> bool {
        let mut next = now + self.keep_alive.get().max(GOODBYE);
        match self.head_due() {
            Some(due) if due <= now && has_read => {
                self.client.worker.counters().error(ErrorCode::HeadTimeout);
                return true;
            }
            // When it is this connection's turn again.
            Some(due) if due <= now => next = next.min(now + AGAIN),
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
        if unsent && std::mem::take(&mut self.frames.borrow_mut().told) {
            self.idle_since.set(now);
        }
        let until = self.idle_until(unsent);
        if until > now {
            self.next_look.set(until.min(next));
            return false;
        }
        // First it is told; then it is over.
        let told = self.leaving.get();
        self.leave();
        told
    }

    /// As [`Streams::look_by`], for whoever is about to set the timer.
    pub fn look_not_after(&self, deadline: Instant) {
        self.next_look.set(self.next_look.get().min(deadline));
    }

    /// Has the timer look at `deadline` or before.
    pub fn look_by(&self, deadline: Instant) {
        if deadline < self.next_look.get() {
            self.next_look.set(deadline);
            self.client.task.wake();
        }
    }

    pub fn rearm(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        let next = self.next_look.get().into();
        if next < timer.deadline() {
            timer.as_mut().reset(next);
            if timer.poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}
