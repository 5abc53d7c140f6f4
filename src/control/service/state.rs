//! All that the service holds, behind its one lock; and the one place that publishes tables.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::durable::Book;
use super::entry::{Entry, Means};
use super::migrations::Migrations;
use crate::control::agent::AgentRollout;
use crate::control::change::Change;
use crate::control::command::Changed;
use crate::control::drain::Drains;
use crate::control::feed::{Event, Feed};
use crate::control::health::Standing;
use crate::control::model::{AgentKey, Moment};
use crate::control::prometheus::SharedServer;
use crate::control::report;
use crate::routing::compile::{Rejection, compile};
use crate::routing::pin::SharedPins;
use crate::routing::spec::{Desired, DesiredAgent};
use crate::routing::table::SharedTable;
use crate::telemetry::outside::OutsideCounters;
use crate::telemetry::stats::StatsRegistry;

pub(super) struct Shared {
    pub inner: Mutex<Inner>,
    pub table: SharedTable,
    pub registry: Arc<StatsRegistry>,
    /// Whom queries ask.
    pub server: SharedServer,
    pub outside: Arc<OutsideCounters>,
    /// Tells the reconciler that its next deadline may have changed.
    pub changed: Notify,
    pub pins: SharedPins,
    /// Tells the keeper that there may be something to do.
    pub keep: Notify,
    /// Apart from `inner`, for to look at all versions may take a moment.
    pub drains: Mutex<Drains>,
    pub book: Book,
    /// Held by the one change that is being written before it takes effect.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

pub(super) struct Inner {
    pub config_hash: Arc<str>,
    pub epoch: u64,
    /// Of the newest change, of whatever agent.
    pub revision: u64,
    pub agents: BTreeMap<AgentKey, Entry>,
    /// Those whose deployment a look may move: few among perhaps many agents.
    pub live: Vec<AgentKey>,
    /// Standing checks may be there that have not begun.
    pub has_new_checks: bool,
    /// State is ahead of the table, for the compiler refused it: tried again at each look.
    pub unpublished: bool,
    /// When to try again what time would move, but could not be written.
    pub retry: Option<Instant>,
    pub migrations: Migrations,
    pub feed: Feed,
}

/// Changes that know the revision they will have.
#[derive(Default)]
pub(super) struct Numbered(Vec<Change>);

impl Deref for Numbered {
    type Target = [Change];

    fn deref(&self) -> &[Change] {
        &self.0
    }
}

/// Changes that are in effect, and what is to be told of them.
pub(super) struct Told {
    changes: Vec<(Change, Vec<Event>)>,
    pub published: Result<(), String>,
}

impl Told {
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().map(|(change, _)| change)
    }

    /// Log lines come last, and outside of the lock.
    pub fn log(&self) {
        self.changes.iter().for_each(|(change, events)| report::log(change, events));
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // No panic is expected under this lock. Should one come, going on with what is there beats a control
        // plane that can never again take a bad canary out.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn drains(&self) -> MutexGuard<'_, Drains> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn means(&self) -> Means<'_> {
        Means { registry: &self.registry, server: &self.server, runs: &self.book.runs, table: &self.table }
    }

    /// Puts changes into effect, all in one table: the canary is out before anything is told or written.
    pub fn install(&self, inner: &mut Inner, changes: Numbered, now: Moment) -> Told {
        for change in changes.iter() {
            inner.unpublished |= change.moves_traffic();
            if let Some(entry) = inner.agents.get_mut(&change.key()) {
                entry.take(change.clone(), now);
            }
        }
        let published = self.publish_changes(inner, now);
        Told { changes: inner.tell(changes.0, now), published }
    }

    pub fn publish(&self, inner: &mut Inner, desired: Desired) -> Result<(), Vec<Rejection>> {
        let previous = self.table.load_full();
        let table = compile(&desired, Some(&previous), &self.registry, inner.epoch + 1)?;
        inner.epoch = table.epoch;
        inner.unpublished = false;
        self.table.store(Arc::new(table));
        self.keep.notify_one();
        Ok(())
    }

    /// Brings the table, and what is watched, in step with the agents' states.
    fn publish_changes(&self, inner: &mut Inner, now: Moment) -> Result<(), String> {
        let mut published = Ok(());
        if inner.unpublished {
            let desired = inner.desired(&[]);
            published = self.publish(inner, desired).map_err(|rejections| {
                let texts: Vec<_> = rejections.iter().map(ToString::to_string).collect();
                texts.join("; ")
            });
        }
        for entry in inner.agents.values_mut().filter(|entry| entry.is_live() || entry.is_followed()) {
            entry.follow(&self.means(), now);
        }
        inner.has_new_checks = true;
        inner.relive();
        self.registry.prune();
        published
    }
}

impl Inner {
    /// Gives changes the next revision.
    pub fn number(&mut self, mut changes: Vec<Change>, now: Moment) -> Numbered {
        self.revision += u64::from(!changes.is_empty());
        for change in &mut changes {
            let note = changed(change, self.revision, now);
            change.after.state.note(note);
        }
        Numbered(changes)
    }

    /// What the table should be, with some agents as changes would have them.
    pub fn desired(&self, changes: &[Change]) -> Desired {
        let changed: BTreeMap<_, _> = changes.iter().map(|change| (change.key(), &change.after)).collect();
        let agents =
            self.agents.iter().map(|(key, entry)| changed.get(key).copied().unwrap_or(&entry.rollout).desired());
        Desired { config_hash: self.config_hash.clone(), agents: agents.collect() }
    }

    /// Makes `rollouts` the agents there are; those that stay on trial keep being watched.
    pub fn settle(&mut self, rollouts: BTreeMap<AgentKey, AgentRollout>, means: &Means<'_>, now: Moment) {
        let mut before = std::mem::take(&mut self.agents);
        for (key, rollout) in rollouts {
            let mut entry = match before.remove(&key) {
                Some(entry) => Entry { rollout, ..entry },
                None => Entry { rollout, watch: None, gate: None, standing: Standing::default() },
            };
            entry.follow(means, now);
            self.agents.insert(key, entry);
        }
        self.has_new_checks = true;
        self.relive();
    }

    pub fn relive(&mut self) {
        let live = self.agents.iter().filter(|(_, entry)| entry.is_live());
        self.live = live.map(|(key, _)| key.clone()).collect();
    }

    /// Feeds those who follow.
    fn tell(&mut self, changes: Vec<Change>, now: Moment) -> Vec<(Change, Vec<Event>)> {
        let epoch = self.epoch;
        let with_events = |change: Change| {
            let events = report::events(&change, epoch, now);
            (change, events)
        };
        let told: Vec<_> = changes.into_iter().map(with_events).collect();
        for (_, events) in &told {
            events.iter().for_each(|event| self.feed.push(event.clone()));
        }
        told
    }

    /// Notes and tells of changes that are in effect by another way: a file's.
    pub fn told(&mut self, changes: Numbered, now: Moment) -> Told {
        Told { changes: self.tell(changes.0, now), published: Ok(()) }
    }
}

/// Gives the agents that a file changed their note of it.
pub(super) fn note(rollouts: &mut BTreeMap<AgentKey, AgentRollout>, changes: &Numbered) {
    for change in changes.iter() {
        if let Some(rollout) = rollouts.get_mut(&change.key()) {
            rollout.state = change.after.state.clone();
        }
    }
}

fn changed(change: &Change, revision: u64, at: Moment) -> Changed {
    let differences = change.differences();
    let what = if differences.is_empty() { change.command.to_owned() } else { differences.join("; ") };
    Changed { revision, by: change.by.clone(), at, what }
}

pub(super) fn desired<'a>(config_hash: &Arc<str>, rollouts: impl Iterator<Item = &'a AgentRollout>) -> Desired {
    let agents: Vec<DesiredAgent> = rollouts.map(AgentRollout::desired).collect();
    Desired { config_hash: config_hash.clone(), agents }
}
