//! The commands, and the one place that publishes routing tables.
//!
//! All state is behind one mutex that is never held across an await, so every change sees the one before it:
//! a reload, a verdict and an operator cannot interleave. Epochs grow by one with each table published.
//! A breach is published first and told second.
//!
//! Left out: durability. Nothing here survives a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::agent::AgentRollout;
use super::model::{AgentIntent, AgentKey, Deployment, DeploymentState, Intent, Moment};
use super::reconcile::Reconciler;
use super::report::{self, Event};
use super::rollout::{self, Action, Command, Judgement};
use super::view::{DeploymentView, RolloutCounters};
use super::watch::Watch;
use crate::routing::compile::{Rejection, compile};
use crate::routing::ids::VersionId;
use crate::routing::spec::{Desired, DesiredAgent};
use crate::routing::table::{RoutingTable, SharedTable};
use crate::telemetry::stats::StatsRegistry;

/// How often a guarded deployment is looked at when no outcome rings for it: windows move on by themselves.
const TICK: Duration = Duration::from_secs(1);

/// The handle on rollouts. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    table: SharedTable,
    registry: Arc<StatsRegistry>,
    /// Tells the reconciler that its next deadline may have changed.
    changed: Notify,
}

struct Inner {
    config_hash: Arc<str>,
    epoch: u64,
    agents: BTreeMap<AgentKey, Entry>,
    /// Those whose deployment a look may move: few among perhaps many agents.
    live: Vec<AgentKey>,
    /// State is ahead of the table, for the compiler refused it: tried again at each look.
    unpublished: bool,
}

struct Entry {
    rollout: AgentRollout,
    watch: Option<Watch>,
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub epoch: u64,
    pub agents: usize,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    #[error("no agent {} in environment {}", .0.agent, .0.environment)]
    UnknownAgent(AgentKey),
    #[error("agent {} has no deployment in environment {}", .0.agent, .0.environment)]
    NoDeployment(AgentKey),
    #[error("version {0} is the agent's stable version: there is none to return to")]
    IsStable(VersionId),
    #[error(transparent)]
    Refused(#[from] rollout::Refusal),
    #[error("done, but the routing table could not be built and will be tried again: {0}")]
    Unpublished(String),
}

/// What taking some actions came to.
#[derive(Default)]
struct Taken {
    events: Vec<Event>,
    moves_traffic: bool,
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
        let rollouts = adopt(&BTreeMap::new(), &intent, now);
        let desired = desired(&intent.config_hash, rollouts.iter());
        let table: RoutingTable = compile(&desired, None, &registry, 1)?;
        let inner = Inner {
            config_hash: intent.config_hash,
            epoch: table.epoch,
            agents: BTreeMap::new(),
            live: Vec::new(),
            unpublished: false,
        };
        let (begun, epoch) = (begun(&rollouts, now), inner.epoch);
        let table = Arc::new(ArcSwap::from_pointee(table));
        let control = Self(Arc::new(Shared { inner: Mutex::new(inner), table, registry, changed: Notify::new() }));
        control.0.lock().settle(rollouts, &control.0.registry, now);
        begun.iter().for_each(|(key, deployment)| report::log_begun(key, deployment, epoch));
        Ok((control.clone(), Reconciler::new(control)))
    }

    /// Takes a new intent whole, or says everything that is wrong with it and changes nothing.
    pub fn apply(&self, intent: Intent) -> Result<Applied, Vec<Rejection>> {
        self.apply_at(intent, Moment::now())
    }

    pub(super) fn apply_at(&self, intent: Intent, now: Moment) -> Result<Applied, Vec<Rejection>> {
        let mut inner = self.0.lock();
        let rollouts = adopt(&inner.agents, &intent, now);
        if let Err(rejections) = self.0.publish(&mut inner, desired(&intent.config_hash, rollouts.iter())) {
            // The half-made table named versions that nothing holds now.
            self.0.registry.prune();
            return Err(rejections);
        }
        let begun = begun(&rollouts, now);
        inner.config_hash = intent.config_hash;
        inner.settle(rollouts, &self.0.registry, now);
        self.0.registry.prune();
        let applied = Applied { epoch: inner.epoch, agents: inner.agents.len() };
        drop(inner);
        self.0.changed.notify_one();
        begun.iter().for_each(|(key, deployment)| report::log_begun(key, deployment, applied.epoch));
        Ok(applied)
    }

    /// Takes the canary out at once and for good.
    pub fn rollback(&self, key: &AgentKey, by: String, reason: Option<String>) -> Result<DeploymentView, CommandError> {
        self.command_at(key, Command::Rollback { by, reason }, Moment::now())
    }

    pub(super) fn command_at(
        &self,
        key: &AgentKey,
        command: Command,
        now: Moment,
    ) -> Result<DeploymentView, CommandError> {
        let mut inner = self.0.lock();
        let entry = inner.agents.get_mut(key).ok_or_else(|| CommandError::UnknownAgent(key.clone()))?;
        let none = || CommandError::NoDeployment(key.clone());
        let deployment = entry.rollout.deployment.as_ref().ok_or_else(none)?;
        let actions = rollout::command(deployment, command)?;
        if deployment.spec.version == entry.rollout.spec.stable {
            return Err(CommandError::IsStable(deployment.spec.version.clone()));
        }
        let taken = entry.take(actions, now);
        inner.unpublished |= taken.moves_traffic;
        let published = self.0.publish_changes(&mut inner, now);
        let view = inner.agents.get(key).and_then(|e| e.view(key, now)).ok_or_else(none)?;
        let epoch = inner.epoch;
        drop(inner);
        self.0.changed.notify_one();
        taken.events.iter().for_each(|event| event.log(epoch));
        published.map(|()| view).map_err(CommandError::Unpublished)
    }

    /// Every deployment in the configuration, in the order of environment and agent.
    pub fn deployments(&self) -> Vec<DeploymentView> {
        let now = Moment::now();
        self.0.lock().agents.iter().filter_map(|(key, entry)| entry.view(key, now)).collect()
    }

    pub fn deployment(&self, key: &AgentKey) -> Option<DeploymentView> {
        self.0.lock().agents.get(key)?.view(key, Moment::now())
    }

    /// Rollbacks and breaches of every agent.
    pub fn counters(&self) -> Vec<RolloutCounters> {
        let count =
            |(key, entry): (&AgentKey, &Entry)| RolloutCounters { key: key.clone(), tally: entry.rollout.tally };
        self.0.lock().agents.iter().map(count).collect()
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
        let mut events = Vec::new();
        let Inner { live, agents, unpublished, .. } = &mut *inner;
        for key in live.iter() {
            if let Some(entry) = agents.get_mut(key) {
                let taken = entry.look(now);
                *unpublished |= taken.moves_traffic;
                events.extend(taken.events);
            }
        }
        if events.is_empty() && !inner.unpublished {
            return;
        }
        // Published before anyone is told: the canary is out before the log line is written.
        let published = self.0.publish_changes(&mut inner, now);
        let epoch = inner.epoch;
        drop(inner);
        if let Err(why) = published {
            tracing::error!(%why, "the routing table could not be built; the last one stays, and this is tried again");
        }
        events.iter().for_each(|event| event.log(epoch));
    }

    /// When to look again even if no bell rings; `None`: not before a command or a reload.
    pub(super) fn next_look(&self, now: Moment) -> Option<Instant> {
        let inner = self.0.lock();
        let tick = now.instant.checked_add(TICK);
        let entries = inner.live.iter().filter_map(|key| inner.agents.get(key));
        let looks = entries.flat_map(|entry| {
            let guarded = entry.watch.as_ref().is_some_and(Watch::is_guarded);
            let deadline = entry.rollout.deployment.as_ref().and_then(|d| rollout::deadline(&d.spec, &d.state));
            // A deadline that has passed waits for data, which the tick and the bell bring.
            [deadline.filter(|at| *at > now.instant), tick.filter(|_| guarded)]
        });
        let retry = tick.filter(|_| inner.unpublished);
        looks.chain([retry]).flatten().min()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No panic is expected under this lock. Should one come, going on with what is there beats a control
        // plane that can never again take a bad canary out.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, inner: &mut Inner, desired: Desired) -> Result<(), Vec<Rejection>> {
        let previous = self.table.load_full();
        let table = compile(&desired, Some(&previous), &self.registry, inner.epoch + 1)?;
        inner.epoch = table.epoch;
        inner.unpublished = false;
        self.table.store(Arc::new(table));
        Ok(())
    }

    /// Brings the table, and what is watched, in step with the agents' states.
    fn publish_changes(&self, inner: &mut Inner, now: Moment) -> Result<(), String> {
        let mut published = Ok(());
        if inner.unpublished {
            let desired = desired(&inner.config_hash, inner.agents.values().map(|entry| &entry.rollout));
            published = self.publish(inner, desired).map_err(|rejections| {
                let texts: Vec<_> = rejections.iter().map(ToString::to_string).collect();
                texts.join("; ")
            });
        }
        for key in std::mem::take(&mut inner.live) {
            if let Some(entry) = inner.agents.get_mut(&key) {
                entry.rewatch(&self.registry, now);
            }
        }
        inner.relive();
        self.registry.prune();
        published
    }
}

impl Inner {
    /// Makes `rollouts` the agents there are; those that stay on trial keep being watched.
    fn settle(&mut self, rollouts: Vec<AgentRollout>, registry: &StatsRegistry, now: Moment) {
        let mut before = std::mem::take(&mut self.agents);
        for rollout in rollouts {
            let key = rollout.key();
            let watch = before.remove(&key).and_then(|entry| entry.watch);
            let mut entry = Entry { rollout, watch };
            entry.rewatch(registry, now);
            self.agents.insert(key, entry);
        }
        self.relive();
    }

    fn relive(&mut self) {
        let live = self.agents.iter().filter(|(_, entry)| entry.is_live());
        self.live = live.map(|(key, _)| key.clone()).collect();
    }
}

impl Entry {
    fn is_live(&self) -> bool {
        let state = self.rollout.deployment.as_ref().map(|d| &d.state);
        state.is_some_and(|s| s.on_trial() || matches!(s, DeploymentState::Waiting { .. }))
    }

    fn look(&mut self, now: Moment) -> Taken {
        let judgement = self.watch.as_mut().map_or(Judgement::Silent, |watch| watch.judge(now));
        self.take(self.rollout.plan(&judgement, now), now)
    }

    fn take(&mut self, actions: Vec<Action>, now: Moment) -> Taken {
        if actions.is_empty() {
            return Taken::default();
        }
        let before = self.rollout.desired();
        let cost = self.watch.as_ref().map(Watch::cost).unwrap_or_default();
        let mut events = Vec::new();
        for action in actions {
            self.rollout.act(&action, cost, now);
            self.watch.iter_mut().for_each(|watch| watch.follow(&action, now));
            let deployment = self.rollout.deployment.as_ref();
            events.extend(deployment.and_then(|d| Event::of(self.rollout.key(), d, action, cost, now)));
        }
        let after = self.rollout.desired();
        Taken { events, moves_traffic: (before.barred, before.canary) != (after.barred, after.canary) }
    }

    /// Watches what is on trial, and nothing else.
    fn rewatch(&mut self, registry: &StatsRegistry, now: Moment) {
        let trial = self.rollout.deployment.as_ref().filter(|d| d.state.on_trial());
        if let (Some(trial), Some(watch)) = (trial, &self.watch)
            && watch.is_of(trial, &self.rollout.spec.stable)
        {
            return;
        }
        // The old watch goes first, for in its going it silences the bell that the new one may want.
        self.watch = None;
        self.watch = trial.map(|trial| Watch::new(&self.rollout.spec, trial, registry, now));
    }

    fn view(&self, key: &AgentKey, now: Moment) -> Option<DeploymentView> {
        let deployment = self.rollout.deployment.clone()?;
        let earlier = self.rollout.last_rollback().filter(|r| r.id() != deployment.id());
        let cost = match &deployment.state {
            DeploymentState::RolledBack(rollback) => rollback.cost,
            _ => self.watch.as_ref().map(Watch::cost).unwrap_or_default(),
        };
        Some(DeploymentView {
            key: key.clone(),
            stable: self.rollout.spec.stable.clone(),
            cost,
            readings: self.watch.as_ref().map(|w| w.readings(now)).unwrap_or_default(),
            earlier_rollback: earlier.cloned(),
            deployment,
        })
    }
}

fn adopt(agents: &BTreeMap<AgentKey, Entry>, intent: &Intent, now: Moment) -> Vec<AgentRollout> {
    let adopt_one = |intent: &AgentIntent| {
        AgentRollout::adopt(agents.get(&AgentKey::of(&intent.spec)).map(|e| &e.rollout), intent, now)
    };
    intent.agents.iter().map(adopt_one).collect()
}

/// The deployments that `now` sees for the first time.
fn begun(rollouts: &[AgentRollout], now: Moment) -> Vec<(AgentKey, Deployment)> {
    let with_key = |rollout: &AgentRollout| Some((rollout.key(), rollout.deployment.clone()?));
    rollouts.iter().filter_map(with_key).filter(|(_, deployment)| deployment.started == now).collect()
}

fn desired<'a>(config_hash: &Arc<str>, rollouts: impl Iterator<Item = &'a AgentRollout>) -> Desired {
    let agents: Vec<DesiredAgent> = rollouts.map(AgentRollout::desired).collect();
    Desired { config_hash: config_hash.clone(), agents }
}

#[cfg(test)]
mod tests;
