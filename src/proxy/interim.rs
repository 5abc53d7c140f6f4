//! Interim (1xx) answers on their way to the client (RFC 9110 §15.2).
//!
//! The task of the connection, or of the stream, sends them after every poll of the exchange, until there is the answer.
//! `100 Continue` is different: it opens the request body, and the client gets its own `100` when that body is first
//! read.

use std::cell::{Cell, RefCell};

use http::{HeaderMap, StatusCode};

use super::encode::write_field;

/// Those of an exchange.
#[derive(Default)]
pub(super) struct Interim {
    /// For the client.
    waiting: RefCell<Vec<(StatusCode, HeaderMap)>>,
    /// Of all that there were.
    bytes: Cell<usize>,
}

/// An endpoint that floods us with interim answers is held to about this much of them in an exchange; the rest is
/// dropped.
const MAX_BYTES: usize = 64 << 10;

impl Interim {
    /// Asks the client for its body.
    pub fn go_on(&self) {
        self.waiting.borrow_mut().push((StatusCode::CONTINUE, HeaderMap::new()));
    }

    pub fn push(&self, status: StatusCode, headers: &HeaderMap) {
        let bytes = self.bytes.get() + bytes_of(headers);
        if bytes <= MAX_BYTES {
            self.bytes.set(bytes);
            self.waiting.borrow_mut().push((status, headers.clone()));
        }
    }

    pub fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        self.waiting.take()
    }

    /// Another exchange begins.
    pub fn reset(&self) {
        self.bytes.set(0);
    }

    /// Writes them as HTTP/1.1 has them.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (status, headers) in self.take() {
            let reason = status.canonical_reason().unwrap_or("Interim");
            out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
            for (name, value) in &headers {
                write_field(out, name, value);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// As HTTP/2 counts them (RFC 9113 §10.5.1).
fn bytes_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>() + 32
}
