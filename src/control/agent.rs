//! One agent's rollout: its deployments, which version is stable, and what it remembers. Pure.
//!
//! - Stable is what the newest act made it: the file when its `stable` changes, a deployment for all that completes,
//!   a rollback to a version. A completed deployment for some segments serves those until another one begins. A reload of a file that says the same changes nothing.
//! - The file's deployment block acts when its content changes. A block that was rolled back or aborted stays so
//!   whenever it returns, for the newest [`DEPLOYMENTS_REMEMBERED`] of this agent; a removed agent is forgotten whole.
//! - A version is barred while its deployment is the current one and is rolled back, aborted or waits. Once an author
//!   has changed or removed that block, the version serves where the file says so: that is a new decision of theirs.
//! - Conversations do not come back with that: they leave a version that was rolled back or aborted until a deployment
//!   of it runs again or it is stable. To wait for its turn, or to be superseded, says nothing for or against it.
//! - A version that the file no longer defines cannot serve: the file's `stable` takes over, and a deployment of it ends.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::Changed;
use super::health::{HealthCheck, Target};
use super::model::{
    Actor, AgentIntent, AgentKey, Cost, Deployment, DeploymentId, DeploymentSpec, DeploymentState, Moment, PauseCause,
    RollbackCause,
};
use super::rollout::{self, Action, Observation};
use crate::routing::ids::VersionId;
use crate::routing::spec::{AgentSpec, CanaryShare, DesiredAgent, Notes};

mod notes;
mod order;
mod points;

pub use order::Outcome;
pub use points::{POINTS_KEPT, RollbackPoint, Stable};

/// How many ended deployments an agent remembers; the oldest goes first, and with it the bar on its block.
pub const DEPLOYMENTS_REMEMBERED: usize = 32;
/// How many changes a conflict can name.
pub const CHANGES_REMEMBERED: usize = 16;

/// An agent, and all that is remembered of it.
#[derive(Clone, Debug)]
pub struct AgentRollout {
    /// As the file has it, but for `stable`: here it is the one in effect.
    pub spec: Arc<AgentSpec>,
    /// The checks of deployments that name none.
    pub health: Arc<[HealthCheck]>,
    /// Those of every version that serves.
    pub checks: Arc<[HealthCheck]>,
    pub state: AgentState,
    /// Of the state as it was when it took effect: kept, for tables are built oftener than an agent changes.
    notes: Notes,
}

/// All that is remembered of an agent: one document, or several if `history` is kept apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentState {
    /// Of the newest change.
    pub revision: u64,
    /// What the file said when it was last read: only a difference from that is an act of its author.
    pub file: FileSaid,
    pub stable: Stable,
    /// The current one, ended or not.
    pub deployment: Option<Deployment>,
    /// Earlier ones, oldest first; at most [`DEPLOYMENTS_REMEMBERED`].
    pub history: VecDeque<Deployment>,
    /// Oldest first; at most [`POINTS_KEPT`].
    pub points: VecDeque<RollbackPoint>,
    pub tally: Tally,
    /// Newest last; at most [`CHANGES_REMEMBERED`].
    pub changed: VecDeque<Changed>,
    /// How many deployments and points there ever were: their ids count on.
    pub begun: u64,
    pub points_made: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSaid {
    pub stable: VersionId,
    /// The fingerprint of its deployment block.
    pub block: Option<String>,
}

/// What happened to an agent's deployments since it appeared. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    pub rollbacks_by_guard: u64,
    pub rollbacks_by_health: u64,
    pub rollbacks_by_operator: u64,
    /// Breaches that rolled back or paused.
    pub breaches: u64,
}

impl AgentRollout {
    /// What an author's file makes of what there was.
    pub fn adopt(previous: Option<&AgentState>, intent: &AgentIntent, by: &Actor, now: Moment) -> Self {
        let said = FileSaid {
            stable: intent.spec.stable.clone(),
            block: intent.deployment.as_ref().map(|spec| spec.fingerprint.clone()),
        };
        let before = previous.map(|previous| previous.file.clone());
        let state = previous.cloned().unwrap_or_else(|| AgentState::new(said.clone(), by, now));
        let mut next = Self::restored(intent, state);
        if before.as_ref().is_some_and(|before| before.stable != said.stable) {
            next.make_stable(said.stable.clone(), by.clone(), None, now);
            next.retire_what_no_longer_serves(by, now);
        }
        if before.as_ref().and_then(|before| before.block.as_ref()) != said.block.as_ref() {
            next.file_block(before.and_then(|before| before.block), intent.deployment.as_ref(), by, now);
        }
        next.drop_what_is_gone(&said, by, now);
        next.state.file = said;
        next.complete_if_stable(now);
        next.sync_stable();
        next.start_by_time(now);
        next.renote();
        next
    }

    /// What time alone moves need not wait for the first look: an unguarded immediate deployment is done here.
    fn start_by_time(&mut self, now: Moment) {
        let Some(unseen) = self.deployment().map(|deployment| Observation::unseen(&deployment.spec)) else { return };
        for action in self.plan(&unseen, now) {
            self.act(&action, Cost::default(), now);
        }
    }

    /// An agent as it was remembered, under the file's word as it is now.
    pub fn restored(intent: &AgentIntent, state: AgentState) -> Self {
        let (spec, health, checks) = (intent.spec.clone(), intent.health.clone(), intent.checks.clone());
        let mut restored = Self { spec, health, checks, state, notes: Notes::default() };
        restored.sync_stable();
        restored.renote();
        restored
    }

    /// The file's deployment block is another one now.
    fn file_block(&mut self, old: Option<String>, new: Option<&DeploymentSpec>, by: &Actor, now: Moment) {
        let Some(spec) = new else {
            // What somebody else deployed is not the file's to withdraw.
            if self.state.deployment.as_ref().is_some_and(|d| Some(&d.spec.fingerprint) == old.as_ref()) {
                self.retire(by, now);
            }
            return;
        };
        // Taken out first: to retire the current one may push out the oldest.
        let latched = self.state.history.iter().rposition(|known| known.spec.fingerprint == spec.fingerprint);
        let latched = latched.filter(|at| self.state.history[*at].state.is_barred());
        let latched = latched.and_then(|at| self.state.history.remove(at));
        self.retire(by, now);
        match latched {
            Some(known) => self.state.deployment = Some(known),
            None => self.begin(spec.clone(), by.clone(), self.cooled(spec, now), now),
        }
    }

    /// The current deployment becomes an earlier one; unless it has ended, it is superseded.
    fn retire(&mut self, by: &Actor, now: Moment) {
        if self.state.deployment.as_ref().is_some_and(|d| d.state.is_live()) {
            self.act(&Action::Supersede { by: by.clone() }, Cost::default(), now);
        }
        let Some(deployment) = self.state.deployment.take() else { return };
        if self.state.history.len() == DEPLOYMENTS_REMEMBERED {
            self.state.history.pop_front();
        }
        self.state.history.push_back(deployment);
    }

    /// A completed deployment is the current one only while its version is stable.
    fn retire_what_no_longer_serves(&mut self, by: &Actor, now: Moment) {
        let stable = &self.state.stable.version;
        let completed = |d: &Deployment| matches!(d.state, DeploymentState::Completed { .. }) && d.is_for_all();
        if self.deployment().is_some_and(|d| completed(d) && d.spec.version != *stable) {
            self.retire(by, now);
        }
    }

    fn begin(&mut self, spec: DeploymentSpec, by: Actor, until: Moment, now: Moment) {
        self.state.begun += 1;
        let id = DeploymentId::make(&self.key(), &spec.fingerprint, self.state.begun, now);
        let state = DeploymentState::Waiting { until };
        self.state.deployment = Some(Deployment { id, spec: Arc::new(spec), by, started: now, state });
    }

    /// From when on a new deployment may start by itself.
    fn cooled(&self, spec: &DeploymentSpec, now: Moment) -> Moment {
        let until = self.last_rollback_at().and_then(|at| at.checked_add(spec.cooldown));
        until.filter(|until| until.instant > now.instant).unwrap_or(now)
    }

    /// Versions that the file took out of its list.
    fn drop_what_is_gone(&mut self, said: &FileSaid, by: &Actor, now: Moment) {
        if !self.spec.versions.contains_key(&self.state.stable.version) {
            self.make_stable(said.stable.clone(), by.clone(), None, now);
            self.retire_what_no_longer_serves(by, now);
        }
        let current = self.state.deployment.as_ref();
        // A block of the file that names no version is the file's fault, and is refused with the whole file.
        let of_file = |d: &Deployment| said.block.as_ref() == Some(&d.spec.fingerprint);
        if current.is_some_and(|d| !of_file(d) && !self.spec.versions.contains_key(&d.spec.version)) {
            self.retire(by, now);
        }
    }

    /// A deployment of what is stable anyway has nothing left to roll out.
    fn complete_if_stable(&mut self, now: Moment) {
        let stable = &self.state.stable.version;
        if self.state.deployment.as_ref().is_some_and(|d| d.spec.version == *stable && d.state.is_live()) {
            self.act(&Action::Complete, Cost::default(), now);
        }
    }

    pub fn key(&self) -> AgentKey {
        AgentKey::of(&self.spec)
    }

    pub fn deployment(&self) -> Option<&Deployment> {
        self.state.deployment.as_ref()
    }

    /// The current one and the earlier ones, newest first.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.state.deployment.iter().chain(self.state.history.iter().rev())
    }

    /// Whose endpoints its health checks ask.
    pub fn target_of(&self, deployment: &Deployment) -> Target {
        let version = &deployment.spec.version;
        let endpoints = self.spec.versions.get(version).map(|version| version.endpoints.clone());
        Target {
            deployment: Some(deployment.id.clone()),
            key: self.key(),
            version: version.clone(),
            stable: self.spec.stable.clone(),
            endpoints: endpoints.unwrap_or_default(),
            tls: self.spec.exchange.tls.clone(),
        }
    }

    pub fn plan(&self, seen: &Observation, now: Moment) -> Vec<Action> {
        let plan = |d: &Deployment| rollout::plan(&d.spec, &d.state, seen, now);
        self.deployment().map(plan).unwrap_or_default()
    }

    /// Takes one action of the current deployment.
    pub fn act(&mut self, action: &Action, cost: Cost, now: Moment) {
        let Some(deployment) = &mut self.state.deployment else { return };
        let before = deployment.state.clone();
        deployment.state = rollout::after(&deployment.spec, &before, action, cost, now);
        let (version, by, id) = (deployment.spec.version.clone(), deployment.by.clone(), deployment.id.clone());
        match action {
            Action::Pause(PauseCause::Breach { .. }) => self.state.tally.breaches += 1,
            Action::Complete => self.complete(version, by, id, now),
            Action::Rollback(cause) => {
                self.state.tally.count(cause);
                if let DeploymentState::Completed { replaced: Some(replaced), .. } = before
                    && self.state.stable.version == version
                {
                    let by = if let RollbackCause::Operator { by, .. } = cause { by.clone() } else { by };
                    self.make_stable(replaced, by, None, now);
                }
            }
            _ => {}
        }
    }

    fn complete(&mut self, version: VersionId, by: Actor, id: DeploymentId, now: Moment) {
        let before = self.state.stable.version.clone();
        if before == version || !self.deployment().is_some_and(Deployment::is_for_all) {
            return;
        }
        self.make_stable(version, by, Some(id), now);
        if let Some(Deployment { state: DeploymentState::Completed { replaced, .. }, .. }) = &mut self.state.deployment
        {
            *replaced = Some(before);
        }
    }

    /// The newest rollback of this agent, of whatever deployment.
    pub fn last_rollback(&self) -> Option<&Deployment> {
        self.deployments()
            .filter(|d| rolled_back_at(d).is_some())
            .max_by_key(|d| rolled_back_at(d).map(|at| at.instant))
    }

    fn last_rollback_at(&self) -> Option<Moment> {
        self.last_rollback().and_then(rolled_back_at)
    }

    /// The deployment, maybe an earlier one, with which a version was taken out of service and has not come back since.
    pub fn left_by(&self, version: &VersionId) -> Option<&Deployment> {
        let says = |d: &&Deployment| {
            let undecided = matches!(d.state, DeploymentState::Waiting { .. } | DeploymentState::Superseded { .. });
            d.spec.version == *version && !undecided
        };
        self.deployments().find(says).filter(|d| d.state.is_barred() && *version != self.spec.stable)
    }

    fn left(&self) -> Vec<VersionId> {
        self.spec.versions.keys().filter(|version| self.left_by(version).is_some()).cloned().collect()
    }

    /// What the routing table should do with this agent now.
    pub fn desired(&self) -> DesiredAgent {
        let (left, notes) = (self.left(), self.notes.clone());
        let mut desired = DesiredAgent { spec: self.spec.clone(), barred: Vec::new(), left, canary: None, notes };
        // Stable is never barred and never its own canary, whatever became of a deployment of it.
        let Some(deployment) = self.deployment().filter(|d| d.spec.version != self.spec.stable) else {
            return desired;
        };
        let version = deployment.spec.version.clone();
        let serves_segments = matches!(deployment.state, DeploymentState::Completed { .. }) && !deployment.is_for_all();
        match deployment.state {
            _ if deployment.state.on_trial() || serves_segments => {
                let (weight, audience) = (deployment.weight(), deployment.spec.audience.clone());
                desired.canary = Some(CanaryShare { version, weight, audience });
            }
            DeploymentState::Waiting { .. } | DeploymentState::Aborted { .. } | DeploymentState::RolledBack(_) => {
                desired.barred.push(version);
            }
            _ => {}
        }
        desired
    }
}

impl AgentState {
    fn new(file: FileSaid, by: &Actor, now: Moment) -> Self {
        let stable = Stable { version: file.stable.clone(), by: by.clone(), at: now, deployment: None };
        Self {
            revision: 0,
            file: FileSaid { block: None, ..file },
            stable,
            deployment: None,
            history: VecDeque::new(),
            points: VecDeque::new(),
            tally: Tally::default(),
            changed: VecDeque::new(),
            begun: 0,
            points_made: 0,
        }
    }

    /// Notes a change that is now in effect.
    pub fn note(&mut self, changed: Changed) {
        self.revision = changed.revision;
        if self.changed.len() == CHANGES_REMEMBERED {
            self.changed.pop_front();
        }
        self.changed.push_back(changed);
    }
}

impl Tally {
    fn count(&mut self, cause: &RollbackCause) {
        match cause.as_str() {
            "operator" => self.rollbacks_by_operator += 1,
            "health" => self.rollbacks_by_health += 1,
            _ => self.rollbacks_by_guard += 1,
        }
        self.breaches += u64::from(matches!(cause, RollbackCause::Guard(_)));
    }
}

fn rolled_back_at(deployment: &Deployment) -> Option<Moment> {
    match &deployment.state {
        DeploymentState::RolledBack(rollback) => Some(rollback.at),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod timelines;
