//! A client's socket, with TLS on it or without.
//!
//! Under TLS a write is taken when it is encrypted, and at most [`SEND_BYTES`] of that wait for the socket: who has
//! written flushes before he waits for anything else. A plain socket has nothing to flush.
//!
//! What passes either way counts for the turn of the task (see [`share`](crate::proxy::share)).

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::proxy::share::{charge, poll_proceed};

/// What of a client that takes nothing is held encrypted.
pub(super) const SEND_BYTES: usize = 32 << 10;

pub(in crate::proxy) enum ClientStream {
    Tcp(TcpStream),
    /// Elsewhere, so that the many without it do not hold its size.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// As much as the kernel takes at once.
    pub fn write_now(&mut self, bytes: &[u8]) {
        match self {
            // What the socket's buffer does not take is not worth a wait.
            Self::Tcp(stream) => drop(stream.try_write(bytes)),
            Self::Tls(stream) => {
                let (stream, session) = stream.get_mut();
                let _ = session.writer().write(bytes);
                flush_now(stream, session);
            }
        }
    }

    /// Says that the end which follows is meant, as far as the kernel takes it at once: without TLS the end itself
    /// says so, but under TLS anyone on the way could end a connection.
    pub fn say_goodbye(&mut self) {
        if let Self::Tls(stream) = self {
            let (stream, session) = stream.get_mut();
            session.send_close_notify();
            flush_now(stream, session);
        }
    }

    /// Has the socket close with a reset: an end would look like the end of an answer.
    pub fn abort(&self) {
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }
}

fn flush_now(stream: &TcpStream, session: &mut ServerConnection) {
    while session.wants_write() {
        let Ok(1..) = session.write_tls(&mut Now(stream)) else { return };
    }
}

/// Writes what the kernel takes at once.
struct Now<'a>(&'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(poll_proceed());
        let before = buffer.filled().len();
        ready!(match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        })?;
        charge(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(poll_proceed());
        let count = ready!(match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        })?;
        charge(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(poll_proceed());
        let count = ready!(match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
        })?;
        charge(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
