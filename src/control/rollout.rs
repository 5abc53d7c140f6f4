//! The planner: (spec, state, judgement, now) → actions. Pure, and the only place that knows the rules.
//!
//! - A step with a hold advances by itself when the hold is over *and* the guards pass. Silence is neither a
//!   breach nor a pass, so a step whose guards lack data waits. Without guards, time alone decides.
//! - A step without a hold waits for an operator; the last step then has nothing to wait for, and the bake begins.
//! - A breach counts in every stage on trial, also while paused and during the bake. A rollback is final.
//! - A pause freezes the weight. With a cooldown it ends by itself, once the guards pass and no breach was seen
//!   for that long; the stage's time then begins anew, for what was seen before the breach is no evidence.
//!   Without a cooldown it waits for an operator.
//!
//! Left out: who may give a command, and what becomes of an action (`service` applies them).

use std::time::{Duration, Instant};

use super::model::{
    Breach, Cost, Deployment, DeploymentSpec, DeploymentState, Moment, OnBreach, Rollback, RollbackCause, Stage,
};
use crate::routing::ids::VersionId;

/// What the judge says of all guards together.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// Not enough data for a word.
    Silent,
    Pass,
    Breach(Breach),
}

/// One move of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The wait is over: to the first step.
    Start,
    /// To this step, an index into the spec's.
    Advance(usize),
    StartBake,
    Complete,
    Pause(Breach),
    /// Breached again while paused: the cooldown begins anew.
    ExtendPause,
    /// On from where it was paused.
    Resume,
    Rollback(RollbackCause),
}

/// What an operator may ask of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Rollback { by: String, reason: Option<String> },
}

/// Why a command cannot be done in the deployment's state.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("version {version} was already rolled back at {}", humantime::format_rfc3339_seconds(at.wall))]
    AlreadyRolledBack { version: VersionId, at: Moment },
}

/// Everything that is to be done now, in order. Empty when nothing is.
///
/// Bound: each action goes forward, so there are at most as many as steps, and a few.
pub fn plan(spec: &DeploymentSpec, state: &DeploymentState, judgement: &Judgement, now: Moment) -> Vec<Action> {
    let mut actions = Vec::new();
    let (mut state, mut judgement) = (state.clone(), judgement);
    while let Some(action) = next(spec, &state, judgement, now) {
        state = after(spec, &state, &action, Cost::default(), now);
        actions.push(action);
        // What was said, was said of the stage that is now over.
        judgement = &Judgement::Silent;
    }
    actions
}

fn next(spec: &DeploymentSpec, state: &DeploymentState, judgement: &Judgement, now: Moment) -> Option<Action> {
    if let (true, Judgement::Breach(breach)) = (state.on_trial(), judgement) {
        return Some(on_breach(spec, state, breach.clone()));
    }
    let guards_pass = spec.guards.is_empty() || matches!(judgement, Judgement::Pass);
    match *state {
        DeploymentState::Waiting { until } => (now.instant >= until.instant).then_some(Action::Start),
        DeploymentState::Running { stage, since } => {
            let over = now.since(since) >= stage_time(spec, stage)?;
            let free = guards_pass || !asks_guards(spec, stage);
            (over && free).then(|| onward(spec, stage))
        }
        DeploymentState::Paused { breached, .. } => {
            let over = !spec.cooldown.is_zero() && now.since(breached) >= spec.cooldown;
            (over && guards_pass).then_some(Action::Resume)
        }
        DeploymentState::Completed { .. } | DeploymentState::RolledBack(_) => None,
    }
}

fn on_breach(spec: &DeploymentSpec, state: &DeploymentState, breach: Breach) -> Action {
    match (spec.on_breach, state) {
        (OnBreach::Rollback, _) => Action::Rollback(RollbackCause::Guard(breach)),
        (OnBreach::Pause, DeploymentState::Paused { .. }) => Action::ExtendPause,
        (OnBreach::Pause, _) => Action::Pause(breach),
    }
}

/// How long a stage lasts at least; `None`: until an operator says so.
fn stage_time(spec: &DeploymentSpec, stage: Stage) -> Option<Duration> {
    match stage {
        Stage::Step(step) if is_last(spec, step) => {
            Some(spec.steps.get(step).and_then(|s| s.hold).unwrap_or(Duration::ZERO))
        }
        Stage::Step(step) => spec.steps.get(step)?.hold,
        Stage::Bake => Some(spec.bake),
    }
}

/// The last step without a hold gives way to the bake unasked: weight and guards stay the same there.
fn asks_guards(spec: &DeploymentSpec, stage: Stage) -> bool {
    match stage {
        Stage::Step(step) => spec.steps.get(step).is_some_and(|s| s.hold.is_some()),
        Stage::Bake => true,
    }
}

fn onward(spec: &DeploymentSpec, stage: Stage) -> Action {
    match stage {
        Stage::Step(step) if is_last(spec, step) => Action::StartBake,
        Stage::Step(step) => Action::Advance(step + 1),
        Stage::Bake => Action::Complete,
    }
}

fn is_last(spec: &DeploymentSpec, step: usize) -> bool {
    step + 1 >= spec.steps.len()
}

/// What a command comes to in this state.
pub fn command(deployment: &Deployment, command: Command) -> Result<Vec<Action>, Refusal> {
    match (command, &deployment.state) {
        (Command::Rollback { .. }, DeploymentState::RolledBack(Rollback { at, .. })) => {
            Err(Refusal::AlreadyRolledBack { version: deployment.spec.version.clone(), at: *at })
        }
        (Command::Rollback { by, reason }, _) => Ok(vec![Action::Rollback(RollbackCause::Operator { by, reason })]),
    }
}

/// When time alone may next change the plan; past or `None` when only data or an operator can.
pub fn deadline(spec: &DeploymentSpec, state: &DeploymentState) -> Option<Instant> {
    let (from, time) = match *state {
        DeploymentState::Waiting { until } => return Some(until.instant),
        DeploymentState::Running { stage, since } => (since, stage_time(spec, stage)?),
        DeploymentState::Paused { breached, .. } => (breached, (!spec.cooldown.is_zero()).then_some(spec.cooldown)?),
        DeploymentState::Completed { .. } | DeploymentState::RolledBack(_) => return None,
    };
    from.instant.checked_add(time)
}

/// The state that an action leads to.
/// A rollback keeps what the trial has cost.
pub fn after(
    spec: &DeploymentSpec,
    state: &DeploymentState,
    action: &Action,
    cost: Cost,
    now: Moment,
) -> DeploymentState {
    let stage = match state {
        DeploymentState::Running { stage, .. } | DeploymentState::Paused { stage, .. } => *stage,
        _ => Stage::Step(0),
    };
    match (action, state) {
        (Action::Start | Action::Resume, _) => DeploymentState::Running { stage, since: now },
        (Action::Advance(step), _) => DeploymentState::Running { stage: Stage::Step(*step), since: now },
        (Action::StartBake, _) => DeploymentState::Running { stage: Stage::Bake, since: now },
        (Action::Complete, _) => DeploymentState::Completed { at: now },
        (Action::ExtendPause, DeploymentState::Paused { stage, since, cause, .. }) => {
            DeploymentState::Paused { stage: *stage, since: *since, cause: cause.clone(), breached: now }
        }
        (Action::ExtendPause, _) => state.clone(),
        (Action::Pause(breach), _) => {
            DeploymentState::Paused { stage, since: now, cause: breach.clone(), breached: now }
        }
        (Action::Rollback(cause), _) => {
            DeploymentState::RolledBack(Rollback { at: now, cause: cause.clone(), weight: state.weight(spec), cost })
        }
    }
}

#[cfg(test)]
mod tests;
