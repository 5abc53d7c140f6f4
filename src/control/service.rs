//! The commands, and the order in which a change takes effect.
//!
//! All state is behind one mutex that is never held across an await, so every change sees the one before it:
//! a reload, a verdict and an operator cannot interleave. A change is computed first, as a pure value
//! ([`Change`]: state before, state after, by whom and why), and then put into effect. Epochs grow by one with each
//! table published, revisions with each change.
//!
//! `start` takes up what earlier processes left; `orders` says when a change is written and when it takes effect, and
//! `looks` does so for what guards and time move; `durable` is what is written; `conversations` and `migrations` are
//! what may be seen and ordered of conversations, and `keep` what becomes of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::agent::{AgentRollout, AgentState};
use super::audit::{self, Record};
use super::change::Change;
use super::errands::Errand;
use super::feed::{Event, Missed};
use super::health::StandingReading;
use super::model::{Actor, AgentIntent, AgentKey, Cost, Intent, Moment};
use super::persist;
use super::rollout;
use super::store::{Documents, StoreError};
use super::view::{DeploymentView, RolloutCounters};
use super::watch::Watch;
use crate::routing::compile::Rejection;
use crate::routing::table::SharedTable;
use crate::telemetry::outside::OutsideCounters;
use crate::telemetry::stats::StatsRegistry;
use durable::Left;
use entry::Entry;
pub(super) use entry::Means;
use state::{Inner, Shared};

mod conversations;
mod durable;
mod entry;
mod keep;
mod looks;
mod migrations;
mod orders;
mod start;
mod state;

pub use conversations::{Conversation, VersionConversations};
pub(super) use keep::ROUND;
pub use migrations::MigrationDone;
pub use start::{Live, StartError};

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
    /// Takes a new intent whole, or says everything that is wrong with it and changes nothing.
    pub async fn apply(&self, intent: Intent) -> Result<Applied, Vec<Rejection>> {
        self.apply_at(intent, Moment::now())
    }

    /// Published first: a file is its own record, and a full disk must not keep its author from changing it.
    pub(super) fn apply_at(&self, intent: Intent, now: Moment) -> Result<Applied, Vec<Rejection>> {
        let mut inner = self.0.lock();
        let by = Actor::file(&intent.config_hash);
        let previous =
            |intent: &AgentIntent| inner.agents.get(&AgentKey::of(&intent.spec)).map(|entry| entry.rollout.clone());
        let (changes, mut rollouts) = adopt(previous, &intent, now);
        let before = persist::layouts(&self.0.table.load());
        let desired = state::desired(&intent.config_hash, rollouts.values());
        if let Err(rejections) = self.0.publish(&mut inner, desired) {
            // The half-made table named versions that nothing holds now.
            self.0.registry.prune();
            return Err(rejections);
        }
        inner.config_hash = intent.config_hash;
        let changes = inner.number(changes, now);
        state::note(&mut rollouts, &changes);
        let gone = inner.agents.iter().filter(|(key, _)| !rollouts.contains_key(key));
        let gone = gone.map(|(key, entry)| (key.clone(), entry.rollout.state.clone())).collect();
        let mut write = self.0.book.runs.write(&changes, now);
        Left { by: &by, gone, layouts: (before, persist::layouts(&self.0.table.load())) }.add_to(&mut write, now);
        self.0.book.insist(write);
        self.0.server.store(intent.prometheus);
        inner.settle(rollouts, &self.0.means(), now);
        let told = inner.told(changes, now);
        self.0.registry.prune();
        let applied = Applied { epoch: inner.epoch, agents: inner.agents.len() };
        drop(inner);
        self.0.changed.notify_one();
        told.log();
        Ok(applied)
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

    /// At most `limit` records of the audit after this number. Read on a thread of its own, for a disk may stall.
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.read_audit(move |store| audit::records(store, after, limit)).await
    }

    /// The same backwards: before this number, or from the newest on.
    pub async fn newest_audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.read_audit(move |store| audit::newest(store, before, limit)).await
    }

    async fn read_audit(
        &self,
        read: impl FnOnce(&dyn Documents) -> Result<Vec<Record>, StoreError> + Send + 'static,
    ) -> Result<Vec<Record>, StoreError> {
        let store = self.0.book.store.clone();
        let read = tokio::task::spawn_blocking(move || read(&*store));
        read.await.unwrap_or_else(|panicked| Err(StoreError::Failed(panicked.to_string())))
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

    /// What the standing checks of an agent say.
    pub fn standing(&self, key: &AgentKey) -> Vec<StandingReading> {
        self.0.lock().agents.get(key).map(|entry| entry.standing.readings()).unwrap_or_default()
    }

    /// How many checks and queries there were.
    pub fn outside(&self) -> &Arc<OutsideCounters> {
        &self.0.outside
    }

    /// Checks and queries that have not begun; each is given out once.
    pub(super) fn errands(&self) -> Vec<Errand> {
        let Inner { live, agents, has_new_checks, .. } = &mut *self.0.lock();
        let entries = live.iter().filter_map(|key| Some(agents.get_mut(key)?.errands()));
        let mut errands: Vec<_> = entries.flatten().collect();
        if std::mem::take(has_new_checks) {
            errands.extend(agents.values_mut().flat_map(|entry| entry.standing.errands()));
        }
        errands
    }

    /// Returns when a command or a reload may have moved the next deadline.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
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
        let unpublished = tick.filter(|_| inner.unpublished);
        looks.chain([unpublished, inner.retry]).flatten().min()
    }
}

/// What the file makes of each agent, and which of that is a change.
fn adopt(
    previous: impl Fn(&AgentIntent) -> Option<AgentRollout>,
    intent: &Intent,
    now: Moment,
) -> (Vec<Change>, BTreeMap<AgentKey, AgentRollout>) {
    let by = Actor::file(&intent.config_hash);
    let mut changes = Vec::new();
    let adopt_one = |intent: &AgentIntent| {
        let before = previous(intent);
        let mut after = AgentRollout::adopt(before.as_ref().map(|b| &b.state), intent, &by, now);
        // One that says the same is the same: who compares them later need not look inside.
        if let Some(before) = before.as_ref().filter(|before| before.spec == after.spec) {
            after.spec = before.spec.clone();
        }
        if before.as_ref().is_none_or(|before| before.state != after.state) {
            let (by, after, cost) = (by.clone(), after.clone(), Cost::default());
            changes.push(Change { by, reason: None, command: "reload", before, after, actions: vec![], cost });
        }
        (after.key(), after)
    };
    let rollouts = intent.agents.iter().map(adopt_one).collect();
    (changes, rollouts)
}

#[cfg(test)]
mod conversation_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
