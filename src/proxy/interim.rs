//! Interim (1xx) answers on their way to the client (RFC 9110 §15.2).
//!
//! The connection's task writes them after every poll of the exchange. `100 Continue` is different: it opens the
//! request body, and the client gets its own `100` when that body is first read.

use std::cell::RefCell;

use http::{HeaderMap, StatusCode};

use super::encode::write_field;

/// Bytes waiting for the client's socket.
#[derive(Default)]
pub(super) struct Interim(RefCell<Vec<u8>>);

/// An endpoint that floods us with interim answers is held to this much; the rest is dropped.
const MAX_WAITING_BYTES: usize = 64 << 10;

impl Interim {
    /// What is to be written, if anything.
    pub fn take(&self) -> Option<Vec<u8>> {
        let waiting = self.0.take();
        (!waiting.is_empty()).then_some(waiting)
    }

    /// Asks the client for its body.
    pub fn go_on(&self) {
        self.0.borrow_mut().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    pub fn push(&self, status: StatusCode, headers: &HeaderMap) {
        let mut bytes = self.0.borrow_mut();
        if bytes.len() > MAX_WAITING_BYTES {
            return;
        }
        let reason = status.canonical_reason().unwrap_or("Interim");
        bytes.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in headers {
            write_field(&mut bytes, name, value);
        }
        bytes.extend_from_slice(b"\r\n");
    }
}
