//! Whether a migration can begin, and whether it can go on. Pure.

use std::time::Duration;

use super::{LISTED_MAX, Migration, PER_SECOND_MAX, Pace};
use crate::control::agent::AgentRollout;
use crate::control::command::{CommandError, Refusal};
use crate::control::model::{Deployment, DeploymentState, Moment};
use crate::control::request::FieldError;
use crate::routing::ids::{VersionId, Weight};

/// A migration as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct MigrationRequest {
    pub from: VersionId,
    pub to: VersionId,
    pub mode: RequestedMode,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RequestedMode {
    Immediate,
    Gradual(Pace),
    /// The ids of conversations.
    Manual(Vec<String>),
}

impl MigrationRequest {
    /// Everything that is wrong with it, or the first thing that stands in its way.
    pub fn check<'a>(
        &self,
        agent: &AgentRollout,
        mut running: impl Iterator<Item = &'a Migration>,
    ) -> Result<(), CommandError> {
        let errors = self.errors(agent);
        if !errors.is_empty() {
            return Err(CommandError::Invalid(errors));
        }
        if agent.spec.conversations.is_none() {
            return Err(Refusal::NoConversations.into());
        }
        if let Some(state) = barred(agent, &self.to) {
            return Err(Refusal::Barred { version: self.to.clone(), state }.into());
        }
        // Two that share a version, but for the target, would pull at the same conversations, or drive them in circles.
        let clash = running.find(|one| one.from == self.from || one.to == self.from || one.from == self.to);
        clash.map_or(Ok(()), |one| {
            let (id, from, to) = (one.id.to_string(), one.from.clone(), one.to.clone());
            Err(Refusal::Migrating { id, from, to }.into())
        })
    }

    fn errors(&self, agent: &AgentRollout) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, message: String| errors.push(FieldError { field: field.into(), message });
        let versions = &agent.spec.versions;
        let known: Vec<_> = versions.keys().map(VersionId::as_str).collect();
        for (field, version) in [("from", &self.from), ("to", &self.to)] {
            if !versions.contains_key(version) {
                refuse(field, format!("the agent has no version {version}; expected one of {}", known.join(", ")));
            }
        }
        if versions.get(&self.to).is_some_and(|version| version.endpoints.is_empty()) {
            refuse("to", format!("{} has no endpoints; a conversation could not go on there", self.to));
        }
        if self.from == self.to {
            refuse("to", format!("is {} as well; expected another version", self.from));
        }
        match &self.mode {
            RequestedMode::Gradual(Pace::PerSecond(rate)) if !(1..=PER_SECOND_MAX).contains(rate) => {
                refuse("perSecond", format!("expected 1 to {PER_SECOND_MAX}; faster is mode `immediate`"));
            }
            RequestedMode::Gradual(Pace::Share { share, .. }) if *share == Weight::ZERO => {
                refuse("share", "expected more than 0%".into());
            }
            RequestedMode::Gradual(Pace::Share { every, .. }) if !super::EVERY.contains(every) => {
                refuse("every", "expected 1s to 24h".into());
            }
            RequestedMode::Manual(listed) if listed.is_empty() || listed.len() > LISTED_MAX => {
                refuse("conversations", format!("expected 1 to {LISTED_MAX} ids; for all, use another mode"));
            }
            _ => {}
        }
        errors
    }
}

/// The conversations of a replaced version, once its time is over: those that are still there go to the new one.
pub fn overdue(agent: &AgentRollout, now: Moment) -> Option<(MigrationRequest, Duration)> {
    let Deployment { spec, state, .. } = agent.deployment()?;
    let DeploymentState::Completed { at, replaced: Some(replaced) } = state else { return None };
    let timeout = spec.drain_timeout.filter(|timeout| now.since(*at) >= *timeout)?;
    let request = MigrationRequest { from: replaced.clone(), to: spec.version.clone(), mode: RequestedMode::Immediate };
    Some((request, timeout))
}

impl Migration {
    /// Why it cannot go on, if something has changed that much.
    pub fn obstacle(&self, agent: &AgentRollout) -> Option<String> {
        let gone = [&self.from, &self.to].into_iter().find(|version| !agent.spec.versions.contains_key(*version));
        if let Some(version) = gone {
            return Some(format!("version {version} is no longer among the agent's versions"));
        }
        if agent.spec.conversations.is_none() {
            return Some("the agent keeps no conversations any more".into());
        }
        barred(agent, &self.to).map(|state| format!("the deployment of {} is {state}", self.to))
    }
}

/// The state of the deployment that keeps a version from serving, or conversations from staying there.
fn barred(agent: &AgentRollout, version: &VersionId) -> Option<&'static str> {
    let leave = agent.spec.conversations.as_ref().is_some_and(|spec| spec.evict_on_rollback);
    let barred = agent.deployment().filter(|_| agent.desired().barred.contains(version));
    let closed = barred.or_else(|| agent.left_by(version).filter(|_| leave));
    closed.map(|deployment| deployment.state.as_str())
}
