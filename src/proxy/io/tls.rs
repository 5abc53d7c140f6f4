//! An endpoint's socket with TLS on it.
//!
//! What TLS says to itself (session tickets, new keys) may arrive at any time, also on an idle connection, and is no
//! reason to give it up; an answer that nobody has asked for, or the endpoint's good-bye, is one.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::Context;

use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::tls::client::MadeWith;

pub struct TlsSocket {
    pub stream: TlsStream<TcpStream>,
    made_with: MadeWith,
}

impl TlsSocket {
    pub fn new(stream: TlsStream<TcpStream>, made_with: MadeWith) -> Self {
        Self { stream, made_with }
    }

    /// Whether a new connection would be made with the same certificates.
    pub fn is_current(&self) -> bool {
        self.made_with.is_current()
    }

    /// As [`super::UpstreamStream::poll_quiet`].
    pub fn poll_quiet(&mut self, cx: &mut Context<'_>, probe: bool) -> bool {
        self.is_current()
            && (!probe || self.take_from_kernel())
            && Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut [0])).is_pending()
    }

    /// Reads what has arrived, whether the runtime knows of it or not; `false` where that was more than TLS's own.
    fn take_from_kernel(&mut self) -> bool {
        let (socket, session) = self.stream.get_mut();
        loop {
            match session.read_tls(&mut InKernel(socket)) {
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                Ok(0) => return false,
                Ok(_) => match session.process_new_packets() {
                    Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                    _ => return false,
                },
            }
        }
    }
}

/// Says good-bye where that takes no waiting, so that the endpoint can tell this end from a broken connection.
impl Drop for TlsSocket {
    fn drop(&mut self) {
        let (socket, session) = self.stream.get_mut();
        session.send_close_notify();
        let _ = session.write_tls(&mut InKernel(socket));
    }
}

/// A socket past the runtime, which never blocks.
struct InKernel<'a>(&'a TcpStream);

impl Read for InKernel<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(self.0)).read(buffer)
    }
}

impl Write for InKernel<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
