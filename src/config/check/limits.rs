//! What clients may use: defaults and ranges.

use std::time::Duration;

use super::super::file::{self, EncodedSlash, ForwardPath};
use super::super::limits::Limits;
use super::super::scalar::{Text, Whole};
use super::scope::Scope;
use crate::routing::networks::Networks;
use crate::routing::path::{self, PathPolicy};

const HOUR: Duration = Duration::from_secs(3600);
const MILLION: u64 = 1_000_000;

pub(super) fn limits(given: file::Limits, scope: &mut Scope<'_, '_>) -> Limits {
    let default = Limits::default();
    let patience = Duration::from_millis(100)..=Duration::from_secs(300);
    let mut count = |key: &str, given: Option<Whole>, default: usize, range| {
        scope.count(&format!("limits.{key}"), given, default as u64, range) as usize
    };
    let per_address = given.connections_per_address;
    let counts = Limits {
        head_fields: count("head_fields", given.head_fields, default.head_fields, 16..=1000),
        connections: count("connections", given.connections, default.connections, 1..=MILLION),
        connections_per_address: per_address.map(|n| count("connections_per_address", Some(n), 1, 1..=MILLION)),
        requests_per_connection: count(
            "requests_per_connection",
            given.requests_per_connection,
            default.requests_per_connection,
            1..=1000 * MILLION,
        ),
        accept_backlog: count("accept_backlog", given.accept_backlog, default.accept_backlog, 1..=MILLION),
        descriptor_reserve: count(
            "descriptor_reserve",
            given.descriptor_reserve,
            default.descriptor_reserve,
            16..=100_000,
        ),
        streams_per_connection: count(
            "streams_per_connection",
            given.streams_per_connection,
            default.streams_per_connection,
            1..=10_000,
        ),
        stream_resets: count("stream_resets", given.stream_resets, default.stream_resets, 1..=MILLION),
        stream_errors: count("stream_errors", given.stream_errors, default.stream_errors, 1..=MILLION),
        control_frames: count("control_frames", given.control_frames, default.control_frames, 10..=MILLION),
        ..default
    };
    let mut duration =
        |key: &str, given, default, range| scope.duration(&format!("limits.{key}"), given, default, range);
    let times = Limits {
        head_timeout: duration("head_timeout", given.head_timeout, default.head_timeout, patience.clone()),
        handshake_timeout: duration("handshake_timeout", given.handshake_timeout, default.handshake_timeout, patience),
        keep_alive_timeout: duration(
            "keep_alive_timeout",
            given.keep_alive_timeout,
            default.keep_alive_timeout,
            Duration::from_secs(1)..=HOUR,
        ),
        drain_delay: duration("drain_delay", given.drain_delay, default.drain_delay, Duration::ZERO..=HOUR),
        drain_timeout: duration("drain_timeout", given.drain_timeout, default.drain_timeout, Duration::ZERO..=HOUR),
        ..counts
    };
    // The HTTP reader works with a buffer of at least 8 KiB.
    let head_bytes =
        scope.bytes("limits.head_bytes", given.head_bytes, default.head_bytes as u64, 8 << 10..=1 << 20) as usize;
    Limits { head_bytes, ..times }
}

pub(super) fn trusted_proxies(given: Vec<Text<String>>, scope: &mut Scope<'_, '_>) -> Networks {
    let (_, positions) = scope.positions("trusted_proxies");
    let mut known = Vec::with_capacity(given.len());
    for (position, Text(block)) in positions.into_iter().zip(given) {
        match Networks::parse(std::slice::from_ref(&block)) {
            Ok(_) => known.push(block),
            Err(message) => scope.error(&format!("trusted_proxies[{position}]"), message),
        }
    }
    Networks::parse(&known).unwrap_or_default()
}

pub(super) fn paths(given: &file::Paths) -> PathPolicy {
    PathPolicy {
        slashes: match given.encoded_slash {
            None | Some(EncodedSlash::Refuse) => path::EncodedSlash::Refuse,
            Some(EncodedSlash::Keep) => path::EncodedSlash::Keep,
        },
        forward: match given.forward {
            None | Some(ForwardPath::Normalised) => path::ForwardPath::Normalised,
            Some(ForwardPath::AsReceived) => path::ForwardPath::AsReceived,
        },
    }
}
