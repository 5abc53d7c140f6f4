//! What is live, by agent.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::breaker::BreakerView;
use super::conversation::DrainingView;
use super::deployment::DeploymentStatus;
use super::endpoint::{EndpointStatus, StandingCheck};
use super::rates::RateLimitView;
use super::{ActorView, percent, time};
use crate::control::agent::Stable;
use crate::control::view::DeploymentView;
use crate::routing::endpoint::Tick;
use crate::routing::table::Agent;

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableView {
    pub epoch: u64,
    pub config_hash: String,
    /// In the order of environment and agent.
    pub agents: Vec<TableAgent>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    pub epoch: u64,
    pub config_hash: String,
    #[serde(flatten)]
    pub agent: TableAgent,
    /// Versions that get no more new traffic and still have something to do.
    pub draining: Vec<DrainingView>,
    /// Its own in the order of the file, then those of its environment.
    pub rate_limits: Vec<RateLimitView>,
    /// What the agent's standing checks say, by version and endpoint.
    pub checks: Vec<StandingCheck>,
    /// Who made the stable version so.
    pub stable_by: StableBy,
    /// Of the agent's state: what If-Match takes.
    pub revision: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct StableBy {
    pub at: String,
    pub by: ActorView,
    /// The deployment that made it so, if one did.
    pub deployment: Option<String>,
}

impl From<&Stable> for StableBy {
    fn from(stable: &Stable) -> Self {
        Self {
            at: time(&stable.at),
            by: ActorView::from(&stable.by),
            deployment: stable.deployment.as_ref().map(ToString::to_string),
        }
    }
}

/// One line of the list of agents.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSummary {
    #[serde(flatten)]
    pub agent: TableAgent,
    /// Of the agent's state: what If-Match takes.
    pub revision: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableAgent {
    pub agent: String,
    pub environment: String,
    pub stable: String,
    pub versions: Vec<TableVersion>,
    pub deployment: Option<DeploymentStatus>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableVersion {
    pub version: String,
    /// Of the requests that have a key and are in the split's audience.
    pub weight_percent: f64,
    pub bucket_ranges: Vec<Buckets>,
    pub endpoints: Vec<String>,
    /// In the same order.
    pub endpoint_states: Vec<EndpointStatus>,
    /// `null` where the agent has none.
    pub circuit_breaker: Option<BreakerView>,
}

/// Both ends are in it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Buckets {
    pub start: u32,
    pub end: u32,
}

impl TableAgent {
    pub fn new(agent: &Agent, deployment: Option<&DeploymentView>) -> Self {
        let (rule, now) = (&agent.spec.exchange.ejection, Tick::at(Instant::now()));
        let mut versions: Vec<_> = agent
            .versions
            .iter()
            .map(|version| TableVersion {
                version: version.id.to_string(),
                weight_percent: 0.0,
                bucket_ranges: Vec::new(),
                endpoints: version.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
                circuit_breaker: agent.spec.exchange.resilience.breaker.map(|_| BreakerView::of(version)),
                endpoint_states: version.endpoints.iter().map(|e| EndpointStatus::new(e, rule, now)).collect(),
            })
            .collect();
        for (range, version) in agent.split.ranges() {
            if let Some(version) = versions.get_mut(version) {
                version.bucket_ranges.push(Buckets { start: *range.start(), end: *range.end() });
            }
        }
        for (index, version) in versions.iter_mut().enumerate() {
            version.weight_percent = percent(agent.split.weight(index));
        }
        Self {
            agent: agent.id().to_string(),
            environment: agent.environment().to_string(),
            stable: agent.versions.get(agent.stable).map(|v| v.id.to_string()).unwrap_or_default(),
            versions,
            deployment: deployment.map(DeploymentStatus::from),
        }
    }
}
