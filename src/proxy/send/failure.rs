//! How an attempt fails: what the client is told when nothing follows, and what is let go of when another one does.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Answer;
use super::retry::is_late;
use crate::proxy::body::RequestBody;
use crate::proxy::connection::ClientConn;
use crate::proxy::error::Fault;
use crate::proxy::pool::Lease;
use crate::proxy::read::{body_too_large, body_too_late};
use crate::proxy::upstream::{Broken, ConnectError, Head};
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::endpoints::EjectionReason;

/// So much of an answer that nobody will get is read, so that its connection may carry another request.
const DISCARDED_BYTES: usize = 64 << 10;

/// Why an attempt has no answer that is good.
pub(super) enum Failure {
    /// Not even tried.
    Refused(Fault),
    NoConnection(ConnectError),
    /// No head.
    Unsent(Unsent, Link),
    /// An answer that is as good as none.
    Answered(Head, Lease),
}

/// What kind of a connection an attempt went over.
pub(super) struct Link {
    /// It has carried a request before: only then can it be stale.
    pub is_reused: bool,
    /// Other exchanges are on it.
    pub is_shared: bool,
}

/// Why there is no head.
pub(super) enum Unsent {
    Broken(Broken),
    /// Not in the time of the exchange.
    Expired,
    /// Not in the time of the attempt, and another one is permitted.
    Slow,
}

impl Failure {
    /// What the client gets when nothing follows.
    pub fn pass_on(self, conn: &ClientConn, mut body: RequestBody) -> Result<Answer, Fault> {
        match self {
            Self::Refused(fault) => Err(fault),
            Self::NoConnection(error) => Err(connect_fault(&error, conn)),
            Self::Unsent(unsent, _) => Err(unsent.into_fault(conn)),
            Self::Answered(head, lease) => {
                body.forget_sent();
                Ok(Answer { head, lease, request: body })
            }
        }
    }

    /// Lets go of it, for another attempt follows. A connection is kept where all of the answer is here; one with more
    /// to come is closed.
    pub async fn discard(self, conn: &ClientConn, body: &mut RequestBody) {
        let Self::Answered(_, mut lease) = self else { return };
        if !lease.upstream_ref().has_sent_all() {
            return;
        }
        if poll_fn(|cx| Poll::Ready(has_passed(cx, conn, &mut lease, body))).await {
            lease.give_back(Instant::now());
        }
    }
}

/// Reads what is here; whether that was all.
fn has_passed(cx: &mut Context<'_>, conn: &ClientConn, lease: &mut Lease, body: &mut RequestBody) -> bool {
    let mut left = DISCARDED_BYTES;
    loop {
        match lease.upstream().poll_frame(cx, &conn.worker.scratch, body) {
            Poll::Ready(None) => return true,
            Poll::Ready(Some(Ok(frame))) => {
                let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) else { return false };
                left = rest;
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
        }
    }
}

fn connect_fault(error: &ConnectError, conn: &ClientConn) -> Fault {
    tracing::debug!(%error, "could not reach an endpoint");
    match error {
        ConnectError::TimedOut if conn.is_over_limit() => late(conn),
        ConnectError::NoDescriptor => {
            Fault::new(ErrorCode::Overloaded, "this proxy has no file descriptor left for a connection to the agent")
        }
        ConnectError::TimedOut => {
            Fault::new(ErrorCode::ConnectTimeout, "the agent did not accept a connection in time")
        }
        ConnectError::Tls(_) => Fault::new(ErrorCode::TlsFailed, NO_TLS),
        _ => Fault::new(ErrorCode::ConnectFailed, "the agent could not be reached"),
    }
}

/// Why is for operators.
const NO_TLS: &str = "no TLS connection to the agent could be made; the log of Pointsman says why";

/// There is no head, and no time left.
pub(super) fn late(conn: &ClientConn) -> Fault {
    if is_late(conn) {
        return Fault::new(
            ErrorCode::BodyTimeout,
            "the request took most of the time that this agent's requests may take",
        );
    }
    if conn.is_over_limit() {
        return Fault::new(ErrorCode::RequestTimeout, "the exchange took longer than this agent's requests may");
    }
    Fault::new(ErrorCode::ResponseTimeout, "the agent did not answer in time")
}

impl Unsent {
    /// What the endpoint did, where that is what it was.
    pub fn reason(&self, conn: &ClientConn) -> Option<EjectionReason> {
        match self {
            _ if conn.request_fault.get().is_some() || is_late(conn) => None,
            Self::Broken(Broken::Request) => None,
            Self::Expired | Self::Slow => Some(EjectionReason::ResponseTimeout),
            Self::Broken(Broken::Malformed(_)) => Some(EjectionReason::BadResponse),
            Self::Broken(Broken::Refused(_)) => Some(EjectionReason::TlsFailed),
            Self::Broken(_) => Some(EjectionReason::Reset),
        }
    }

    fn into_fault(self, conn: &ClientConn) -> Fault {
        let reset = |message| Fault::new(ErrorCode::UpstreamReset, message);
        match (conn.request_fault.get(), self) {
            (Some(ErrorCode::BodyTooLarge), _) => body_too_large(conn.max_body_bytes.get()),
            (Some(ErrorCode::BodyTimeout), _) => body_too_late(),
            (Some(code), _) => Fault::new(code, "the request body broke off"),
            (None, Self::Expired | Self::Slow) => late(conn),
            (None, Self::Broken(Broken::Malformed(why))) => {
                Fault::new(ErrorCode::BadResponse, format!("the agent's answer is not valid HTTP: {why}"))
            }
            (None, Self::Broken(Broken::Refused(_))) => Fault::new(ErrorCode::TlsFailed, NO_TLS),
            (None, Self::Broken(Broken::CutShort)) => {
                reset("the agent closed the connection within the head of its answer")
            }
            (None, Self::Broken(Broken::Reset)) => reset("the agent reset the stream before answering"),
            (None, Self::Broken(Broken::NotStarted)) => reset("the agent refused the request again and again"),
            (None, Self::Broken(_)) => reset("the agent closed the connection before answering"),
        }
    }
}
