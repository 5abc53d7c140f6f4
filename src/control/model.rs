//! Deployments as their author wrote them, and as they are.

use std::sync::Arc;
use std::time::Duration;

use crate::judge::GuardSpec;
use crate::routing::ids::{VersionId, Weight};
use crate::routing::spec::{AgentSpec, Audience};

/// An intent to bring a version to an environment by a strategy.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentSpec {
    /// SHA-256-like fingerprint of the author's block (with agent and environment): a deployment is its content.
    pub fingerprint: String,
    pub version: VersionId,
    pub strategy: Strategy,
    /// Never empty; the last weight is 100 %.
    pub steps: Vec<Step>,
    /// After the last step, guards must hold this long before the deployment is complete.
    pub bake: Duration,
    pub guards: Vec<GuardSpec>,
    pub on_breach: OnBreach,
    pub cooldown: Duration,
    pub audience: Audience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Immediate,
    Canary,
    BlueGreen,
    Rolling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub weight: Weight,
    /// `None`: stay until an operator advances.
    pub hold: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBreach {
    Rollback,
    Pause,
}

/// What an author wants of one agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentIntent {
    pub spec: Arc<AgentSpec>,
    pub deployment: Option<DeploymentSpec>,
}

/// What an author wants of all agents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    pub config_hash: Arc<str>,
    pub agents: Vec<AgentIntent>,
}
