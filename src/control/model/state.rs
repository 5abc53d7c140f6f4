//! Where on its way a deployment is, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Actor, DeploymentSpec, Moment, shared};
use crate::control::prometheus::QueryReading;
use crate::judge::Reading;
use crate::routing::ids::{VersionId, Weight};

/// Where on its ramp a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Index into the spec's steps.
    Step(usize),
    /// At a weight that an operator set. It is held as long as `step`; then the ramp goes on above the weight.
    Set { step: usize, weight: Weight },
    /// All steps are done: at 100 %, still guarded.
    Bake,
}

impl Stage {
    /// At `weight`, for as long as the last step that asks for no more.
    pub fn set(spec: &DeploymentSpec, weight: Weight) -> Self {
        let step = spec.steps.iter().rposition(|step| step.weight <= weight).unwrap_or(0);
        Self::Set { step, weight }
    }

    pub fn weight(self, spec: &DeploymentSpec) -> Weight {
        match self {
            Self::Step(step) => spec.steps.get(step).map_or(Weight::FULL, |s| s.weight),
            Self::Set { weight, .. } => weight,
            Self::Bake => Weight::FULL,
        }
    }

    /// The step after this; `None`: there is none above.
    pub fn next_step(self, spec: &DeploymentSpec) -> Option<usize> {
        match self {
            Self::Step(step) => (step + 1 < spec.steps.len()).then_some(step + 1),
            Self::Set { weight, .. } => spec.steps.iter().position(|step| step.weight > weight),
            Self::Bake => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum DeploymentState {
    /// At 0 %: until then for the cooldown of a rollback, and until its version is healthy where that is asked.
    Waiting { until: Moment },
    /// `since` is when the time that counts towards the stage's hold or bake began.
    Running { stage: Stage, since: Moment },
    /// The weight stands still. `held` is what the stage's time had come to, where that still counts.
    Paused { stage: Stage, since: Moment, held: Duration, cause: PauseCause },
    /// Its version is stable, in place of `replaced` where that was another; or, of a deployment for some segments
    /// only, it serves those.
    Completed { at: Moment, replaced: Option<VersionId> },
    /// Its author wants something else now: replaced or withdrawn before it had ended.
    Superseded { at: Moment, by: Actor },
    /// Ended by an operator, without blame: no cooldown. It never opens again but by a retry.
    Aborted { at: Moment, by: Actor, reason: Option<String>, weight: Weight, cost: Cost },
    /// For good: it never opens again but by a retry, which is a new deployment.
    RolledBack(Rollback),
}

impl DeploymentState {
    pub const NAMES: [&str; 8] =
        ["waiting", "running", "baking", "paused", "completed", "superseded", "aborted", "rolled_back"];

    /// For the API and the metric label `state`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Running { stage: Stage::Step(_) | Stage::Set { .. }, .. } => "running",
            Self::Running { stage: Stage::Bake, .. } => "baking",
            Self::Paused { .. } => "paused",
            Self::Completed { .. } => "completed",
            Self::Superseded { .. } => "superseded",
            Self::Aborted { .. } => "aborted",
            Self::RolledBack(_) => "rolled_back",
        }
    }

    /// The share of eligible traffic that its version should get now.
    pub fn weight(&self, spec: &DeploymentSpec) -> Weight {
        match self {
            Self::Running { stage, .. } | Self::Paused { stage, .. } => stage.weight(spec),
            Self::Completed { .. } => Weight::FULL,
            Self::Waiting { .. } | Self::Superseded { .. } | Self::Aborted { .. } | Self::RolledBack(_) => Weight::ZERO,
        }
    }

    /// Whether its version gets traffic on trial, so that guards look at it.
    pub fn on_trial(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. })
    }

    /// Whether it may still go on.
    pub fn is_live(&self) -> bool {
        self.on_trial() || matches!(self, Self::Waiting { .. })
    }

    /// Whether its version must not serve by any rule or split, and its block must not open again.
    pub fn is_barred(&self) -> bool {
        matches!(self, Self::Aborted { .. } | Self::RolledBack(_))
    }

    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Running { stage, .. } | Self::Paused { stage, .. } => Some(*stage),
            _ => None,
        }
    }
}

/// Something said no, with what it said it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Breach {
    Guard {
        /// Shared, for a state is copied more often than it changes.
        #[serde(with = "shared")]
        reading: Arc<Reading>,
    },
    /// What a Prometheus server said of a query.
    Query {
        #[serde(with = "shared")]
        reading: Arc<QueryReading>,
    },
    /// A health check of the version failed during its ramp.
    Unhealthy { why: String },
}

impl Breach {
    /// One sentence for people.
    pub fn explanation(&self) -> &str {
        match self {
            Self::Guard { reading } => &reading.explanation,
            Self::Query { reading } => &reading.explanation,
            Self::Unhealthy { why } => why,
        }
    }

    pub fn reading(&self) -> Option<&Reading> {
        match self {
            Self::Guard { reading } => Some(reading),
            Self::Query { .. } | Self::Unhealthy { .. } => None,
        }
    }

    pub fn query(&self) -> Option<&QueryReading> {
        match self {
            Self::Query { reading } => Some(reading),
            Self::Guard { .. } | Self::Unhealthy { .. } => None,
        }
    }
}

/// What paused a deployment, and what may end it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PauseCause {
    /// `last` is when a guard last said no: the cooldown counts from there.
    Breach { breach: Breach, last: Moment },
    /// Until an operator resumes it, whatever the guards say.
    Operator { by: Actor, reason: Option<String> },
}

impl PauseCause {
    pub fn breach(&self) -> Option<&Breach> {
        match self {
            Self::Breach { breach, .. } => Some(breach),
            Self::Operator { .. } => None,
        }
    }
}

/// Why, when, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    pub at: Moment,
    pub cause: RollbackCause,
    /// What the version's share was until then.
    pub weight: Weight,
    pub cost: Cost,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackCause {
    Guard(Breach),
    Operator { by: Actor, reason: Option<String> },
}

impl RollbackCause {
    /// For the API and the metric label `cause`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Guard(Breach::Guard { .. } | Breach::Query { .. }) => "guard",
            Self::Guard(Breach::Unhealthy { .. }) => "health",
            Self::Operator { .. } => "operator",
        }
    }
}

/// What the version on trial was sent since its deployment began, how much of it went wrong, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Sent, ended or not.
    pub requests: u64,
    pub errors: u64,
    /// Ended in a way that says something of the version.
    pub streams: u64,
    pub stream_errors: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// In 1e-9 of the price table's currency, of the answers that have a price.
    pub nanos: u64,
}

impl Cost {
    /// What was added since `earlier`. Counters that began anew give nothing.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            streams: self.streams.saturating_sub(earlier.streams),
            stream_errors: self.stream_errors.saturating_sub(earlier.stream_errors),
            input_tokens: self.input_tokens.saturating_sub(earlier.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(earlier.output_tokens),
            nanos: self.nanos.saturating_sub(earlier.nanos),
        }
    }
}
