//! A request on its way out: its head, then its body as it comes from the client, with the framing that the
//! endpoint was told of.
//!
//! Small frames are gathered into one write with the head; a large one is written from where it is.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::body::RequestBody;
use super::encode::{self, RequestFraming, RequestHead};
use super::io::UpstreamStream;

/// Frames of a request body are gathered into one write up to about this.
const GATHER_BYTES: usize = 16 << 10;
/// A larger frame is written from where it is.
const COPIED_FRAME_BYTES: usize = 8 << 10;
/// An output buffer that has grown beyond this is not kept while idle.
const IDLE_OUTPUT_BYTES: usize = 4 << 10;

/// The request as far as it is not with the kernel.
#[derive(Default)]
pub(super) struct Sending {
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    /// A frame too large to be copied; after `output`.
    data: Bytes,
    chunked: bool,
    /// All of the body is in `output` and `data`.
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
        self.output.clear();
        head.write(&mut self.output);
        self.written = 0;
        self.data = Bytes::new();
        self.chunked = head.framing == RequestFraming::Chunked;
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
            if self.is_empty() && !self.gathered {
                return Poll::Pending;
            }
            while !self.is_empty() {
                match ready!(stream.poll_write_two(cx, &self.output[self.written..], &self.data)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(SendError::Io)),
                    Ok(count) => self.advance(count),
                }
            }
            self.output.clear();
            self.written = 0;
            self.ended = self.gathered;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what there is of the body, up to a bound.
    fn gather(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) -> Result<(), SendError> {
        while !self.gathered && self.data.is_empty() && self.output.len() < GATHER_BYTES {
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
            // A chunk without data would be the last one.
            Ok(data) if data.is_empty() => {}
            Ok(data) => self.put_data(data),
            Err(frame) => self.finish(frame.into_trailers().ok().as_ref()),
        }
    }

    fn put_data(&mut self, data: Bytes) {
        if self.chunked {
            encode::write_chunk_size(&mut self.output, data.len());
        }
        if data.len() > COPIED_FRAME_BYTES {
            self.data = data;
        } else {
            self.output.extend_from_slice(&data);
            self.end_chunk();
        }
    }

    fn end_chunk(&mut self) {
        if self.chunked {
            self.output.extend_from_slice(b"\r\n");
        }
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        if self.chunked {
            encode::write_last_chunk(&mut self.output, trailers);
        }
        self.gathered = true;
    }

    fn is_empty(&self) -> bool {
        self.written == self.output.len() && self.data.is_empty()
    }

    fn advance(&mut self, count: usize) {
        self.begun = true;
        let of_output = count.min(self.output.len() - self.written);
        self.written += of_output;
        if count > of_output {
            let _ = self.data.split_to(count - of_output);
            if self.data.is_empty() {
                self.output.clear();
                self.written = 0;
                self.end_chunk();
            }
        }
    }

    pub fn forget_large(&mut self) {
        if self.output.capacity() > IDLE_OUTPUT_BYTES {
            self.output = Vec::new();
        }
    }
}
