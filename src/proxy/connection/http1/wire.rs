//! A client's socket as HTTP/1.1 is read from it: the bytes that were received and not yet taken, and where the
//! request body among them ends.
//!
//! The connection's task and the body of the exchange on it are polled by the same task, and share this. Nothing
//! is held across polls but what was received: at most two reads of the worker's scratch.

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::super::{ClientConn, ClientStream, Opened};
use crate::proxy::client_body::ClientBroken;
use crate::proxy::decode::{Framing, Piece};
use crate::proxy::upstream::{DIRECT_BYTES, DIRECT_FROM_BYTES, trim};

/// So much and one read is taken of what a client sends ahead of its turn; the rest stays with the kernel.
const AHEAD_BYTES: usize = 16 << 10;

pub(in crate::proxy) struct Wire {
    stream: RefCell<ClientStream>,
    conn: Rc<ClientConn>,
    /// Received, and not yet taken.
    input: RefCell<Bytes>,
    /// Of the request that is being served.
    body: RefCell<Framing>,
    /// The client sends its body when it is told to go on.
    owes_continue: Cell<bool>,
}

impl Wire {
    pub(super) fn new(opened: Opened, conn: Rc<ClientConn>) -> Rc<Self> {
        let Opened { stream, first } = opened;
        Rc::new(Self {
            stream: RefCell::new(stream),
            conn,
            input: RefCell::new(first),
            body: RefCell::new(Framing::Length(0)),
            owes_continue: Cell::new(false),
        })
    }

    /// What was received and belongs to nobody yet.
    pub(super) fn take_input(&self) -> Bytes {
        self.input.take()
    }

    pub(super) fn has_input(&self) -> bool {
        !self.input.borrow().is_empty()
    }

    /// These bytes came with a head, after it.
    pub(super) fn take_rest(&self, rest: &[u8]) {
        self.input.replace(Bytes::copy_from_slice(rest));
    }

    /// A request is served from here on.
    pub(super) fn begin(&self, body: Framing, expects_continue: bool) {
        self.body.replace(body);
        self.owes_continue.set(expects_continue);
    }

    /// The answer has begun: from here on an interim one would be taken for a part of it. Whether the client was
    /// left waiting for one: then nobody knows whether its body comes.
    pub(super) fn answer_begins(&self) -> bool {
        self.owes_continue.take()
    }

    /// Nothing of the request body is left to be read.
    pub fn has_whole_body(&self) -> bool {
        self.body.borrow().is_done()
    }

    /// What is left of the request body, where that is known.
    pub fn body_left(&self) -> Option<u64> {
        self.body.borrow().left()
    }

    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBroken>>> {
        if self.owes_continue.take() && self.input.borrow().is_empty() {
            self.conn.interim.go_on();
        }
        loop {
            if let Some(piece) = self.next_piece()? {
                return Poll::Ready(match piece {
                    Piece::Data(data) => Some(Ok(Frame::data(data))),
                    Piece::Trailers(fields) => Some(Ok(Frame::trailers(fields))),
                    Piece::End => None,
                });
            }
            let ahead = self.body.borrow().data_ahead();
            if ready!(self.poll_input(cx, ahead))? == 0 {
                return Poll::Ready(Some(Err(ClientBroken::CutShort)));
            }
        }
    }

    fn next_piece(&self) -> Result<Option<Piece>, ClientBroken> {
        let mut body = self.body.borrow_mut();
        let piece = body.next(&mut self.input.borrow_mut());
        match &piece {
            Ok(Some(Piece::Trailers(_) | Piece::End)) => *body = Framing::Length(0),
            // Nobody knows where it ends, so nothing after it is a request.
            Err(_) => {
                *body = Framing::UntilClose;
                self.input.take();
            }
            Ok(_) => {}
        }
        Ok(piece?)
    }

    /// Reads what comes of a body that nobody wants, until the time of its answer is over.
    pub(super) fn drop_body(&self, cx: &mut Context<'_>) {
        while !self.conn.expired.get() && matches!(self.poll_frame(cx), Poll::Ready(Some(Ok(_)))) {}
    }

    /// Takes what is already here of a body that nobody will read. Whether that was the rest of it.
    pub(super) fn skip_body(&self) -> bool {
        while !self.has_whole_body() {
            if !matches!(self.next_piece(), Ok(Some(_))) {
                return false;
            }
        }
        true
    }

    fn poll_input(&self, cx: &mut Context<'_>, ahead: u64) -> Poll<io::Result<usize>> {
        if ahead < DIRECT_FROM_BYTES {
            let mut scratch = self.conn.worker.scratch.buffer();
            let count = ready!(self.poll_read(cx, &mut scratch))?;
            self.input.replace(Bytes::copy_from_slice(&scratch[..count]));
            return Poll::Ready(Ok(count));
        }
        let capacity = usize::try_from(ahead).unwrap_or(usize::MAX).min(DIRECT_BYTES);
        let mut buffer = BytesMut::with_capacity(capacity);
        let count = ready!(pin!(self.stream.borrow_mut().read_buf(&mut buffer)).poll(cx))?;
        self.input.replace(trim(buffer));
        Poll::Ready(Ok(count))
    }

    /// Reads to the front of `buffer`; zero is the end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Whether the client has gone, as far as that can be told: behind an unread body, or much that was sent ahead of
    /// its turn, nothing is looked for.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> bool {
        while self.has_whole_body() && self.input.borrow().len() < AHEAD_BYTES {
            let mut scratch = self.conn.worker.scratch.buffer();
            match self.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(count)) => {
                    let ahead = [&self.input.take()[..], &scratch[..count]].concat();
                    self.input.replace(ahead.into());
                }
                Poll::Pending => return false,
            }
        }
        false
    }

    /// Writes one buffer after the other in one call.
    pub(super) fn poll_write_two(&self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        if second.is_empty() {
            Pin::new(&mut *stream).poll_write(cx, first)
        } else {
            Pin::new(&mut *stream).poll_write_vectored(cx, &[io::IoSlice::new(first), io::IoSlice::new(second)])
        }
    }

    /// Under TLS, what was written is with the kernel only then.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    /// The socket itself, for what has no messages.
    pub(super) fn stream(&self) -> RefMut<'_, ClientStream> {
        self.stream.borrow_mut()
    }

    /// No more will be written.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }

    /// Has the socket close with a reset: an end would look like the end of an answer.
    pub(super) fn abort(&self) {
        self.stream.borrow().abort();
    }

    /// As much as the kernel takes at once.
    pub(super) fn write_now(&self, bytes: &[u8]) {
        self.stream.borrow_mut().write_now(bytes);
    }

    /// The end that follows is meant.
    pub(super) fn say_goodbye(&self) {
        self.stream.borrow_mut().say_goodbye();
    }
}
