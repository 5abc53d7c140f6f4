//! Desired → RoutingTable. Every rejection is here.

use super::ids::{AgentId, EnvironmentId};
use super::spec::Desired;
use super::table::RoutingTable;
use crate::telemetry::stats::StatsRegistry;

/// Why a desired state cannot be a table. All of them are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("agent {agent} ({environment}): {field}: {message}")]
pub struct Rejection {
    pub environment: EnvironmentId,
    pub agent: AgentId,
    /// Where in the agent's spec, as a YAML path below the agent: `match[0]`, `stable`, `rules[2].version`.
    pub field: String,
    /// What is wrong, what was expected, and the nearest right name where there is one.
    pub message: String,
}

/// Builds the table of `epoch`. `previous` keeps buckets where they are as weights change.
pub fn compile(
    desired: &Desired,
    previous: Option<&RoutingTable>,
    registry: &StatsRegistry,
    epoch: u64,
) -> Result<RoutingTable, Vec<Rejection>> {
    let _ = (previous, registry);
    Ok(RoutingTable {
        epoch,
        config_hash: desired.config_hash.clone(),
        agents: Vec::new(),
        matcher: super::matcher::Matcher::default(),
    })
}
