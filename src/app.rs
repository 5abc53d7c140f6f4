//! The only wiring: threads, sockets, reload, stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::routing::table::SharedTable;
use crate::telemetry::stats::StatsRegistry;

/// A running instance. Dropping it stops it at once; [`Running::stop`] drains first.
pub struct Running {
    /// In the order of `config.listeners`, with real ports.
    pub listeners: Vec<SocketAddr>,
    pub admin: SocketAddr,
    pub table: SharedTable,
    pub registry: Arc<StatsRegistry>,
}

/// Starts everything; returns when all sockets are bound and the first table is live.
/// `file` is watched for changes when given.
pub fn start(_config: Config, _file: Option<PathBuf>) -> anyhow::Result<Running> {
    anyhow::bail!("not wired yet")
}

impl Running {
    /// Stops accepting, lets exchanges in flight end (to the drain time-out), joins the threads.
    pub fn stop(self) {}
}
