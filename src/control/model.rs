//! Deployments as their author wrote them, and as they are.
//!
//! A deployment is identified by the content of its block: the same block is the same deployment, a changed
//! block is another one. Its state is one enum, so that a paused deployment always says what paused it and a
//! rolled back one always says why and when.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::health::HealthCheck;
use super::prometheus::{PrometheusServer, QueryGuard};
use crate::judge::{GuardSpec, Reading};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId, Weight};
use crate::routing::spec::{AgentSpec, Audience};

/// An intent to bring a version to an environment by a strategy.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentSpec {
    /// SHA-1 of the author's block (with agent and environment): a deployment is its content.
    pub fingerprint: String,
    pub version: VersionId,
    pub strategy: Strategy,
    /// Never empty; the last weight is 100 %.
    pub steps: Vec<Step>,
    /// After the last step, guards must hold this long before the deployment is complete.
    pub bake: Duration,
    pub guards: Vec<GuardSpec>,
    /// Guards that ask Prometheus.
    pub queries: Vec<QueryGuard>,
    /// What the version's endpoints are asked, before the first request and during the ramp.
    pub health: Vec<HealthCheck>,
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

impl Strategy {
    /// As the YAML file names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Canary => "canary",
            Self::BlueGreen => "blue-green",
            Self::Rolling => "rolling",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub weight: Weight,
    /// `None`: stay.
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
    /// The checks of deployments that name none.
    pub health: Arc<[HealthCheck]>,
}

/// What an author wants of all agents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    pub config_hash: Arc<str>,
    pub agents: Vec<AgentIntent>,
    /// Whom guards with a query ask.
    pub prometheus: Option<Arc<PrometheusServer>>,
}

/// Which agent: every state of a rollout belongs to one of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentKey {
    pub environment: EnvironmentId,
    pub agent: AgentId,
}

impl AgentKey {
    pub fn of(spec: &AgentSpec) -> Self {
        Self { environment: spec.environment.clone(), agent: spec.id.clone() }
    }
}

/// One moment on both clocks: the monotonic one is for planning, the wall is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Moment {
    /// The runtime's clock, so that a test which pauses it pauses rollouts too.
    pub fn now() -> Self {
        Self { instant: tokio::time::Instant::now().into_std(), wall: SystemTime::now() }
    }

    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }

    /// `None` where a clock cannot say it: further away than any rollout will live.
    pub fn checked_add(self, by: Duration) -> Option<Self> {
        Some(Self { instant: self.instant.checked_add(by)?, wall: self.wall.checked_add(by)? })
    }
}

/// Names a deployment by its content.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DeploymentId(Arc<str>);

impl DeploymentId {
    pub fn of(spec: &DeploymentSpec) -> Self {
        Self(spec.fingerprint.as_str().into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A deployment and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub spec: Arc<DeploymentSpec>,
    pub started: Moment,
    pub state: DeploymentState,
}

impl Deployment {
    pub fn id(&self) -> DeploymentId {
        DeploymentId::of(&self.spec)
    }

    pub fn weight(&self) -> Weight {
        self.state.weight(&self.spec)
    }
}

/// Where on its way a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Index into the spec's steps.
    Step(usize),
    /// All steps are done: at 100 %, still guarded.
    Bake,
}

impl Stage {
    pub fn weight(self, spec: &DeploymentSpec) -> Weight {
        match self {
            Self::Step(step) => spec.steps.get(step).map_or(Weight::FULL, |s| s.weight),
            Self::Bake => Weight::FULL,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum DeploymentState {
    /// At 0 %: an earlier deployment of this agent was rolled back less than a cooldown ago.
    Waiting { until: Moment },
    /// `since` is when the stage, and with it its hold or bake time, began.
    Running { stage: Stage, since: Moment },
    /// The weight stands still. `breached` is when a guard last said no: the cooldown counts from there.
    Paused { stage: Stage, since: Moment, cause: Breach, breached: Moment },
    /// The version serves its whole audience, whatever the file's `stable` says, until the file changes.
    Completed { at: Moment },
    /// For good: this deployment never opens again.
    RolledBack(Rollback),
}

impl DeploymentState {
    pub const NAMES: [&str; 6] = ["waiting", "running", "baking", "paused", "completed", "rolled_back"];

    /// For the API and the metric label `state`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Running { stage: Stage::Step(_), .. } => "running",
            Self::Running { stage: Stage::Bake, .. } => "baking",
            Self::Paused { .. } => "paused",
            Self::Completed { .. } => "completed",
            Self::RolledBack(_) => "rolled_back",
        }
    }

    /// The share of eligible traffic that its version should get now.
    pub fn weight(&self, spec: &DeploymentSpec) -> Weight {
        match self {
            Self::Waiting { .. } | Self::RolledBack(_) => Weight::ZERO,
            Self::Running { stage, .. } | Self::Paused { stage, .. } => stage.weight(spec),
            Self::Completed { .. } => Weight::FULL,
        }
    }

    /// Whether its version gets traffic on trial, so that guards look at it.
    pub fn on_trial(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. })
    }
}

/// A guard said no, with the figures it said it on.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Shared, for a state is copied more often than it changes.
    pub reading: Arc<Reading>,
}

/// Why, when, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    pub at: Moment,
    pub cause: RollbackCause,
    /// What the version's share was until then.
    pub weight: Weight,
    pub cost: Cost,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RollbackCause {
    Guard(Breach),
    Operator { by: String, reason: Option<String> },
}

impl RollbackCause {
    /// For the API and the metric label `cause`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Guard(_) => "guard",
            Self::Operator { .. } => "operator",
        }
    }
}

/// What the version on trial was sent since its deployment began, and how much of it went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Sent, ended or not.
    pub requests: u64,
    pub errors: u64,
}
