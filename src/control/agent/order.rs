//! An operator's command on an agent → the agent as it would be. Pure: nothing is changed but a copy.

use super::AgentRollout;
use crate::control::command::{Command, CommandError, Conflict, Order, Refusal, RollbackTarget};
use crate::control::model::{Cost, Deployment, DeploymentId, DeploymentSpec, DeploymentState, Moment, RollbackCause};
use crate::control::request::DeploymentRequest;
use crate::control::rollout::{Action, Judgement, Observation};
use crate::control::verbs::{self, Verb};
use crate::routing::ids::VersionId;

/// An agent as a command would have it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub after: AgentRollout,
    /// What was done to the current deployment, for those who follow it.
    pub actions: Vec<Action>,
}

impl AgentRollout {
    /// What the command comes to, or why it cannot be done.
    pub fn order(
        &self,
        id: Option<&DeploymentId>,
        command: &Command,
        order: &Order,
        seen: (&Observation, Cost),
        now: Moment,
    ) -> Result<Outcome, CommandError> {
        self.expect_revision(order)?;
        match command {
            Command::Create(request) => self.create(request, order, now),
            Command::Retry => self.retry(id, order, now),
            Command::Rollback { to: Some(target) } => self.return_to(target, order, seen.1, now),
            Command::Rollback { to: None } => self.verb(Verb::Rollback, id, order, seen, now),
            Command::Pause => self.verb(Verb::Pause, id, order, seen, now),
            Command::Resume => self.verb(Verb::Resume, id, order, seen, now),
            Command::Advance => self.verb(Verb::Advance, id, order, seen, now),
            Command::SetWeight(weight) => self.verb(Verb::SetWeight(*weight), id, order, seen, now),
            Command::Abort => self.verb(Verb::Abort, id, order, seen, now),
            Command::Promote => self.verb(Verb::Promote, id, order, seen, now),
        }
    }

    fn expect_revision(&self, order: &Order) -> Result<(), Conflict> {
        match order.expected_revision {
            Some(expected) if expected != self.state.revision => {
                let changed = self.state.changed.iter().filter(|c| c.revision > expected).cloned().collect();
                Err(Conflict { expected, current: self.state.revision, changed })
            }
            _ => Ok(()),
        }
    }

    /// The deployment of that id, or the current one.
    fn find(&self, id: Option<&DeploymentId>) -> Result<&Deployment, CommandError> {
        match id {
            None => self.deployment().ok_or_else(|| CommandError::NoDeployment(self.key())),
            Some(id) => {
                let unknown = || CommandError::UnknownDeployment { key: self.key(), id: id.clone() };
                self.deployments().find(|d| d.id == *id).ok_or_else(unknown)
            }
        }
    }

    fn verb(
        &self,
        verb: Verb,
        id: Option<&DeploymentId>,
        order: &Order,
        (seen, cost): (&Observation, Cost),
        now: Moment,
    ) -> Result<Outcome, CommandError> {
        let deployment = self.find(id)?;
        if self.deployment().is_none_or(|current| current.id != deployment.id) {
            return Err(Refusal::NotCurrent { id: deployment.id.clone() }.into());
        }
        let action = verbs::action(verb, deployment, order, seen)?;
        if let (Verb::Rollback, DeploymentState::Completed { replaced, .. }) = (verb, &deployment.state) {
            self.can_go_back(deployment, replaced.as_ref())?;
        }
        let mut outcome = Outcome { after: self.clone(), actions: vec![action] };
        outcome.after.act(&outcome.actions[0], cost, now);
        // What follows of itself is part of the answer, such as the bake after the last step.
        let unheard = Observation { judgement: Judgement::Silent, health: seen.health.clone() };
        for action in outcome.after.plan(&unheard, now) {
            outcome.after.act(&action, cost, now);
            outcome.actions.push(action);
        }
        Ok(outcome)
    }

    fn can_go_back(&self, deployment: &Deployment, replaced: Option<&VersionId>) -> Result<(), CommandError> {
        let version = &deployment.spec.version;
        match replaced {
            None if self.state.stable.version == *version => Err(CommandError::IsStable(version.clone())),
            Some(replaced) if !self.spec.versions.contains_key(replaced) => {
                Err(Refusal::GoneVersion { version: replaced.clone() }.into())
            }
            _ => Ok(()),
        }
    }

    fn create(&self, request: &DeploymentRequest, order: &Order, now: Moment) -> Result<Outcome, CommandError> {
        self.must_be_free()?;
        if request.version == self.state.stable.version {
            return Err(Refusal::NothingToDo { version: request.version.clone() }.into());
        }
        let endpoints = self.spec.versions.get(&request.version).map_or(0, |version| version.endpoints.len());
        // No block of a file has this content.
        let fingerprint = format!("{}:{}", order.by.source, self.state.begun + 1);
        let spec = request.clone().spec(fingerprint, endpoints).map_err(CommandError::Invalid)?;
        let until = self.cooled(&spec, now);
        Ok(self.begun(spec, until, order, now))
    }

    fn retry(&self, id: Option<&DeploymentId>, order: &Order, now: Moment) -> Result<Outcome, CommandError> {
        let deployment = self.find(id)?;
        self.must_be_free()?;
        if matches!(deployment.state, DeploymentState::Completed { .. }) {
            let (command, state) = ("retry", deployment.state.as_str());
            return Err(Refusal::State { command, state, remedy: "begin a new deployment" }.into());
        }
        let version = &deployment.spec.version;
        if !self.spec.versions.contains_key(version) {
            return Err(Refusal::GoneVersion { version: version.clone() }.into());
        }
        // The cooldown bars what comes by itself, never an operator.
        Ok(self.begun(DeploymentSpec::clone(&deployment.spec), now, order, now))
    }

    fn must_be_free(&self) -> Result<(), Refusal> {
        match self.deployment().filter(|current| current.state.is_live()) {
            None => Ok(()),
            Some(current) => Err(Refusal::StillLive {
                id: current.id.clone(),
                version: current.spec.version.clone(),
                state: current.state.as_str(),
            }),
        }
    }

    fn begun(&self, spec: DeploymentSpec, until: Moment, order: &Order, now: Moment) -> Outcome {
        let mut after = self.clone();
        after.retire(&order.by, now);
        after.begin(spec, order.by.clone(), until, now);
        after.complete_if_stable(now);
        after.start_by_time(now);
        Outcome { after, actions: Vec::new() }
    }

    /// All traffic to a version; what is under way, or came to serve, is rolled back.
    fn return_to(
        &self,
        target: &RollbackTarget,
        order: &Order,
        cost: Cost,
        now: Moment,
    ) -> Result<Outcome, CommandError> {
        let version = self.target_version(target)?;
        if self.spec.split.is_some() {
            return Err(Refusal::StandingSplit.into());
        }
        if !self.spec.versions.contains_key(&version) {
            return Err(Refusal::GoneVersion { version }.into());
        }
        let serves = |d: &&Deployment| {
            d.state.is_live()
                || matches!(d.state, DeploymentState::Completed { .. }) && d.spec.version == self.state.stable.version
        };
        let current = self.deployment().filter(serves);
        if version == self.state.stable.version && current.is_none_or(|d| !d.state.is_live()) {
            return Err(Refusal::NothingToDo { version }.into());
        }
        let mut outcome = Outcome { after: self.clone(), actions: Vec::new() };
        if current.is_some_and(|d| d.spec.version != version) {
            let (by, reason) = (order.by.clone(), order.reason.clone());
            outcome.actions.push(Action::Rollback(RollbackCause::Operator { by, reason }));
            outcome.after.act(&outcome.actions[0], cost, now);
        }
        outcome.after.make_stable(version, order.by.clone(), None, now);
        outcome.after.complete_if_stable(now);
        Ok(outcome)
    }

    fn target_version(&self, target: &RollbackTarget) -> Result<VersionId, CommandError> {
        match target {
            RollbackTarget::Version(version) => Ok(version.clone()),
            RollbackTarget::Point(id) => {
                let point = self.state.points.iter().find(|point| point.id == *id);
                point.map(|point| point.stable.version.clone()).ok_or_else(|| CommandError::UnknownPoint {
                    key: self.key(),
                    point: id.clone(),
                    known: self.state.points.iter().map(|point| point.id.clone()).collect(),
                })
            }
        }
    }
}
