//! What clients may use.

use std::time::Duration;

/// What client connections may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A larger request head gets 431.
    pub head_bytes: usize,
    /// More header fields get 431.
    pub head_fields: usize,
    /// From accept, or from the first byte on a kept-alive connection, to the whole head.
    pub head_timeout: Duration,
    /// From accept to the end of a TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a kept-alive connection may be idle.
    pub keep_alive_timeout: Duration,
    /// All client connections together; more wait in the kernel's accept queue.
    pub connections: usize,
    /// Of these, from one client address; more are closed at once.
    pub connections_per_address: Option<usize>,
    /// Then a connection is closed in order.
    pub requests_per_connection: usize,
    /// Connections that the kernel completes before they are accepted.
    pub accept_backlog: usize,
    /// File descriptors that clients and endpoints leave to the rest.
    pub descriptor_reserve: usize,
    /// HTTP/2 requests at a time on one connection; more are refused.
    pub streams_per_connection: usize,
    /// HTTP/2 streams cancelled in a minute, beyond those that end; more end the connection.
    pub stream_resets: usize,
    /// HTTP/2 streams refused or reset for breaking the rules in a connection's life; more end it.
    pub stream_errors: usize,
    /// HTTP/2 frames without content in a minute, beyond two for each with; more end the connection.
    pub control_frames: usize,
    /// How long a stop goes on accepting after readiness has failed.
    pub drain_delay: Duration,
    /// How long it then waits for exchanges in flight.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 << 10,
            head_fields: 100,
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            connections: 10_000,
            connections_per_address: None,
            requests_per_connection: 100_000,
            accept_backlog: 4096,
            descriptor_reserve: 64,
            streams_per_connection: 128,
            stream_resets: 500,
            stream_errors: 1024,
            control_frames: 1000,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
