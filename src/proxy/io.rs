//! The sockets as hyper sees them, with what the proxy has to notice as bytes pass.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::connection::ClientConn;
use super::error::rewrite_automatic_reply;

/// A client's socket. Tells its connection when a head begins, and gives hyper's own bare replies
/// to unreadable requests the JSON body that every other error has.
pub(super) struct ClientIo {
    stream: TcpStream,
    conn: Rc<ClientConn>,
    /// Bytes of our own that go out before hyper's: interim answers, or a rewritten reply.
    ahead: Vec<u8>,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, conn: Rc<ClientConn>) -> Self {
        Self { stream, conn, ahead: Vec::new() }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// A write of hyper's.
    fn poll_stream(
        &mut self,
        write: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = write(Pin::new(&mut self.stream));
        if written.is_pending() {
            self.conn.flush_pending();
        }
        written
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ahead.is_empty() {
                // Only now: what waits elsewhere is bounded there.
                let Some(interim) = self.conn.interim.take() else { return Poll::Ready(Ok(())) };
                self.ahead = interim;
            }
            let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &self.ahead))?;
            self.ahead.drain(..written);
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_ready() && buf.filled().len() > before {
            self.conn.bytes_arrived();
        }
        result
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Outside an exchange hyper writes nothing but its automatic reply to a head that it cannot read.
        if !self.conn.may_be_response()
            && self.ahead.is_empty()
            && let Some(reply) = rewrite_automatic_reply(buf, &self.conn)
        {
            self.ahead = reply;
            let _ = self.poll_ahead(cx)?;
            return Poll::Ready(Ok(buf.len()));
        }
        std::task::ready!(self.poll_ahead(cx))?;
        self.poll_stream(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.conn.may_be_response() {
            let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| b);
            return self.poll_write(cx, first);
        }
        std::task::ready!(self.poll_ahead(cx))?;
        self.poll_stream(|stream| match bufs {
            [only] => stream.poll_write(cx, only),
            _ => match joined(bufs, &mut [0; JOIN_BYTES]) {
                Some(bytes) => stream.poll_write(cx, bytes),
                None => stream.poll_write_vectored(cx, bufs),
            },
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_ahead(cx))?;
        self.conn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_ahead(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Below this, copying costs less than what the kernel takes to walk a vector.
const JOIN_BYTES: usize = 512;

/// The buffers as one, where they are little together.
fn joined<'a>(bufs: &[io::IoSlice<'_>], scratch: &'a mut [u8; JOIN_BYTES]) -> Option<&'a [u8]> {
    let mut used = 0;
    for buf in bufs {
        scratch.get_mut(used..used + buf.len())?.copy_from_slice(buf);
        used += buf.len();
    }
    Some(&scratch[..used])
}

pub(super) enum UpstreamStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An endpoint's socket. With `probe` set, a read asks the kernel itself instead of trusting the
/// runtime's last readiness, so a close that has arrived is seen before a request is sent into it.
pub(super) struct UpstreamIo {
    stream: UpstreamStream,
    probe: Rc<Cell<bool>>,
}

impl UpstreamIo {
    pub(super) fn new(stream: UpstreamStream, probe: Rc<Cell<bool>>) -> Self {
        Self { stream, probe }
    }

    /// `Ok(true)`: nothing to read and still open.
    fn is_quiet(&self) -> io::Result<bool> {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match &self.stream {
            UpstreamStream::Tcp(s) => SockRef::from(s).peek(&mut byte),
            UpstreamStream::Unix(s) => SockRef::from(s).peek(&mut byte),
        };
        match peeked {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(e) => Err(e),
            Ok(_) => Ok(false),
        }
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Bytes or an end on an idle connection: either way it cannot carry a request.
        if self.probe.replace(false) && !self.is_quiet()? {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        match &mut self.stream {
            UpstreamStream::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            UpstreamStream::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            UpstreamStream::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            UpstreamStream::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        match &mut self.stream {
            UpstreamStream::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            UpstreamStream::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            UpstreamStream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            UpstreamStream::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
