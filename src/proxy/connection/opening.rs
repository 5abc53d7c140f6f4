//! The first bytes of a connection, which tell its protocol: HTTP/2 with prior knowledge begins with a preface
//! that no HTTP/1.1 request can begin with (RFC 9113 §3.4).
//!
//! An HTTP/1.1 client waits for nothing: one read takes what there is, and what it took is read again from memory.
//! Held is at most [`READ_BYTES`], until the reader of the protocol has taken it.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Client, ClientStream, LINGER};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Enough for a common head.
const READ_BYTES: usize = 8 << 10;

/// What a connection began with, and the bytes that told so.
pub(super) enum Opening {
    Http1(Vec<u8>),
    Http2(Vec<u8>),
    /// Too little to tell, and the time for it is over.
    TimedOut,
    Closed,
}

/// Reads until the protocol is known; it must be when `timer` fires.
pub(super) async fn read(stream: &mut ClientStream, client: &Client, mut timer: Pin<&mut Sleep>) -> Opening {
    let (mut read, mut lingers) = (Vec::new(), false);
    poll_fn(|cx| {
        client.task.remember(cx.waker());
        if let Poll::Ready(opening) = poll_opening(Pin::new(&mut *stream), cx, &mut read) {
            return Poll::Ready(opening.unwrap_or(Opening::Closed));
        }
        let leaving = client.stopping.get() && read.is_empty();
        if leaving && !lingers {
            lingers = true;
            let deadline = timer.deadline().min(Instant::now() + LINGER);
            timer.as_mut().reset(deadline);
        }
        // Who has said nothing then has nothing to finish.
        let over = if leaving { Opening::Closed } else { Opening::TimedOut };
        timer.as_mut().poll(cx).map(|()| over)
    })
    .await
}

fn poll_opening(
    mut stream: Pin<&mut impl AsyncRead>,
    cx: &mut Context<'_>,
    read: &mut Vec<u8>,
) -> Poll<io::Result<Opening>> {
    loop {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(stream.as_mut().poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(Opening::Closed));
        }
        read.extend_from_slice(buffer.filled());
        if read.starts_with(PREFACE) {
            return Poll::Ready(Ok(Opening::Http2(std::mem::take(read))));
        }
        if !PREFACE.starts_with(read) {
            return Poll::Ready(Ok(Opening::Http1(std::mem::take(read))));
        }
    }
}

/// A client's socket whose first bytes have been read already, and are read again.
pub(in crate::proxy) struct Opened {
    pub stream: ClientStream,
    pub(super) first: Bytes,
}

impl Opened {
    pub fn new(stream: ClientStream, first: Vec<u8>) -> Self {
        Self { stream, first: first.into() }
    }
}

impl AsyncRead for Opened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let taken = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..taken]);
        self.first.advance(taken);
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found when the bytes come in pieces of this size; `None`: more are wanted.
    fn opening(text: &str, piece: usize) -> Option<(bool, String)> {
        let (mut read, mut cx) = (Vec::new(), Context::from_waker(std::task::Waker::noop()));
        for piece in text.as_bytes().chunks(piece) {
            let mut piece = Once(piece);
            match poll_opening(Pin::new(&mut piece), &mut cx, &mut read) {
                Poll::Ready(Ok(Opening::Http1(read))) => return Some((false, String::from_utf8(read).unwrap())),
                Poll::Ready(Ok(Opening::Http2(read))) => return Some((true, String::from_utf8(read).unwrap())),
                Poll::Ready(_) => panic!("has not ended"),
                Poll::Pending => {}
            }
        }
        None
    }

    /// Gives what it has once, and then nothing for now.
    struct Once<'a>(&'a [u8]);

    impl AsyncRead for Once<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            buffer.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn the_preface_is_known_however_it_is_cut() {
        let text = format!("{}more", std::str::from_utf8(PREFACE).unwrap());
        for piece in 1..=text.len() {
            let (http2, read) = opening(&text, piece).expect("is known");
            assert!(http2 && text.starts_with(&read), "{piece}: {read:?}");
            assert_eq!(opening(&text[..PREFACE.len() - 1], piece), None, "{piece}");
        }
    }

    #[test]
    fn any_other_first_byte_tells_http_1_at_once() {
        for text in ["G", "PO", "PRI * HTTP/1.1\r\n", "PRI * HTTP/2.0\r\nhost: a\r\n\r\n", "\0"] {
            let (http2, read) = opening(text, text.len()).expect("is known");
            assert_eq!((http2, read.as_str()), (false, text));
        }
        assert_eq!(opening("PRI", 1), None);
    }
}
