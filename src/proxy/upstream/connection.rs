//! One HTTP/2 connection to an endpoint, shared by exchanges of this worker (RFC 9113, in cleartext by prior
//! knowledge, in TLS by ALPN). A task of the worker drives it; an exchange holds a [`Place`] on it. When the pool and all
//! exchanges have let go of it, it says GOAWAY and closes.
//!
//! Bounds, each way: [`MAX_STREAMS`] exchanges or what the endpoint allows if that is less; of what an endpoint
//! sends, [`STREAM_WINDOW`] bytes an exchange wait for their client, and the connection's window has room for all
//! of them, so that a client that takes nothing holds up no other; [`FRAMING_BUDGET`] for the frames around these
//! bytes, beyond which the connection ends; of what a client sends, [`SEND_BUFFER`] bytes an exchange.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::super::decode::HEAD_BYTES;
use super::super::io::UpstreamStream;
use super::{ConnectError, Dial, keepalive};
use crate::tls::client::Failure;

/// More exchanges than this take another connection.
const MAX_STREAMS: usize = 100;
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// A window full of events of 60 bytes, as models send them, on every stream.
const FRAMING_BUDGET: usize = MAX_STREAMS * (256 << 10);
const SEND_BUFFER: usize = 64 << 10;
/// Exchanges that we have cancelled and whose late frames are passed over without a word, for a second each.
const REMEMBERED_RESETS: usize = 1024;
/// Frames of cancelled exchanges that came later still, over the connection's life; one more ends it.
const LATE_RESETS: usize = 1 << 16;

pub struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    link: Rc<Link>,
    used: Cell<bool>,
    idle_since: Cell<Instant>,
    pool_idle: Duration,
    room: Rc<Notify>,
}

/// What a connection and its task know of each other.
pub(super) struct Link {
    socket: RefCell<UpstreamStream>,
    /// Exchanges that have a place.
    pub streams: Cell<usize>,
    /// Bytes have come since this was last asked.
    pub heard: Cell<bool>,
    /// The endpoint's last word in TLS, if it will not have us; the HTTP/2 library passes none on.
    refused: RefCell<Option<Failure>>,
}

impl Link {
    /// Why it cannot be used. A broken connection may hold a last word that is not read yet, where writing has failed
    /// first.
    async fn why(self: &Rc<Self>, error: h2::Error) -> ConnectError {
        if error.is_io() && self.refused.borrow().is_none() {
            let _ = Wire(self.clone()).read_u8().await;
        }
        match self.refused.take() {
            Some(failure) => failure.into(),
            None => ConnectError::NotHttp2(Rc::new(error)),
        }
    }
}

/// The socket as the HTTP/2 library sees it.
pub(super) struct Wire(Rc<Link>);

impl Connection {
    /// Connects, and waits until the endpoint has said how many streams it allows. `room` is told of each that
    /// comes free.
    pub async fn open(dial: Dial<'_>, room: Rc<Notify>) -> Result<Self, ConnectError> {
        Self::over(dial.open().await?, dial.spec.pool_idle, room).await
    }

    pub(super) async fn over(
        socket: UpstreamStream,
        pool_idle: Duration,
        room: Rc<Notify>,
    ) -> Result<Self, ConnectError> {
        let (streams, heard, refused) = (Cell::new(0), Cell::new(false), RefCell::new(None));
        let link = Rc::new(Link { socket: socket.into(), streams, heard, refused });
        let (sender, mut connection) = match builder().handshake(Wire(link.clone())).await {
            Ok(opened) => opened,
            Err(error) => return Err(link.why(error).await),
        };
        let ended = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if sender.current_max_send_streams() == 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
        });
        match ended.await {
            None => {}
            Some(Ok(())) => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            Some(Err(error)) => return Err(link.why(error).await),
        }
        tokio::task::spawn_local(keepalive::drive(connection, link.clone()));
        let (used, idle_since) = (Cell::new(false), Cell::new(Instant::now()));
        Ok(Self { sender: RefCell::new(sender), link, used, idle_since, pool_idle, room })
    }

    /// A place for one more exchange.
    pub fn place(self: &Rc<Self>) -> Option<Place> {
        let streams = self.link.streams.get();
        if streams >= MAX_STREAMS {
            return None;
        }
        let allowed = self.sender.borrow().current_max_send_streams();
        if streams >= allowed || self.is_spent() {
            return None;
        }
        self.link.streams.set(streams + 1);
        Some(Place { first: !self.used.replace(true), alone: streams == 0, connection: self.clone() })
    }

    /// Whether it takes no more exchanges: it has ended, the endpoint has said GOAWAY, the stream ids are used up, or
    /// the certificates are others by now.
    pub fn is_spent(&self) -> bool {
        if !self.link.socket.borrow().is_current() {
            return true;
        }
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    pub fn is_too_old(&self, now: Instant) -> bool {
        self.link.streams.get() == 0 && now.saturating_duration_since(self.idle_since.get()) >= self.pool_idle
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // None until the endpoint has spoken: it may allow fewer than one would guess.
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(FRAMING_BUDGET)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEAD_BYTES as u32)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_local_error_reset_streams(Some(LATE_RESETS));
    builder
}

/// One exchange's place on a connection; given back when dropped.
pub struct Place {
    connection: Rc<Connection>,
    /// Nothing was sent on the connection before.
    pub first: bool,
    /// No other exchange was on it.
    alone: bool,
}

impl Place {
    pub fn send(&self, request: Request<()>, ends: bool) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A handle of its own: one that has sent over the limit would refuse the next request.
        let mut sender = self.connection.sender.borrow().clone();
        sender.send_request(request, ends)
    }

    /// Whether the endpoint has said something on an idle connection that nobody has read: most often good-bye.
    pub fn has_unread(&self) -> bool {
        self.alone && !self.connection.link.socket.borrow().is_quiet_in_kernel()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let streams = self.connection.link.streams.get() - 1;
        self.connection.link.streams.set(streams);
        if streams == 0 {
            self.connection.idle_since.set(Instant::now());
        }
        self.connection.room.notify_one();
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut *self.0.socket.borrow_mut()).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.0.heard.set(true);
        }
        // Kept, for the connection may be read again, and then it is only broken.
        if let Poll::Ready(Err(error)) = &result
            && let Some(failure) = Failure::refusal(error)
        {
            self.0.refused.replace(Some(failure));
        }
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_shutdown(cx)
    }
}
