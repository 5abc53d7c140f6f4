//! The planner: (spec, state, observation, now) → actions. Pure, and the only place that knows the rules.
//!
//! - A wait ends when its cooldown is over *and* the version is healthy, where that is asked.
//! - A step with a hold advances by itself when the hold is over *and* the guards pass. Silence is neither a
//!   breach nor a pass, so a step whose guards lack data waits. Without guards, time alone decides.
//! - A step without a hold waits for an operator; the last step then has nothing to wait for, and the bake begins.
//! - A breach counts in every stage on trial, also while paused and during the bake; so does a version that is
//!   not healthy. A rollback is final.
//! - A breach that pauses freezes the weight. With a cooldown the pause ends by itself, once the guards pass and no
//!   breach was seen for that long; the stage's time then begins anew, for what was seen before the breach is no
//!   evidence. Without a cooldown, and where an operator paused, it waits for an operator.
//!
//! Left out: what an operator may ask ([`super::verbs`]), and what becomes of an action (`service` applies them).

use std::time::{Duration, Instant};

use super::model::{
    Actor, Breach, Cost, DeploymentSpec, DeploymentState, Moment, OnBreach, PauseCause, Rollback, RollbackCause, Stage,
};
use crate::routing::ids::Weight;

/// What the judge says of all guards together.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// Not enough data for a word.
    Silent,
    Pass,
    Breach(Breach),
}

/// What the health checks of the version say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// There are none.
    NotAsked,
    /// Not every check has an answer yet.
    Unknown,
    Healthy,
    Unhealthy {
        why: std::sync::Arc<str>,
    },
}

/// All that a plan may know of the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub judgement: Judgement,
    pub health: Health,
}

impl Observation {
    /// Before anything was looked at.
    pub fn none() -> Self {
        Self { judgement: Judgement::Silent, health: Health::NotAsked }
    }

    /// Whether the version may get its first request.
    pub fn is_fit(&self) -> bool {
        matches!(self.health, Health::NotAsked | Health::Healthy)
    }

    /// What is wrong with a version on trial.
    fn breach(&self) -> Option<Breach> {
        match (&self.judgement, &self.health) {
            (Judgement::Breach(breach), _) => Some(breach.clone()),
            (_, Health::Unhealthy { why }) => Some(Breach::Unhealthy { why: why.to_string() }),
            _ => None,
        }
    }
}

/// One move of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The wait is over: to the first step.
    Start,
    /// To this step, an index into the spec's.
    Advance(usize),
    /// To a weight of an operator's.
    Set(Weight),
    StartBake,
    Complete,
    Pause(PauseCause),
    /// Breached again while paused: the cooldown begins anew.
    ExtendPause,
    /// On from where it was paused.
    Resume,
    Supersede {
        by: Actor,
    },
    Abort {
        by: Actor,
        reason: Option<String>,
    },
    Rollback(RollbackCause),
}

impl Action {
    /// For audit and events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Advance(_) => "advance",
            Self::Set(_) => "set weight",
            Self::StartBake => "bake",
            Self::Complete => "complete",
            Self::Pause(_) => "pause",
            Self::ExtendPause => "extend pause",
            Self::Resume => "resume",
            Self::Supersede { .. } => "supersede",
            Self::Abort { .. } => "abort",
            Self::Rollback(_) => "rollback",
        }
    }

    /// Whether it takes a bad version's traffic away or freezes it: that waits for nothing.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Rollback(_) | Self::Abort { .. } | Self::Pause(PauseCause::Breach { .. }))
    }
}

/// Everything that is to be done now, in order. Empty when nothing is.
///
/// Bound: each action goes forward, so there are at most as many as steps, and a few.
pub fn plan(spec: &DeploymentSpec, state: &DeploymentState, seen: &Observation, now: Moment) -> Vec<Action> {
    let mut actions = Vec::new();
    let (mut state, mut seen) = (state.clone(), seen.clone());
    while let Some(action) = next(spec, &state, &seen, now) {
        state = after(spec, &state, &action, Cost::default(), now);
        actions.push(action);
        // What was said, was said of the stage that is now over.
        seen.judgement = Judgement::Silent;
    }
    actions
}

fn next(spec: &DeploymentSpec, state: &DeploymentState, seen: &Observation, now: Moment) -> Option<Action> {
    if let (true, Some(breach)) = (state.on_trial(), seen.breach()) {
        return on_breach(spec, state, breach, now);
    }
    let guards_pass = spec.guards.is_empty() || matches!(seen.judgement, Judgement::Pass);
    match state {
        DeploymentState::Waiting { until } => (seen.is_fit() && now.instant >= until.instant).then_some(Action::Start),
        DeploymentState::Running { stage, since } => {
            let over = now.since(*since) >= stage_time(spec, *stage)?;
            let free = guards_pass || !asks_guards(spec, *stage);
            (over && free).then(|| onward(spec, *stage))
        }
        DeploymentState::Paused { cause: PauseCause::Breach { last, .. }, .. } => {
            let over = !spec.cooldown.is_zero() && now.since(*last) >= spec.cooldown;
            (over && guards_pass).then_some(Action::Resume)
        }
        _ => None,
    }
}

fn on_breach(spec: &DeploymentSpec, state: &DeploymentState, breach: Breach, now: Moment) -> Option<Action> {
    match (spec.on_breach, state) {
        (OnBreach::Rollback, _) => Some(Action::Rollback(RollbackCause::Guard(breach))),
        (OnBreach::Pause, DeploymentState::Paused { cause: PauseCause::Breach { last, .. }, .. }) => {
            // A version that stays unhealthy says so at every look: not each is worth a change of state.
            let worth = !spec.cooldown.is_zero() && now.since(*last) >= spec.cooldown / 10;
            worth.then_some(Action::ExtendPause)
        }
        // Frozen already, and by whom only an operator may thaw.
        (OnBreach::Pause, DeploymentState::Paused { .. }) => None,
        (OnBreach::Pause, _) => Some(Action::Pause(PauseCause::Breach { breach, last: now })),
    }
}

/// How long a stage lasts at least; `None`: until an operator says so.
fn stage_time(spec: &DeploymentSpec, stage: Stage) -> Option<Duration> {
    let hold = |step: usize| spec.steps.get(step).and_then(|step| step.hold);
    match stage {
        Stage::Step(step) | Stage::Set { step, .. } if stage.next_step(spec).is_none() => {
            Some(hold(step).unwrap_or(Duration::ZERO))
        }
        Stage::Step(step) | Stage::Set { step, .. } => hold(step),
        Stage::Bake => Some(spec.bake),
    }
}

/// The last step without a hold gives way to the bake unasked: weight and guards stay the same there.
fn asks_guards(spec: &DeploymentSpec, stage: Stage) -> bool {
    match stage {
        Stage::Step(step) => spec.steps.get(step).is_some_and(|s| s.hold.is_some()),
        Stage::Set { .. } | Stage::Bake => true,
    }
}

/// What follows a stage.
pub fn onward(spec: &DeploymentSpec, stage: Stage) -> Action {
    match (stage, stage.next_step(spec)) {
        (Stage::Bake, _) => Action::Complete,
        (_, Some(step)) => Action::Advance(step),
        (_, None) => Action::StartBake,
    }
}

/// When time alone may next change the plan; past or `None` when only data or an operator can.
pub fn deadline(spec: &DeploymentSpec, state: &DeploymentState) -> Option<Instant> {
    let (from, time) = match state {
        DeploymentState::Waiting { until } => return Some(until.instant),
        DeploymentState::Running { stage, since } => (since, stage_time(spec, *stage)?),
        DeploymentState::Paused { cause: PauseCause::Breach { last, .. }, .. } if !spec.cooldown.is_zero() => {
            (last, spec.cooldown)
        }
        _ => return None,
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
    let stage = state.stage().unwrap_or(Stage::Step(0));
    let running = |stage| DeploymentState::Running { stage, since: now };
    match action {
        Action::Start => running(Stage::Step(0)),
        Action::Advance(step) => running(Stage::Step(*step)),
        Action::Set(weight) => set_weight(spec, state, *weight, now),
        Action::StartBake => running(Stage::Bake),
        Action::Complete => DeploymentState::Completed { at: now, replaced: None },
        Action::ExtendPause => extended(state, now),
        Action::Pause(cause) => {
            // Time before a breach is no evidence; before an operator's pause it is.
            let held = match (cause, state) {
                (PauseCause::Operator { .. }, DeploymentState::Running { since, .. }) => now.since(*since),
                _ => Duration::ZERO,
            };
            DeploymentState::Paused { stage, since: now, held, cause: cause.clone() }
        }
        Action::Resume => {
            let held = if let DeploymentState::Paused { held, .. } = state { *held } else { Duration::ZERO };
            DeploymentState::Running { stage, since: now.checked_sub(held).unwrap_or(now) }
        }
        Action::Supersede { by } => DeploymentState::Superseded { at: now, by: by.clone() },
        Action::Abort { by, reason } => {
            let (by, reason, weight) = (by.clone(), reason.clone(), state.weight(spec));
            DeploymentState::Aborted { at: now, by, reason, weight, cost }
        }
        Action::Rollback(cause) => {
            DeploymentState::RolledBack(Rollback { at: now, cause: cause.clone(), weight: state.weight(spec), cost })
        }
    }
}

fn set_weight(spec: &DeploymentSpec, state: &DeploymentState, weight: Weight, now: Moment) -> DeploymentState {
    let stage = Stage::set(spec, weight);
    match state {
        DeploymentState::Paused { cause, .. } => {
            DeploymentState::Paused { stage, since: now, held: Duration::ZERO, cause: cause.clone() }
        }
        _ => DeploymentState::Running { stage, since: now },
    }
}

fn extended(state: &DeploymentState, now: Moment) -> DeploymentState {
    let mut state = state.clone();
    if let DeploymentState::Paused { cause: PauseCause::Breach { last, .. }, .. } = &mut state {
        *last = now;
    }
    state
}

#[cfg(test)]
mod tests;
