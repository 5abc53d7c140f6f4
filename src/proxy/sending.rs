//! A request on its way out: its head, then its body as it comes from the client, with the framing that the
//! endpoint was told of.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::io::AsyncWrite;

use super::body::RequestBody;
use super::encode::{RequestFraming, RequestHead};
use super::io::UpstreamStream;
use super::outgoing::Outgoing;

/// The request as far as it is not with the kernel.
#[derive(Default)]
pub(super) struct Sending {
    outgoing: Outgoing,
    /// All of the body is in `outgoing`.
    gathered: bool,
    /// Some of the request is with the kernel.
    pub begun: bool,
    /// All of it is.
    pub ended: bool,
    /// The endpoint takes no more.
    pub refused: bool,
}

pub(super) enum SendError {
    Io,
    /// The reason is the client's, and known to its connection.
    Body,
}

impl Sending {
    pub fn begin(&mut self, head: &RequestHead<'_>, has_body: bool) {
        let mut output = std::mem::take(&mut self.outgoing).into_buffer();
        head.write(&mut output);
        self.outgoing = Outgoing::new(output, head.framing == RequestFraming::Chunked);
        self.gathered = !has_body;
        (self.begun, self.ended, self.refused) = (false, false, false);
    }

    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut UpstreamStream,
        body: &mut RequestBody,
    ) -> Poll<Result<(), SendError>> {
        while !self.ended && !self.refused {
            self.gather(cx, body)?;
            let waits = self.outgoing.is_empty() && !self.gathered;
            while !self.outgoing.is_empty() {
                let (first, second) = self.outgoing.parts();
                match ready!(stream.poll_write_two(cx, first, second)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(SendError::Io)),
                    Ok(count) => self.outgoing.advance(count),
                }
                self.begun = true;
            }
            // Also where nothing was written now: of what was, TLS may hold what the socket did not take.
            ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(|_| SendError::Io)?;
            if waits {
                return Poll::Pending;
            }
            self.ended = self.gathered;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what there is of the body, up to a bound.
    fn gather(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) -> Result<(), SendError> {
        while !self.gathered && !self.outgoing.is_full() {
            match body.poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => self.put(frame),
                Poll::Ready(Some(Err(_))) => return Err(SendError::Body),
                Poll::Ready(None) => self.finish(None),
            }
        }
        Ok(())
    }

    fn put(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.outgoing.put(data),
            Err(frame) => self.finish(frame.into_trailers().ok().as_ref()),
        }
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        self.outgoing.finish(trailers);
        self.gathered = true;
    }

    /// Nothing is sent for now: keeps no large buffer.
    pub fn rest(&mut self) {
        self.outgoing = Outgoing::new(std::mem::take(&mut self.outgoing).into_buffer(), false);
    }
}
