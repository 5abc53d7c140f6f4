//! What metrics and the admin API may see of rollouts: copies, taken at one moment.

use super::agent::{Stable, Tally};
use super::model::{AgentKey, Cost, Deployment};
use crate::judge::Reading;
use crate::routing::ids::VersionId;

/// A deployment as it stands.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    pub key: AgentKey,
    /// The version in effect.
    pub stable: VersionId,
    /// Whose act made it so.
    pub stable_by: Stable,
    pub deployment: Deployment,
    /// So far; of a rolled back or aborted deployment, until then. Zero where nothing is on trial.
    pub cost: Cost,
    /// Of the newest look, in the order of the spec's guards; empty where nothing is on trial.
    pub readings: Vec<Reading>,
    /// The agent's newest rollback, where it was of another deployment than this one.
    pub earlier_rollback: Option<Deployment>,
    /// Of the agent's state.
    pub revision: u64,
}

/// One agent's counters since it appeared in the configuration; as many as there are agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutCounters {
    pub key: AgentKey,
    pub tally: Tally,
}
