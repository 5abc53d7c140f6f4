//! The shapes of requests and answers, apart from the model: renaming a field inside never changes the API.
//!
//! An explanation and a guard's reading have their shape where they are made: they exist to be read.
//!
//! camelCase; shares in percent; durations in seconds; times as RFC 3339 in UTC.

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::model::{
    Breach, Deployment, DeploymentState, Moment, OnBreach, Rollback, RollbackCause, Stage, Step,
};
use crate::control::view::DeploymentView;
use crate::judge::Reading;
use crate::routing::ids::Weight;
use crate::routing::table::Agent;
use crate::telemetry::reload::Reloads;

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
}

/// Both ends are in it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Buckets {
    pub start: u32,
    pub end: u32,
}

impl TableAgent {
    pub fn new(agent: &Agent, deployment: Option<&DeploymentView>) -> Self {
        let mut versions: Vec<_> = agent
            .versions
            .iter()
            .map(|version| TableVersion {
                version: version.id.to_string(),
                weight_percent: 0.0,
                bucket_ranges: Vec::new(),
                endpoints: version.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
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

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    pub id: String,
    pub agent: String,
    pub environment: String,
    pub version: String,
    pub stable: String,
    pub strategy: &'static str,
    /// `waiting`, `running`, `baking`, `paused`, `completed` or `rolled_back`.
    pub state: &'static str,
    pub weight_percent: f64,
    /// From 1; `null` where no step is under way.
    pub step: Option<usize>,
    pub steps: Vec<StepView>,
    pub bake_seconds: f64,
    pub cooldown_seconds: f64,
    pub on_breach: &'static str,
    pub started_at: String,
    /// When the state, or the step, began.
    pub since: String,
    /// While waiting: when it goes on.
    pub until: Option<String>,
    /// What the version was sent since the deployment began, and what of it was its error.
    pub requests: u64,
    pub errors: u64,
    /// What each guard says now; empty where nothing is on trial.
    pub guards: Vec<Reading>,
    /// While paused: the reading that paused it.
    pub paused_by: Option<Reading>,
    pub rollback: Option<RollbackView>,
    /// The newest rollback of another deployment of this agent.
    pub earlier_rollback: Option<EarlierRollback>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    pub weight_percent: f64,
    /// `null`: it stays; at the last step, none.
    pub hold_seconds: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackView {
    pub at: String,
    /// `guard` or `operator`.
    pub cause: &'static str,
    /// The guard that broke, with its figures then.
    pub guard: Option<Reading>,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// The version's share until then.
    pub weight_percent: f64,
    pub requests: u64,
    pub errors: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EarlierRollback {
    pub id: String,
    pub version: String,
    #[serde(flatten)]
    pub rollback: RollbackView,
}

/// The whole body may be absent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RollbackRequest {
    pub reason: Option<String>,
}

impl From<&DeploymentView> for DeploymentStatus {
    fn from(view: &DeploymentView) -> Self {
        let Deployment { spec, started, state, .. } = &view.deployment;
        let (stage, since, until) = match state {
            DeploymentState::Waiting { until } => (None, started, Some(until)),
            DeploymentState::Running { stage, since } | DeploymentState::Paused { stage, since, .. } => {
                (Some(*stage), since, None)
            }
            DeploymentState::Completed { at, .. }
            | DeploymentState::Superseded { at, .. }
            | DeploymentState::Aborted { at, .. }
            | DeploymentState::RolledBack(Rollback { at, .. }) => (None, at, None),
        };
        let step = match stage {
            Some(Stage::Step(step) | Stage::Set { step, .. }) => Some(step + 1),
            Some(Stage::Bake) | None => None,
        };
        Self {
            id: view.deployment.id().to_string(),
            agent: view.key.agent.to_string(),
            environment: view.key.environment.to_string(),
            version: spec.version.to_string(),
            stable: view.stable.to_string(),
            strategy: spec.strategy.as_str(),
            state: state.as_str(),
            weight_percent: percent(view.deployment.weight()),
            step,
            steps: spec.steps.iter().map(StepView::from).collect(),
            bake_seconds: spec.bake.as_secs_f64(),
            cooldown_seconds: spec.cooldown.as_secs_f64(),
            on_breach: match spec.on_breach {
                OnBreach::Rollback => "rollback",
                OnBreach::Pause => "pause",
            },
            started_at: time(started),
            since: time(since),
            until: until.map(time),
            requests: view.cost.requests,
            errors: view.cost.errors,
            guards: view.readings.clone(),
            paused_by: match state {
                DeploymentState::Paused { cause, .. } => cause.breach().and_then(Breach::reading).cloned(),
                _ => None,
            },
            rollback: RollbackView::of(&view.deployment),
            earlier_rollback: view.earlier_rollback.as_ref().and_then(|earlier| {
                let rollback = RollbackView::of(earlier)?;
                Some(EarlierRollback {
                    id: earlier.id().to_string(),
                    version: earlier.spec.version.to_string(),
                    rollback,
                })
            }),
        }
    }
}

impl From<&Step> for StepView {
    fn from(step: &Step) -> Self {
        Self { weight_percent: percent(step.weight), hold_seconds: step.hold.map(|hold| hold.as_secs_f64()) }
    }
}

impl RollbackView {
    fn of(deployment: &Deployment) -> Option<Self> {
        let DeploymentState::RolledBack(Rollback { at, cause, weight, cost }) = &deployment.state else { return None };
        let (guard, by, reason) = match cause {
            RollbackCause::Guard(breach) => (breach.reading().cloned(), None, None),
            RollbackCause::Operator { by, reason } => (None, Some(by.name.clone()), reason.clone()),
        };
        Some(Self {
            at: time(at),
            cause: cause.as_str(),
            guard,
            by,
            reason,
            weight_percent: percent(*weight),
            requests: cost.requests,
            errors: cost.errors,
        })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Of the live file.
    pub config_hash: String,
    pub reloads_succeeded: u64,
    pub reloads_failed: u64,
    pub last_success_at: Option<String>,
    /// Of the newest reload, if it failed: the live configuration is then an older one.
    pub error: Option<ReloadError>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadError {
    pub at: String,
    pub text: String,
}

impl From<Reloads> for ConfigStatus {
    fn from(reloads: Reloads) -> Self {
        Self {
            config_hash: reloads.hash,
            reloads_succeeded: reloads.succeeded,
            reloads_failed: reloads.failed,
            last_success_at: reloads.last_success.map(wall_time),
            error: reloads.error.map(|(at, text)| ReloadError { at: wall_time(at), text }),
        }
    }
}

/// Exact to the 0.001 % that weights are counted in.
fn percent(weight: Weight) -> f64 {
    f64::from(weight.get()) / 1000.0
}

fn time(moment: &Moment) -> String {
    wall_time(moment.wall)
}

/// A clock before 1970 or after 9999 shows as the nearest time that can be written.
fn wall_time(at: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(at.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}
