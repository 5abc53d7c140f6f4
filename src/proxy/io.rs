//! The sockets: the client's as hyper sees it, with what the proxy has to notice as bytes pass, and the endpoint's.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::connection::{Http1, Opened};
use super::error::rewrite_automatic_reply;

/// A client's socket, as HTTP/1.1 is spoken on it. Tells its connection when a head begins, and gives hyper's own bare replies
/// to unreadable requests the JSON body that every other error has.
pub(super) struct ClientIo {
    stream: Opened,
    http1: Rc<Http1>,
    /// Bytes of our own that go out before hyper's: interim answers, or a rewritten reply.
    ahead: Vec<u8>,
}

impl ClientIo {
    pub(super) fn new(stream: Opened, http1: Rc<Http1>) -> Self {
        Self { stream, http1, ahead: Vec::new() }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream.stream
    }

    /// A write of hyper's.
    fn poll_stream(
        &mut self,
        write: impl FnOnce(Pin<&mut Opened>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = write(Pin::new(&mut self.stream));
        if written.is_pending() {
            self.http1.flush_pending();
        }
        written
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ahead.is_empty() {
                // Only now: what waits elsewhere is bounded there.
                let Some(interim) = self.http1.conn.interim.take() else { return Poll::Ready(Ok(())) };
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
            self.http1.bytes_arrived();
        }
        result
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Outside an exchange hyper writes nothing but its automatic reply to a head that it cannot read.
        if !self.http1.may_be_response()
            && self.ahead.is_empty()
            && let Some(reply) = rewrite_automatic_reply(buf, &self.http1.conn)
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
        if !self.http1.may_be_response() {
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
        self.http1.flushed();
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

/// An endpoint's socket.
pub(super) enum UpstreamStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl UpstreamStream {
    /// Whether there is nothing to read and it is still open. The runtime knows of what had arrived when it last
    /// looked; with `probe` the kernel itself is asked, so that a close is seen before a request is sent into it.
    /// Bytes on an idle connection are as bad as its end: it cannot carry a request.
    pub fn poll_quiet(&mut self, cx: &mut Context<'_>, probe: bool) -> bool {
        (!probe || self.is_quiet_in_kernel()) && self.poll_fill(cx, &mut [0]).is_pending()
    }

    /// Whether the kernel has nothing for us, not even an end.
    pub fn is_quiet_in_kernel(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads to the front of `buffer`; zero is the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        std::task::ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes one buffer after the other in one call.
    pub fn poll_write_two(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) if second.is_empty() => Pin::new(stream).poll_write(cx, first),
            Self::Unix(stream) if second.is_empty() => Pin::new(stream).poll_write(cx, first),
            _ => Pin::new(self).poll_write_vectored(cx, &[io::IoSlice::new(first), io::IoSlice::new(second)]),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}
