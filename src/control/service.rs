//! The commands, and the order in which a change takes effect.
//!
//! All state is behind one mutex that is never held across an await, so every change sees the one before it:
//! a reload, a verdict and an operator cannot interleave. A change is computed first, as a pure value
//! ([`Change`]: state before, state after, by whom and why), and then put into effect. Epochs grow by one with each
//! table published, revisions with each change. A breach is published first and told second.
//!
//! Left out: durability. Nothing here survives a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::agent::{AgentRollout, AgentState};
use super::change::Change;
use super::command::{Command, CommandError, Done, Order};
use super::feed::{Event, Feed, Missed};
use super::model::{Actor, AgentIntent, AgentKey, Cost, DeploymentId, Intent, Moment};
use super::reconcile::Reconciler;
use super::request::FieldError;
use super::rollout;
use super::view::{DeploymentView, RolloutCounters};
use super::watch::Watch;
use crate::routing::compile::{Rejection, compile};
use crate::routing::ids::EnvironmentId;
use crate::routing::table::{RoutingTable, SharedTable};
use crate::telemetry::stats::StatsRegistry;
use entry::Entry;
use state::{Inner, Shared};

mod entry;
mod state;

/// How often a guarded deployment is looked at when no outcome rings for it: windows move on by themselves.
const TICK: Duration = Duration::from_secs(1);

/// The handle on rollouts. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub epoch: u64,
    pub agents: usize,
}

impl Control {
    /// Compiles and publishes the first table.
    pub fn start(intent: Intent, registry: Arc<StatsRegistry>) -> Result<(Self, Reconciler), Vec<Rejection>> {
        Self::start_at(intent, registry, Moment::now())
    }

    pub(super) fn start_at(
        intent: Intent,
        registry: Arc<StatsRegistry>,
        now: Moment,
    ) -> Result<(Self, Reconciler), Vec<Rejection>> {
        let mut inner = Inner {
            config_hash: intent.config_hash.clone(),
            epoch: 0,
            revision: 0,
            agents: BTreeMap::new(),
            live: Vec::new(),
            unpublished: false,
            feed: Feed::default(),
        };
        let (changes, rollouts) = adopt(&inner, &intent, now);
        let desired = state::desired(&intent.config_hash, rollouts.iter());
        let table: RoutingTable = compile(&desired, None, &registry, 1)?;
        inner.epoch = table.epoch;
        let table = Arc::new(ArcSwap::from_pointee(table));
        let control = Self(Arc::new(Shared { inner: Mutex::new(inner), table, registry, changed: Notify::new() }));
        control.adopted(&mut control.0.lock(), changes, rollouts, now).log();
        Ok((control.clone(), Reconciler::new(control)))
    }

    /// Takes a new intent whole, or says everything that is wrong with it and changes nothing.
    pub async fn apply(&self, intent: Intent) -> Result<Applied, Vec<Rejection>> {
        self.apply_at(intent, Moment::now())
    }

    pub(super) fn apply_at(&self, intent: Intent, now: Moment) -> Result<Applied, Vec<Rejection>> {
        let mut inner = self.0.lock();
        let (changes, rollouts) = adopt(&inner, &intent, now);
        let desired = state::desired(&intent.config_hash, rollouts.iter());
        if let Err(rejections) = self.0.publish(&mut inner, desired) {
            // The half-made table named versions that nothing holds now.
            self.0.registry.prune();
            return Err(rejections);
        }
        inner.config_hash = intent.config_hash;
        let told = self.adopted(&mut inner, changes, rollouts, now);
        self.0.registry.prune();
        let applied = Applied { epoch: inner.epoch, agents: inner.agents.len() };
        drop(inner);
        self.0.changed.notify_one();
        told.log();
        Ok(applied)
    }

    /// Makes what a file wants, and is published, the state.
    fn adopted(
        &self,
        inner: &mut Inner,
        changes: Vec<Change>,
        mut rollouts: Vec<AgentRollout>,
        now: Moment,
    ) -> state::Told {
        if !changes.is_empty() {
            inner.revision += 1;
        }
        for change in &changes {
            let note = state::changed(change, inner.revision, now);
            let key = change.key();
            rollouts.iter_mut().filter(|r| r.key() == key).for_each(|r| r.state.note(note.clone()));
        }
        inner.settle(rollouts, &self.0.registry, now);
        inner.told(changes, now)
    }

    /// Carries out a command on the deployment of that id, or on the agent's current one.
    pub async fn order(
        &self,
        key: &AgentKey,
        deployment: Option<&DeploymentId>,
        command: Command,
        order: Order,
    ) -> Result<Done, CommandError> {
        self.order_at(key, deployment, &command, &order, Moment::now())
    }

    pub(super) fn order_at(
        &self,
        key: &AgentKey,
        deployment: Option<&DeploymentId>,
        command: &Command,
        order: &Order,
        now: Moment,
    ) -> Result<Done, CommandError> {
        let inner = self.0.lock();
        let entry = inner.agents.get(key).ok_or_else(|| CommandError::UnknownAgent(key.clone()))?;
        let change = entry.order(deployment, command, order, now)?;
        let mut done = self.carry_out(inner, vec![change], order, now)?;
        done.pop().ok_or_else(|| CommandError::UnknownAgent(key.clone()))
    }

    /// Rolls back every deployment of an environment that is under way, in one table. What has completed stays:
    /// that is for [`Command::Rollback`], agent by agent. Empty where nothing was under way.
    pub async fn emergency_rollback(
        &self,
        environment: &EnvironmentId,
        order: Order,
    ) -> Result<Vec<Done>, CommandError> {
        self.emergency_at(environment, &order, Moment::now())
    }

    pub(super) fn emergency_at(
        &self,
        environment: &EnvironmentId,
        order: &Order,
        now: Moment,
    ) -> Result<Vec<Done>, CommandError> {
        let inner = self.0.lock();
        let here = || inner.agents.iter().filter(|(key, _)| key.environment == *environment);
        if here().next().is_none() {
            return Err(CommandError::UnknownEnvironment(environment.clone()));
        }
        let roll_back =
            |(_, entry): (&AgentKey, &Entry)| entry.order(None, &Command::Rollback { to: None }, order, now);
        let changes = here().filter(|(_, entry)| entry.is_live()).map(roll_back).collect::<Result<Vec<_>, _>>()?;
        self.carry_out(inner, changes, order, now)
    }

    /// Checks the changes against the table, and puts them into effect unless that was not asked.
    fn carry_out(
        &self,
        mut inner: std::sync::MutexGuard<'_, Inner>,
        changes: Vec<Change>,
        order: &Order,
        now: Moment,
    ) -> Result<Vec<Done>, CommandError> {
        self.check(&inner, &changes)?;
        let summary = |change: &Change| (change.key(), change.differences());
        let summaries: Vec<_> = changes.iter().map(summary).collect();
        if order.dry_run {
            let (revision, epoch) = (inner.revision, inner.epoch);
            let would = |(change, (key, differences)): (&Change, (AgentKey, Vec<String>))| {
                let view = inner.agents.get(&key).and_then(|entry| entry.view_of(&change.after, &key, now));
                Done { key, view, changes: differences, revision, epoch }
            };
            return Ok(changes.iter().zip(summaries).map(would).collect());
        }
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let told = self.0.install(&mut inner, changes, now);
        let (revision, epoch) = (inner.revision, inner.epoch);
        let done = summaries.into_iter().map(|(key, changes)| {
            let view = inner.agents.get(&key).and_then(|entry| entry.view(&key, now));
            Done { key, view, changes, revision, epoch }
        });
        let done = done.collect();
        drop(inner);
        self.0.changed.notify_one();
        told.log();
        told.published.map(|()| done).map_err(CommandError::Unpublished)
    }

    /// Only the compiler knows whether a version or a segment exists. Its counters are thrown away with the table.
    fn check(&self, inner: &Inner, changes: &[Change]) -> Result<(), CommandError> {
        let (previous, counters) = (self.0.table.load(), StatsRegistry::new(0));
        let table = compile(&inner.desired(changes), Some(&previous), &counters, inner.epoch);
        table.map(drop).map_err(|rejections| {
            let error = |r: Rejection| {
                let field = r.field.strip_prefix("deployment.").unwrap_or(&r.field).to_owned();
                FieldError { field, message: r.message }
            };
            CommandError::Invalid(rejections.into_iter().map(error).collect())
        })
    }

    /// Every current deployment, in the order of environment and agent.
    pub fn deployments(&self) -> Vec<DeploymentView> {
        let now = Moment::now();
        self.0.lock().agents.iter().filter_map(|(key, entry)| entry.view(key, now)).collect()
    }

    /// The agent's current deployment.
    pub fn deployment(&self, key: &AgentKey) -> Option<DeploymentView> {
        self.0.lock().agents.get(key)?.view(key, Moment::now())
    }

    /// All that is remembered of an agent: its deployments, rollback points, who made what stable.
    pub fn agent(&self, key: &AgentKey) -> Option<AgentState> {
        self.0.lock().agents.get(key).map(|entry| entry.rollout.state.clone())
    }

    /// Rollbacks and breaches of every agent.
    pub fn counters(&self) -> Vec<RolloutCounters> {
        let count =
            |(key, entry): (&AgentKey, &Entry)| RolloutCounters { key: key.clone(), tally: entry.rollout.state.tally };
        self.0.lock().agents.iter().map(count).collect()
    }

    /// What happened after the event of that id; 0: everything that is kept.
    pub fn events_since(&self, after: u64) -> Result<Vec<Event>, Missed> {
        self.0.lock().feed.since(after)
    }

    /// The id of the newest event, as it grows.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.0.lock().feed.newest()
    }

    pub fn table(&self) -> &SharedTable {
        &self.0.table
    }

    pub(super) fn registry(&self) -> &Arc<StatsRegistry> {
        &self.0.registry
    }

    /// Returns when a command or a reload may have moved the next deadline.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Judges, plans and acts on every live deployment.
    pub(super) fn look(&self, now: Moment) {
        let mut inner = self.0.lock();
        let Inner { live, agents, .. } = &mut *inner;
        let changes: Vec<_> = live.iter().filter_map(|key| agents.get_mut(key)?.look(now)).collect();
        if changes.is_empty() && !inner.unpublished {
            return;
        }
        let told = self.0.install(&mut inner, changes, now);
        drop(inner);
        if let Err(why) = &told.published {
            tracing::error!(%why, "the routing table could not be built; the last one stays, and this is tried again");
        }
        told.log();
    }

    /// When to look again even if no bell rings; `None`: not before a command or a reload.
    pub(super) fn next_look(&self, now: Moment) -> Option<Instant> {
        let inner = self.0.lock();
        let tick = now.instant.checked_add(TICK);
        let entries = inner.live.iter().filter_map(|key| inner.agents.get(key));
        let looks = entries.flat_map(|entry| {
            let guarded = entry.watch.as_ref().is_some_and(Watch::is_guarded);
            let deadline = entry.rollout.deployment().and_then(|d| rollout::deadline(&d.spec, &d.state));
            // A deadline that has passed waits for data, which the tick and the bell bring.
            [deadline.filter(|at| *at > now.instant), tick.filter(|_| guarded)]
        });
        let retry = tick.filter(|_| inner.unpublished);
        looks.chain([retry]).flatten().min()
    }
}

/// What the file makes of each agent, and which of that is a change.
fn adopt(inner: &Inner, intent: &Intent, now: Moment) -> (Vec<Change>, Vec<AgentRollout>) {
    let by = Actor::file(&intent.config_hash);
    let adopt_one = |intent: &AgentIntent| {
        let before = inner.agents.get(&AgentKey::of(&intent.spec)).map(|entry| entry.rollout.clone());
        let after = AgentRollout::adopt(before.as_ref().map(|b| &b.state), intent, &by, now);
        let same = before.as_ref().is_some_and(|before| before.state == after.state);
        let (by, rollout) = (by.clone(), after.clone());
        let change =
            Change { by, reason: None, command: "reload", before, after, actions: vec![], cost: Cost::default() };
        ((!same).then_some(change), rollout)
    };
    let (changes, rollouts): (Vec<_>, Vec<_>) = intent.agents.iter().map(adopt_one).unzip();
    (changes.into_iter().flatten().collect(), rollouts)
}

#[cfg(test)]
mod tests;
