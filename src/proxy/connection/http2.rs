//! HTTP/2 with a client: the connection is a task, and each of its [`streams`] is a task of its own with an exchange of
//! its own ([`stream`]), so that one that waits, breaks or is cancelled is nothing to the others.
//!
//! The frames are h2's, the library beneath hyper's server, without that server: it cannot send interim (1xx) answers,
//! and sends nothing of a request on while the client reads nothing of the answer.
//!
//! The connection has the one timer. It looks at the deadlines of all streams when it fires and wakes those whose
//! time is over; a stream that wants it earlier wakes the connection.
//!
//! Bounds, per connection: `streams_per_connection` streams, of which more are refused; [`CONNECTION_WINDOW`] bytes
//! of request bodies that no endpoint has taken, [`STREAM_WINDOW`] of any one; [`SEND_BYTES`], a frame and its interim
//! answers of each response that the client has not taken; a head of `head_bytes` and of as many frames as that fills, and five at
//! least. A connection is closed on a client that resets [`RESETS_AT_ONCE`] streams before we could look at them,
//! that has had to be refused `stream_errors` streams, that floods us with [`frames`], whose head is not whole within
//! `head_timeout`, or of which nothing is heard for [`PING_PATIENCE`] after a ping. After `requests_per_connection` it
//! is told to open another.

mod frames;
mod received;
mod stream;
mod streams;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake};
use h2::{Ping, PingPong};
use tokio::time::Sleep;

pub use frames::Floods;
use frames::{Frames, Watched};
pub(in crate::proxy) use received::Received;
use streams::Streams;

use super::{Client, ClientConn, Opened, Task};
use crate::proxy::share::poll_proceed;
use crate::proxy::worker::ProxyOptions;
use crate::telemetry::counters::add;

const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BYTES: usize = 64 << 10;
const RESETS_AT_ONCE: usize = 32;
/// How often it is looked whether anything was heard of a client, and how long it then has to answer a ping; both at
/// most the keep-alive time-out.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// Serves the connection to its end. `timer` is the one that the preface was due by.
pub(super) async fn run(opened: Opened, client: Rc<Client>, mut timer: Pin<&mut Sleep>) {
    let options = client.worker.snapshot().options.clone();
    add(&client.worker.counters().client_http2);
    let streams = Streams::new(client, &options);
    let mut http = Http::Opening(builder(&options).handshake(Watched::new(opened, streams.frames.clone())));
    poll_fn(|cx| {
        streams.client.task.remember(cx.waker());
        if streams.client.stopping.get() {
            streams.leave();
        }
        loop {
            // Why it ended is the client's affair: its streams are told, and their records tell.
            if http.poll(cx, &streams).is_ready() {
                return Poll::Ready(());
            }
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            // What has arrived by now is not late. With the turn over, some of it may not be read yet.
            let (now, has_read) = (Instant::now(), poll_proceed().is_ready());
            if streams.look(now, has_read, http.holds_answers(&streams)) || http.is_dead(now, has_read, &streams) {
                return Poll::Ready(());
            }
            timer.as_mut().reset(streams.next_look.get().into());
        }
        streams.await_head(poll_proceed().is_ready());
        streams.rearm(timer.as_mut(), cx);
        Poll::Pending
    })
    .await;
    if streams.frames.borrow().is_flood() {
        add(&streams.client.worker.counters().client_floods);
    }
}

fn builder(options: &ProxyOptions) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(options.streams_per_connection)
        .max_header_list_size(u32::try_from(options.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BYTES)
        .max_pending_accept_reset_streams(RESETS_AT_ONCE)
        .max_local_error_reset_streams(Some(options.stream_errors));
    builder
}

type Socket = Watched<Opened>;

/// How far the connection is.
enum Http {
    /// Until both sides have said how they speak.
    Opening(Handshake<Socket, Bytes>),
    Open(Open),
}

struct Open {
    connection: Connection<Socket, Bytes>,
    silence: Silence,
    told_to_leave: bool,
}

impl Http {
    /// Ready at the connection's end.
    fn poll(&mut self, cx: &mut Context<'_>, streams: &Rc<Streams>) -> Poll<()> {
        loop {
            match self {
                Self::Open(open) => return open.poll(cx, streams),
                Self::Opening(handshake) => match ready!(Pin::new(handshake).poll(cx)) {
                    Ok(connection) => *self = Self::Open(Open::new(connection, streams)),
                    Err(_) => return Poll::Ready(()),
                },
            }
        }
    }

    /// Whether something still waits for the client that streams have passed on, be they over.
    fn holds_answers(&self, streams: &Streams) -> bool {
        let has_streams = matches!(self, Self::Open(open) if open.connection.has_streams());
        has_streams || streams.frames.borrow().blocked
    }

    /// Whether nothing has been heard of the client for too long.
    fn is_dead(&mut self, now: Instant, has_read: bool, streams: &Streams) -> bool {
        let Self::Open(open) = self else { return false };
        let is_dead = open.silence.look(now, has_read, &mut streams.frames.borrow_mut());
        streams.look_not_after(open.silence.due);
        is_dead
    }
}

impl Open {
    fn new(mut connection: Connection<Socket, Bytes>, streams: &Streams) -> Self {
        let silence = Silence::new(connection.ping_pong(), streams.keep_alive.get());
        streams.look_by(silence.due);
        Self { connection, silence, told_to_leave: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>, streams: &Rc<Streams>) -> Poll<()> {
        if streams.leaving.get() && !self.told_to_leave {
            self.told_to_leave = true;
            self.connection.graceful_shutdown();
        }
        while let Some(Ok((request, respond))) = ready!(self.connection.poll_accept(cx)) {
            streams.begin(request, respond);
        }
        Poll::Ready(())
    }
}

/// Whether anything is heard of the client. What it sends in answer to a ping, or of itself, shows that it lives.
struct Silence {
    pings: Option<PingPong>,
    every: Duration,
    patience: Duration,
    asked: bool,
    /// When to look.
    due: Instant,
}

impl Silence {
    fn new(pings: Option<PingPong>, most: Duration) -> Self {
        let every = PING_EVERY.min(most);
        Self { pings, every, patience: PING_PATIENCE.min(most), asked: false, due: Instant::now() + every }
    }

    /// Whether it has lasted for too long. It has not where there may be something to hear.
    fn look(&mut self, now: Instant, has_read: bool, frames: &mut Frames) -> bool {
        if now < self.due {
            return false;
        }
        if std::mem::take(&mut frames.heard) || !has_read {
            (self.asked, self.due) = (false, now + self.every);
            return false;
        }
        if self.asked {
            return true;
        }
        if let Some(pings) = &mut self.pings {
            // The answer to the last one makes room for this; where none came, but something else did, it still waits.
            let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
            let _ = pings.send_ping(Ping::opaque());
        }
        (self.asked, self.due) = (true, now + self.patience);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_dead_that_says_nothing_after_a_ping() {
        let second = Duration::from_secs(1);
        let mut frames = Frames::new(Floods { resets: 1, control: 1 });
        let mut silence = Silence::new(None, 10 * second);
        let begin = silence.due - 10 * second;
        let mut look = |frames: &mut Frames, at: u32| {
            let is_dead = silence.look(begin + at * second, true, frames);
            (is_dead, silence.asked, (silence.due - begin).as_secs())
        };
        assert_eq!(look(&mut frames, 9), (false, false, 10), "it is not time");
        frames.heard = true;
        assert_eq!(look(&mut frames, 10), (false, false, 20), "heard");
        assert_eq!(look(&mut frames, 20), (false, true, 30), "asked");
        frames.heard = true;
        assert_eq!(look(&mut frames, 30), (false, false, 40), "has answered, or said something else");
        assert_eq!(look(&mut frames, 41), (false, true, 51));
        assert_eq!(look(&mut frames, 51), (true, true, 51));
    }
}
