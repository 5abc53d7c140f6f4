//! A deployment as it is, or as it ended.

use schemars::JsonSchema;
use serde::Serialize;

use super::conversation::DrainingView;
use super::{ActorView, percent, time};
use crate::control::agent::AgentState;
use crate::control::health::CheckReading;
use crate::control::model::{
    AgentKey, Breach, Cost, Deployment, DeploymentState, OnBreach, PauseCause, Rollback, RollbackCause, Stage, Step,
};
use crate::control::prometheus::QueryReading;
use crate::control::view::DeploymentView;
use crate::judge::{Reading, Verdict, overall};

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    pub id: String,
    pub agent: String,
    pub environment: String,
    pub version: String,
    /// The agent's version in effect.
    pub stable: String,
    pub strategy: &'static str,
    /// `waiting`, `running`, `baking`, `paused`, `completed`, `superseded`, `aborted` or `rolled_back`.
    pub state: &'static str,
    pub weight_percent: f64,
    /// From 1; `null` where no step is under way.
    pub step: Option<usize>,
    pub steps: Vec<StepView>,
    pub bake_seconds: f64,
    pub cooldown_seconds: f64,
    /// How long the version that it replaces keeps its conversations; `null`: until they end.
    pub drain_timeout_seconds: Option<f64>,
    pub on_breach: &'static str,
    /// Who began it.
    pub by: ActorView,
    pub started_at: String,
    /// When the state, or the step, began.
    pub since: String,
    /// While waiting: when it goes on.
    pub until: Option<String>,
    /// What the version was sent since the deployment began, and what of it was its error.
    pub requests: u64,
    pub errors: u64,
    /// Its answers that are streams, and those of them that failed; cancelled and unread ones are not counted.
    pub streams: u64,
    pub stream_errors: u64,
    /// What its answers told.
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// In the currency of the price table, of the answers whose model has a price.
    pub cost: f64,
    /// What each guard says now; empty where nothing is on trial.
    pub guards: Vec<Reading>,
    /// What each guard that asks Prometheus says now.
    pub queries: Vec<QueryReading>,
    /// What each health check says of each endpoint of the version, while the deployment is under way.
    pub health: Vec<CheckReading>,
    /// While paused by a guard: the reading that paused it.
    pub paused_by: Option<Reading>,
    /// While paused.
    pub pause: Option<PauseView>,
    pub rollback: Option<RollbackView>,
    /// Of a deployment that was aborted or superseded.
    pub ended: Option<EndView>,
    /// The newest rollback of another deployment of this agent.
    pub earlier_rollback: Option<EarlierRollback>,
    /// The agent's versions that get no more new traffic and still have something to do. Of the current deployment,
    /// where that is asked for by itself.
    pub draining: Vec<DrainingView>,
    /// Of the agent's state: what If-Match takes.
    pub revision: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    pub weight_percent: f64,
    /// `null`: it stays; at the last step, none.
    pub hold_seconds: Option<f64>,
}

/// Why a deployment stands still.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseView {
    /// `guard`, `health` or `operator`.
    pub cause: &'static str,
    pub by: Option<ActorView>,
    pub reason: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackView {
    pub at: String,
    /// `guard`, `health` or `operator`.
    pub cause: &'static str,
    /// The guard that broke, with its figures then.
    pub guard: Option<Reading>,
    /// The same of a guard that asks Prometheus.
    pub query: Option<QueryReading>,
    /// The operator.
    pub by: Option<ActorView>,
    /// The operator's, or what the guard or the health check found.
    pub reason: Option<String>,
    /// The version's share until then.
    pub weight_percent: f64,
    pub requests: u64,
    pub errors: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct EndView {
    pub at: String,
    pub by: ActorView,
    pub reason: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EarlierRollback {
    pub id: String,
    pub version: String,
    #[serde(flatten)]
    pub rollback: RollbackView,
}

/// What the guards say, and on what figures.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdicts {
    pub deployment: String,
    pub state: &'static str,
    /// Of all guards together; `null` where nothing is on trial.
    pub verdict: Option<Verdict>,
    /// Now; of a deployment that a guard ended, what that guard said then.
    pub guards: Vec<Reading>,
    /// The same of the guards that ask Prometheus.
    pub queries: Vec<QueryReading>,
    /// What each health check says of each endpoint of the version, while the deployment is under way.
    pub health: Vec<CheckReading>,
}

impl Verdicts {
    /// `live`: the deployment's own view, while it is the agent's current one.
    pub fn new(deployment: &Deployment, live: Option<&DeploymentView>) -> Self {
        let on_trial = live.filter(|view| view.deployment.state.on_trial());
        let (guard, query) = RollbackView::of(deployment).map(|r| (r.guard, r.query)).unwrap_or_default();
        Self {
            deployment: deployment.id.to_string(),
            state: deployment.state.as_str(),
            verdict: on_trial.map(|view| {
                let asked = Verdict::all(view.queries.iter().map(|query| query.verdict));
                Verdict::all([overall(&view.readings), asked])
            }),
            guards: on_trial.map_or_else(|| guard.into_iter().collect(), |view| view.readings.clone()),
            queries: on_trial.map_or_else(|| query.into_iter().collect(), |view| view.queries.clone()),
            health: live.map(|view| view.checks.clone()).unwrap_or_default(),
        }
    }
}

impl From<&DeploymentView> for DeploymentStatus {
    fn from(view: &DeploymentView) -> Self {
        let earlier = view.earlier_rollback.as_ref().and_then(|earlier| {
            let (id, version) = (earlier.id.to_string(), earlier.spec.version.to_string());
            Some(EarlierRollback { id, version, rollback: RollbackView::of(earlier)? })
        });
        Self {
            guards: view.readings.clone(),
            queries: view.queries.clone(),
            health: view.checks.clone(),
            earlier_rollback: earlier,
            ..Self::new(&view.key, view.stable.as_str(), view.revision, &view.deployment, view.cost)
        }
    }
}

impl DeploymentStatus {
    /// One that is no longer the agent's current one.
    pub fn ended(key: &AgentKey, agent: &AgentState, deployment: &Deployment) -> Self {
        let cost = match &deployment.state {
            DeploymentState::RolledBack(Rollback { cost, .. }) | DeploymentState::Aborted { cost, .. } => *cost,
            _ => Cost::default(),
        };
        Self::new(key, agent.stable.version.as_str(), agent.revision, deployment, cost)
    }

    fn new(key: &AgentKey, stable: &str, revision: u64, deployment: &Deployment, cost: Cost) -> Self {
        let Deployment { id, spec, by, started, state } = deployment;
        let step = match state.stage() {
            Some(Stage::Step(step) | Stage::Set { step, .. }) => Some(step + 1),
            Some(Stage::Bake) | None => None,
        };
        let (since, until) = match state {
            DeploymentState::Waiting { until } => (started, Some(until)),
            DeploymentState::Running { since, .. } | DeploymentState::Paused { since, .. } => (since, None),
            DeploymentState::Completed { at, .. }
            | DeploymentState::Superseded { at, .. }
            | DeploymentState::Aborted { at, .. }
            | DeploymentState::RolledBack(Rollback { at, .. }) => (at, None),
        };
        let pause = match state {
            DeploymentState::Paused { cause, .. } => Some(cause),
            _ => None,
        };
        Self {
            id: id.to_string(),
            agent: key.agent.to_string(),
            environment: key.environment.to_string(),
            version: spec.version.to_string(),
            stable: stable.to_owned(),
            strategy: spec.strategy.as_str(),
            state: state.as_str(),
            weight_percent: percent(deployment.weight()),
            step,
            steps: spec.steps.iter().map(StepView::from).collect(),
            bake_seconds: spec.bake.as_secs_f64(),
            cooldown_seconds: spec.cooldown.as_secs_f64(),
            drain_timeout_seconds: spec.drain_timeout.map(|time| time.as_secs_f64()),
            on_breach: match spec.on_breach {
                OnBreach::Rollback => "rollback",
                OnBreach::Pause => "pause",
            },
            by: ActorView::from(by),
            started_at: time(started),
            since: time(since),
            until: until.map(time),
            requests: cost.requests,
            errors: cost.errors,
            streams: cost.streams,
            stream_errors: cost.stream_errors,
            input_tokens: cost.input_tokens,
            output_tokens: cost.output_tokens,
            cost: cost.nanos as f64 / 1e9,
            guards: Vec::new(),
            queries: Vec::new(),
            health: Vec::new(),
            paused_by: pause.and_then(PauseCause::breach).and_then(Breach::reading).cloned(),
            pause: pause.map(PauseView::from),
            rollback: RollbackView::of(deployment),
            ended: EndView::of(state),
            earlier_rollback: None,
            draining: Vec::new(),
            revision,
        }
    }
}

impl From<&Step> for StepView {
    fn from(step: &Step) -> Self {
        Self { weight_percent: percent(step.weight), hold_seconds: step.hold.map(|hold| hold.as_secs_f64()) }
    }
}

impl From<&PauseCause> for PauseView {
    fn from(cause: &PauseCause) -> Self {
        match cause {
            PauseCause::Breach { breach, .. } => {
                Self { cause: breach_kind(breach), by: None, reason: Some(breach.explanation().to_owned()) }
            }
            PauseCause::Operator { by, reason } => {
                Self { cause: "operator", by: Some(by.into()), reason: reason.clone() }
            }
        }
    }
}

fn breach_kind(breach: &Breach) -> &'static str {
    match breach {
        Breach::Guard { .. } | Breach::Query { .. } => "guard",
        Breach::Unhealthy { .. } => "health",
    }
}

impl RollbackView {
    fn of(deployment: &Deployment) -> Option<Self> {
        let DeploymentState::RolledBack(Rollback { at, cause, weight, cost }) = &deployment.state else { return None };
        let (guard, by, reason) = match cause {
            RollbackCause::Guard(breach) => (breach.reading().cloned(), None, Some(breach.explanation().to_owned())),
            RollbackCause::Operator { by, reason } => (None, Some(by.into()), reason.clone()),
        };
        let query = match cause {
            RollbackCause::Guard(Breach::Query { reading }) => Some((**reading).clone()),
            _ => None,
        };
        Some(Self {
            at: time(at),
            cause: cause.as_str(),
            guard,
            query,
            by,
            reason,
            weight_percent: percent(*weight),
            requests: cost.requests,
            errors: cost.errors,
        })
    }
}

impl EndView {
    fn of(state: &DeploymentState) -> Option<Self> {
        match state {
            DeploymentState::Aborted { at, by, reason, .. } => {
                Some(Self { at: time(at), by: by.into(), reason: reason.clone() })
            }
            DeploymentState::Superseded { at, by } => Some(Self { at: time(at), by: by.into(), reason: None }),
            _ => None,
        }
    }
}
