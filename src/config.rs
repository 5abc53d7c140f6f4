//! The validated configuration: what the rest of the program may rely on without checking again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::control::model::AgentIntent;
use crate::routing::ids::EnvironmentId;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// First 16 hex digits of the SHA-1 of the file's bytes.
    pub hash: Arc<str>,
    pub listeners: Vec<ListenerConfig>,
    pub admin: AdminConfig,
    pub state_dir: PathBuf,
    /// 1..=256
    pub workers: usize,
    /// Responses carry `x-pointsman-version`.
    pub version_header: bool,
    pub limits: Limits,
    pub access_log: Option<AccessLogConfig>,
    pub agents: Vec<AgentIntent>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    pub address: SocketAddr,
    pub environment: EnvironmentId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    pub address: SocketAddr,
    /// Wanted of every `/api` request when set; must be set where `address` is not loopback.
    pub token: Option<Secret>,
}

/// A secret that no log or error can print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What a client connection may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A larger request head gets 431.
    pub head_bytes: usize,
    /// More header fields get 431.
    pub head_fields: usize,
    /// From accept, or from the first byte on a kept-alive connection, to the whole head.
    pub head_timeout: Duration,
    /// How long a kept-alive connection may be idle.
    pub keep_alive_timeout: Duration,
    /// All client connections together; more wait in the kernel's accept queue.
    pub connections: usize,
    /// How long a stop waits for exchanges in flight.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 << 10,
            head_fields: 100,
            head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            connections: 10_000,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogConfig {
    /// `None`: standard output.
    pub path: Option<PathBuf>,
    /// 0..=1 of the requests, chosen at random; errors are always logged.
    pub sample: f64,
}
