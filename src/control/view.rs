//! What metrics and the admin API may see of rollouts: copies, taken at one moment.

use super::agent::Tally;
use super::model::{AgentKey, Cost, Deployment};
use crate::judge::Reading;
use crate::routing::ids::VersionId;

/// A deployment as it stands.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    pub key: AgentKey,
    pub stable: VersionId,
    pub deployment: Deployment,
    /// So far; of a rolled back deployment, until then. Zero where nothing is on trial.
    pub cost: Cost,
    /// Of the newest look, in the order of the spec's guards; empty where nothing is on trial.
    pub readings: Vec<Reading>,
    /// The agent's newest rollback, where it was of another deployment than this one.
    pub earlier_rollback: Option<Deployment>,
}

/// One agent's counters since it appeared in the configuration; as many as there are agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutCounters {
    pub key: AgentKey,
    pub tally: Tally,
}
