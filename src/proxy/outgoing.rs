//! A message on its way to an HTTP/1.1 peer, as far as it is not with the kernel: its head and small frames gathered
//! for one write, and one frame that is too large to be copied.
//!
//! Held is at most [`GATHER_BYTES`] and a frame.

use bytes::Bytes;
use http::HeaderMap;

use super::encode::{write_chunk_size, write_last_chunk};

/// Frames are gathered into one write up to about this.
const GATHER_BYTES: usize = 16 << 10;
/// A larger frame is written from where it is.
const COPIED_FRAME_BYTES: usize = 8 << 10;
/// A buffer that has grown beyond this is not kept while nothing is sent.
const IDLE_BYTES: usize = 4 << 10;

#[derive(Default)]
pub(super) struct Outgoing {
    /// What is to be written first.
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    /// A frame too large to be copied; after `output`.
    data: Bytes,
    chunked: bool,
}

impl Outgoing {
    /// `output` is what the message begins with.
    pub fn new(output: Vec<u8>, chunked: bool) -> Self {
        Self { output, written: 0, data: Bytes::new(), chunked }
    }

    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Nothing more is taken before this is written.
    pub fn is_full(&self) -> bool {
        !self.data.is_empty() || self.output.len() >= GATHER_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.output.len() && self.data.is_empty()
    }

    /// What is to be written, one after the other.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.output[self.written..], &self.data)
    }

    pub fn put(&mut self, data: Bytes) {
        // A chunk without data would be the last one.
        if data.is_empty() {
            return;
        }
        if self.chunked {
            write_chunk_size(&mut self.output, data.len());
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

    /// The body has ended.
    pub fn finish(&mut self, trailers: Option<&HeaderMap>) {
        if self.chunked {
            write_last_chunk(&mut self.output, trailers);
        }
    }

    /// So much of it is with the kernel.
    pub fn advance(&mut self, count: usize) {
        let of_output = count.min(self.output.len() - self.written);
        self.written += of_output;
        if count > of_output {
            let _ = self.data.split_to(count - of_output);
        }
        if self.written == self.output.len() {
            let in_chunk = count > of_output && self.data.is_empty();
            self.output.clear();
            self.written = 0;
            if in_chunk {
                self.data = Bytes::new();
                self.end_chunk();
            }
        }
    }

    /// The buffer, to begin another message with; not where it has grown large.
    pub fn into_buffer(self) -> Vec<u8> {
        let mut output = self.output;
        if output.capacity() > IDLE_BYTES {
            return Vec::new();
        }
        output.clear();
        output
    }
}
