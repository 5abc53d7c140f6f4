//! What the proxy counts about itself, and the closed list of the errors that it answers.
//!
//! Figures about a *version* are in [`super::stats`]; these are about connections, pools and requests
//! that never got to a version. One [`ProxyCounters`] per worker (the acceptor may use any of them):
//! any thread may add to any, and adding to one's own is an uncontended instruction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::conversations::ConversationCounters;
use super::tls::HandshakeCounters;

/// Why Pointsman itself, and not an agent, answered. The `code` of the JSON body and of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorCode {
    /// Not HTTP, or a request that must not be passed on.
    BadRequest,
    HeadTooLarge,
    UriTooLong,
    BodyTooLarge,
    /// The request head did not come in time.
    HeadTimeout,
    /// The request body stood still for too long.
    BodyTimeout,
    /// `CONNECT` and the like.
    MethodNotSupported,
    /// No agent's match takes the request.
    NoRoute,
    /// A rate limit's or a concurrency limit's answer.
    RateLimited,
    /// Shed: there is more to do than can be done in time.
    Overloaded,
    /// The chosen version's circuit breaker lets no request through just now.
    CircuitOpen,
    /// The chosen version has no endpoint.
    NoEndpoint,
    ConnectFailed,
    ConnectTimeout,
    ResponseTimeout,
    /// The whole exchange took longer than it may.
    RequestTimeout,
    /// No TLS with the endpoint: its certificate, ours, or the protocol.
    TlsFailed,
    /// The upstream connection ended before a whole response head.
    UpstreamReset,
    /// The upstream's answer is not HTTP, or must not be passed on.
    BadResponse,
    /// A defect of ours: a connection was lost to a panic.
    Internal,
}

impl ErrorCode {
    pub const ALL: [Self; 20] = [
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::UriTooLong,
        Self::BodyTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::MethodNotSupported,
        Self::NoRoute,
        Self::RateLimited,
        Self::Overloaded,
        Self::CircuitOpen,
        Self::NoEndpoint,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::ResponseTimeout,
        Self::RequestTimeout,
        Self::TlsFailed,
        Self::UpstreamReset,
        Self::BadResponse,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::MethodNotSupported => "method_not_supported",
            Self::NoRoute => "no_route",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen => "circuit_open",
            Self::NoEndpoint => "no_endpoint",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::TlsFailed => "tls_failed",
            Self::UpstreamReset => "upstream_reset",
            Self::BadResponse => "bad_response",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that goes with the code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NoRoute => 404,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::RateLimited => 429,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::MethodNotSupported => 501,
            Self::ConnectFailed | Self::TlsFailed | Self::UpstreamReset | Self::BadResponse => 502,
            Self::NoEndpoint | Self::Overloaded | Self::CircuitOpen => 503,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::RequestTimeout => 504,
        }
    }
}

/// One worker's counts. Aligned, so that no two workers' counts share a cache line.
#[derive(Default)]
#[repr(align(64))]
pub struct ProxyCounters {
    /// Client connections taken from the kernel and served.
    pub client_accepted: AtomicU64,
    /// Those of them that spoke HTTP/2.
    pub client_http2: AtomicU64,
    /// Those that ended. Open connections are the difference, over all workers.
    pub client_closed: AtomicU64,
    /// Times that the acceptor held new clients back, at the limit of connections or of descriptors.
    pub client_held: AtomicU64,
    /// Closed at once, at the limit of connections from one address.
    pub client_refused: AtomicU64,
    /// HTTP/2 connections ended for frames that carry nothing.
    pub client_floods: AtomicU64,
    pub upstream_opened: AtomicU64,
    /// Exchanges that took an idle connection from the pool.
    pub upstream_reused: AtomicU64,
    /// Idle connections that turned out to be closed by the upstream when taken or probed.
    pub upstream_stale: AtomicU64,
    /// Requests sent again after a failure that allowed it.
    pub retries: AtomicU64,
    pub conversations: ConversationCounters,
    /// Of TLS, with clients.
    pub handshakes: HandshakeCounters,
    errors: [AtomicU64; ErrorCode::ALL.len()],
}

impl ProxyCounters {
    /// One for each worker.
    pub fn for_workers(workers: usize) -> Arc<[Self]> {
        (0..workers.max(1)).map(|_| Self::default()).collect()
    }

    /// Counts an error that was answered by ourselves.
    pub fn error(&self, code: ErrorCode) {
        add(&self.errors[code as usize]);
    }

    pub fn errors(&self, code: ErrorCode) -> u64 {
        self.errors[code as usize].load(Ordering::Relaxed)
    }
}

/// Adds one: the only thing that is ever done to these counters.
pub fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_code_has_its_own_place_and_name_and_an_error_status() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index, "{code:?}");
            assert!((400..600).contains(&code.status()), "{code:?}");
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code:?}");
        }
        let names: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn an_error_is_counted_under_its_code_only() {
        let counters = ProxyCounters::default();
        counters.error(ErrorCode::NoRoute);
        counters.error(ErrorCode::NoRoute);
        for code in ErrorCode::ALL {
            assert_eq!(counters.errors(code), if code == ErrorCode::NoRoute { 2 } else { 0 }, "{code:?}");
        }
    }

    #[test]
    fn there_is_always_one_and_no_two_share_a_cache_line() {
        assert_eq!(ProxyCounters::for_workers(0).len(), 1);
        assert_eq!(ProxyCounters::for_workers(3).len(), 3);
        assert_eq!(align_of::<ProxyCounters>(), 64);
    }
}
