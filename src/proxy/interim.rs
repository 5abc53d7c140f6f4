//! Interim (1xx) answers on their way to the client (RFC 9110 §15.2).
//!
//! hyper's server cannot send them, so they are written as bytes by the client's socket, which it
//! flushes after every poll of the exchange. `100 Continue` is different: it opens the request body,
//! and hyper sends the client's own `100` when that body is first read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use http::header::EXPECT;
use http::{Request, StatusCode};

use super::body::RequestBody;
use super::connection::ClientConn;
use super::headers::strip_hop_by_hop;

/// Bytes waiting for the client's socket. Behind a lock only because hyper's callback must be `Send`.
#[derive(Default)]
pub(super) struct Interim {
    waiting: AtomicBool,
    bytes: std::sync::Mutex<Vec<u8>>,
}

/// An endpoint that floods us with interim answers is held to this much; the rest is dropped.
const MAX_WAITING_BYTES: usize = 64 << 10;

impl Interim {
    /// What is to be written, if anything.
    pub fn take(&self) -> Option<Vec<u8>> {
        // One flag, so that the common case costs a load.
        if !self.waiting.load(Ordering::Relaxed) || !self.waiting.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.bytes.lock().ok().map(|mut bytes| std::mem::take(&mut *bytes))
    }

    fn push(&self, status: StatusCode, headers: &http::HeaderMap) {
        let Ok(mut bytes) = self.bytes.lock() else { return };
        if bytes.len() > MAX_WAITING_BYTES {
            return;
        }
        let mut headers = headers.clone();
        strip_hop_by_hop(&mut headers);
        let reason = status.canonical_reason().unwrap_or("Interim");
        bytes.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in &headers {
            bytes.extend_from_slice(name.as_ref());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        self.waiting.store(true, Ordering::Release);
    }
}

/// Has the endpoint's interim answers passed on. Where the client waits for `100 Continue`, so do we:
/// the endpoint may refuse before the body is sent.
pub(super) fn relay(request: &mut Request<RequestBody>, conn: &ClientConn) {
    let waits = !request.body().is_empty() && request.headers().contains_key(EXPECT);
    let gate = if waits { request.body_mut().hold_for_continue() } else { None };
    let interim = conn.interim.clone();
    hyper::ext::on_informational(request, move |answer| match (answer.status(), &gate) {
        (StatusCode::CONTINUE, Some(gate)) => gate.open(),
        (StatusCode::CONTINUE, None) => {}
        (status, _) => interim.push(status, answer.headers()),
    });
}

/// Keeps a request body back until the endpoint asks for it.
#[derive(Default)]
pub(super) struct Gate {
    open: AtomicBool,
    waker: std::sync::Mutex<Option<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.open.store(true, Ordering::Release);
        if let Ok(mut waker) = self.waker.lock()
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Ok(mut waker) = self.waker.lock() {
            *waker = Some(cx.waker().clone());
        }
        if self.open.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}
