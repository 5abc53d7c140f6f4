//! What an operator's verb comes to in each state of a deployment. Pure.
//!
//! | verb | waiting | running | paused | completed |
//! | --- | --- | --- | --- | --- |
//! | pause | | stands still, its hold too | | |
//! | resume | | | goes on, its hold too where an operator had paused it | |
//! | advance | first step | next step, bake, end | | |
//! | set weight | | held as long as the step is | stays paused | |
//! | promote | to the end | to the end | to the end | |
//! | abort | ends | ends | ends | |
//! | rollback | ends | ends | ends | stable is again what it replaced |
//!
//! Empty: refused, with what to do instead. Whatever is aborted, rolled back or superseded takes a retry only.

use super::command::{Order, Refusal};
use super::model::{Deployment, DeploymentState, PauseCause, Rollback, RollbackCause};
use super::rollout::{Action, Observation, onward};
use crate::routing::ids::Weight;

/// A verb on the current deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Pause,
    Resume,
    Advance,
    SetWeight(Weight),
    Promote,
    Abort,
    Rollback,
}

/// What it comes to, or why it cannot be done.
pub fn action(verb: Verb, deployment: &Deployment, order: &Order, seen: &Observation) -> Result<Action, Refusal> {
    let (spec, state) = (&deployment.spec, &deployment.state);
    let (by, reason) = (order.by.clone(), order.reason.clone());
    let refused = |command, remedy| Err(Refusal::State { command, state: state.as_str(), remedy });
    let action = match (verb, state) {
        (Verb::Rollback, DeploymentState::RolledBack(Rollback { at, .. })) => {
            return Err(Refusal::AlreadyRolledBack { version: spec.version.clone(), at: *at });
        }
        (Verb::Rollback, _) if state.is_live() || matches!(state, DeploymentState::Completed { .. }) => {
            Action::Rollback(RollbackCause::Operator { by, reason })
        }
        (Verb::Rollback, _) => return refused("roll back", "it gets no traffic; name a version or a rollback point"),
        (Verb::Abort, _) if state.is_live() => Action::Abort { by, reason },
        (Verb::Abort, DeploymentState::Completed { .. }) => return refused("abort", "roll it back instead"),
        (Verb::Promote, _) if state.is_live() => Action::Complete,
        (Verb::Pause, DeploymentState::Running { .. }) => Action::Pause(PauseCause::Operator { by, reason }),
        (Verb::Pause, DeploymentState::Paused { cause: PauseCause::Breach { .. }, .. }) => {
            Action::Pause(PauseCause::Operator { by, reason })
        }
        (Verb::Pause, DeploymentState::Waiting { .. }) => {
            return refused("pause", "it gets no traffic yet; abort it to keep it from starting");
        }
        (Verb::Pause, DeploymentState::Paused { .. }) => return refused("pause", "it stands still already"),
        (Verb::Resume, DeploymentState::Paused { .. }) => Action::Resume,
        (Verb::Resume, _) if state.is_live() => return refused("resume", "only a paused one can be resumed"),
        (Verb::Advance, DeploymentState::Waiting { .. }) if !seen.is_fit() => {
            return refused("advance", "its health checks do not pass yet");
        }
        (Verb::Advance, DeploymentState::Waiting { .. }) => Action::Start,
        (Verb::Advance, DeploymentState::Running { stage, .. }) => onward(spec, *stage),
        (Verb::Advance, DeploymentState::Paused { .. }) => return refused("advance", "resume it first"),
        (Verb::SetWeight(_), _) if spec.strategy.moves_all_at_once() => {
            return Err(Refusal::AllAtOnce { strategy: spec.strategy.as_str() });
        }
        (Verb::SetWeight(weight), _) if state.on_trial() => Action::Set(weight),
        (Verb::SetWeight(_), DeploymentState::Waiting { .. }) => {
            return refused("set the weight of", "advance it first");
        }
        (verb, _) => return refused(verb.name(), "retry it, or begin a new deployment"),
    };
    Ok(action)
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Advance => "advance",
            Self::SetWeight(_) => "set the weight of",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Rollback => "roll back",
        }
    }
}
