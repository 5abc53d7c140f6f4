//! What clients may use, and the form of their paths.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Duration;
use crate::config::scalar::{Bytes, Text, Whole};

/// What client connections may use.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of limits")]
pub(in crate::config) struct Limits {
    /// A larger request head gets 431. Default: 32KiB.
    pub(in crate::config) head_bytes: Option<Text<Bytes>>,
    /// More header fields get 431. Default: 100.
    #[schemars(range(min = 16, max = 1000))]
    pub(in crate::config) head_fields: Option<Whole>,
    /// How long a request head may take to arrive. Default: 10s.
    pub(in crate::config) head_timeout: Option<Duration>,
    /// How long a TLS handshake may take. Default: 10s.
    pub(in crate::config) handshake_timeout: Option<Duration>,
    /// How long a kept-alive connection may be idle. Default: 75s.
    pub(in crate::config) keep_alive_timeout: Option<Duration>,
    /// Client connections at a time; more wait to be accepted. Default: 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) connections: Option<Whole>,
    /// Of these, from one client address (of IPv6: from one /64); more are closed at once. Those of `trusted_proxies`
    /// are not counted. Default: no limit, for behind a load balancer all clients have one address.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) connections_per_address: Option<Whole>,
    /// Then the connection is closed in order: the client opens another. Default: 100000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(in crate::config) requests_per_connection: Option<Whole>,
    /// Connections that the kernel completes before they are accepted, up to its own `somaxconn`. Default: 4096.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) accept_backlog: Option<Whole>,
    /// File descriptors that are left for the admin side, the store and the logs: accepting pauses before the process
    /// has none but these. Default: 64.
    #[schemars(range(min = 16, max = 100_000))]
    pub(in crate::config) descriptor_reserve: Option<Whole>,
    /// HTTP/2 requests at a time on one connection; more are refused. Default: 128.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) streams_per_connection: Option<Whole>,
    /// HTTP/2 streams that a client may cancel in a minute beyond those that it lets end; more end the connection.
    /// Default: 500.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) stream_resets: Option<Whole>,
    /// HTTP/2 streams that had to be refused or reset for breaking the rules, in a connection's life; more end it.
    /// Default: 1024.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) stream_errors: Option<Whole>,
    /// HTTP/2 frames that carry nothing (SETTINGS, PING, PRIORITY, CONTINUATION, empty and unknown ones) in a minute,
    /// beyond two for each that does; more end the connection. Default: 1000.
    #[schemars(range(min = 10, max = 1_000_000))]
    pub(in crate::config) control_frames: Option<Whole>,
    /// How long a stop goes on accepting after `/readyz` has failed, so that load balancers see that first. Default: 0s.
    pub(in crate::config) drain_delay: Option<Duration>,
    /// How long a stop waits for requests in flight once it accepts no more. Default: 30s.
    pub(in crate::config) drain_timeout: Option<Duration>,
}

/// In which form paths are matched and forwarded.
///
/// The normal form has percent-encoded letters, digits, `-`, `.`, `_` and `~` decoded, other escapes in capitals, `.`
/// and `..` resolved, and `//` merged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `encoded_slash` or `forward`")]
pub(in crate::config) struct Paths {
    /// A path with `%2F`, `%5C` or a backslash: `refuse` it with 400, or `keep` it, as no separator. Default: refuse.
    pub(in crate::config) encoded_slash: Option<EncodedSlash>,
    /// What the agent gets: the `normalised` path that was matched, or the one `as_received`. Default: normalised.
    pub(in crate::config) forward: Option<ForwardPath>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum EncodedSlash {
    Refuse,
    Keep,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ForwardPath {
    Normalised,
    AsReceived,
}
