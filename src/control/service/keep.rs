//! What the keeper does at each round: moves conversations, forgets those of versions that are gone or were rolled
//! back, and sees which versions are drained. The table of pins is walked without the service's lock, so that a
//! rollback never waits for it.

use std::time::Duration;

use super::state::Inner;
use super::{Control, migrations};
use crate::control::command::Order;
use crate::control::drain::Load;
use crate::control::feed::{Event, EventKind};
use crate::control::migration::{Migration, MigrationId, Plan, State, overdue};
use crate::control::model::{Actor, AgentKey, Moment};
use crate::control::persist;
use crate::control::report;
use crate::control::writer::Write;
use crate::routing::conversation::PinPolicy;
use crate::routing::ids::VersionId;
use crate::routing::pin::{Migrated, PinAgent, Place, SEGMENTS, Second, second};
use crate::routing::table::Agent;
use crate::telemetry::stats::{Histograms, Totals};

/// How often it looks at what is left, where nothing else asks for it.
pub(in crate::control) const ROUND: Duration = Duration::from_secs(1);

/// How much of the table is searched for expired pins at each round: all of it within half a minute.
const SWEPT: usize = SEGMENTS / 32;

/// One migration's part of a round.
struct Move {
    key: AgentKey,
    migration: Migration,
    plan: Plan,
}

impl Control {
    /// One round; says how long the next may wait.
    pub(in crate::control) fn keep(&self, now: Moment) -> Duration {
        self.0.pins.sweep(SWEPT, second(now.wall));
        self.0.pins.shrink();
        let places = self.0.pins.places();
        let (moves, left, mut events) = {
            let mut inner = self.0.lock();
            let events = inner.cancel_what_cannot_go_on(self, now);
            let left: Vec<_> = places.iter().filter(|place| place.conversations() > 0 && !inner.keeps(place)).collect();
            (inner.moves(now), left, events)
        };
        for place in left {
            self.0.pins.evict(place);
        }
        events.extend(self.end_drains(now));
        let mut again = ROUND;
        for due in moves {
            again = again.min(due.plan.again);
            // Not its time yet, and somebody is left: nothing would come of looking.
            if due.plan.moves == 0 && self.place(&due.key, &due.migration.from).conversations() > 0 {
                continue;
            }
            let migrated = migrations::migrate(&self.0.pins, &due.key, &due.migration, due.plan.moves);
            let mut inner = self.0.lock();
            events.extend(inner.ran(self, &due.key, &due.migration.id, migrated, now));
        }
        self.forget_turned(now);
        events.extend(self.drained(now));
        events.iter().for_each(report::log_event);
        again
    }

    /// What a version still has to do.
    pub(super) fn load_of(&self, agent: &Agent, version: usize) -> Load {
        let Some(version) = agent.versions.get(version) else { return Load::default() };
        let mut totals = Totals::default();
        version.stats.read(&mut totals, Histograms::default());
        let places = self.0.pins.counts(agent.environment(), agent.id());
        let place = places.iter().find(|place| place.version == version.id);
        Load { conversations: place.map_or(0, |place| place.conversations()), in_flight: totals.in_flight() }
    }

    /// Begins to move the conversations of versions whose drain time is over.
    fn end_drains(&self, now: Moment) -> Vec<Event> {
        // One that was ordered is not known before the disk has it: next round it is seen, and not crossed.
        let Ok(_turn) = self.0.turn.try_lock() else { return Vec::new() };
        let draining: Vec<_> = self.0.drains().agents().cloned().collect();
        let mut inner = self.0.lock();
        let mut events = Vec::new();
        for key in draining {
            let agent = inner.agents.get(&key).map(|entry| &entry.rollout);
            let Some((agent, (request, timeout))) = agent.and_then(|agent| Some((agent, overdue(agent, now)?))) else {
                continue;
            };
            let running = inner.migrations.known.get(&key).into_iter().flatten();
            let free = request.check(agent, running.filter(|migration| migration.is_running())).is_ok();
            if !free || self.place(&key, &request.from).conversations() == 0 {
                continue;
            }
            let reason = format!("its drain_timeout of {} is over", humantime::format_duration(timeout));
            let order = Order { reason: Some(reason), ..Order::by(Actor::pointsman()) };
            let migration = self.migration(&key, request, &order, now);
            events.push(inner.began(self, &key, migration, &order, now));
        }
        events
    }

    /// Under `upgrade_at_turn` a draining version is not waited for by conversations whose turn is over.
    fn forget_turned(&self, now: Moment) {
        let table = self.0.table.load_full();
        for (key, draining) in self.all_draining() {
            let agent = table.agent(key.environment.as_str(), key.agent.as_str());
            let policy = agent.and_then(|agent| agent.spec.conversations.as_ref()).map(|spec| spec.policy);
            if let Some(PinPolicy::UpgradeAtTurn { grace }) = policy
                && draining.load.conversations > 0
            {
                let grace = Second::try_from(grace.as_secs()).unwrap_or(Second::MAX);
                self.0.pins.forget_idle(&self.place(&key, &draining.version), grace, second(now.wall));
            }
        }
    }

    fn drained(&self, now: Moment) -> Vec<Event> {
        let table = self.0.table.load_full();
        let drained = self.0.drains().look(&table, |agent, version| self.load_of(agent, version), now);
        let mut inner = self.0.lock();
        let tell = |(key, version): (AgentKey, VersionId)| {
            let event = inner.event(self, &key, EventKind::Drained, &version, now);
            inner.feed.push(event.clone());
            event
        };
        drained.into_iter().map(tell).collect()
    }
}

impl Inner {
    /// Those that run, with what is due of each.
    fn moves(&self, now: Moment) -> Vec<Move> {
        let all = self.migrations.known.iter();
        let running = all.flat_map(|(key, known)| {
            known.iter().filter(|migration| migration.is_running()).map(move |migration| (key, migration))
        });
        let due = |(key, migration): (&AgentKey, &Migration)| Move {
            key: key.clone(),
            plan: migration.plan(now),
            migration: migration.clone(),
        };
        running.map(due).collect()
    }

    /// Whether conversations may stay at a version: it is there, and was not rolled back.
    fn keeps(&self, place: &Place) -> bool {
        let PinAgent { environment, id, .. } = &*place.agent;
        let key = AgentKey { environment: environment.clone(), agent: id.clone() };
        let Some(rollout) = self.agents.get(&key).map(|entry| &entry.rollout) else { return false };
        let Some(spec) = &rollout.spec.conversations else { return false };
        let is_left = || rollout.left_by(&place.version).is_some();
        rollout.spec.versions.contains_key(&place.version) && !(spec.evict_on_rollback && is_left())
    }

    /// A rollback of the target, or a file that names it no more, ends a migration.
    fn cancel_what_cannot_go_on(&mut self, control: &Control, now: Moment) -> Vec<Event> {
        let mut write = Write::default();
        let mut ended = Vec::new();
        let Self { agents, migrations, .. } = self;
        migrations.known.retain(|key, known| {
            let Some(entry) = agents.get(key) else {
                // All that was remembered of a removed agent goes.
                write.documents.extend(known.iter().map(|one| persist::forgotten_migration(key, &one.id)));
                return false;
            };
            for migration in known.iter_mut().filter(|migration| migration.is_running()) {
                let Some(why) = migration.obstacle(&entry.rollout) else { continue };
                let before = migration.clone();
                migration.cancel(Actor::pointsman(), Some(why), now);
                ended.push((key.clone(), before, migration.clone()));
            }
            true
        });
        let mut events = Vec::new();
        for (key, before, after) in ended {
            events.push(self.ended(control, &key, "cancel migration", (&before, &after), &mut write, now));
        }
        drop(control.0.book.insist(write));
        events
    }

    /// A migration that nobody ordered just now: in effect first, for it is in the deployment that was written.
    fn began(&mut self, control: &Control, key: &AgentKey, migration: Migration, order: &Order, now: Moment) -> Event {
        let write = Write {
            documents: vec![persist::migration(key, &migration)],
            records: vec![persist::record_migration(key, "migrate", order, None, &migration, now)],
            ..Write::default()
        };
        drop(control.0.book.insist(write));
        let event = self.tell_of(control, key, EventKind::MigrationStarted, &migration, now);
        self.migrations.known.entry(key.clone()).or_default().push_back(migration);
        event
    }

    /// Takes in what a run came to.
    fn ran(
        &mut self,
        control: &Control,
        key: &AgentKey,
        id: &MigrationId,
        migrated: Migrated,
        now: Moment,
    ) -> Option<Event> {
        let known = self.migrations.known.get_mut(key)?;
        let migration = known.iter_mut().find(|migration| migration.id == *id)?;
        let before = migration.clone();
        let Migrated { moved, busy, left } = migrated;
        let over = migration.ran(moved as u64, (busy + left) as u64, busy as u64, now);
        let after = migration.clone();
        // One that was cancelled meanwhile was told of then.
        if !over || !before.is_running() {
            return None;
        }
        let mut write = Write::default();
        let event = self.ended(control, key, "complete migration", (&before, &after), &mut write, now);
        drop(control.0.book.insist(write));
        Some(event)
    }

    /// The end of a migration: documents, record, event.
    fn ended(
        &mut self,
        control: &Control,
        key: &AgentKey,
        command: &str,
        (before, after): (&Migration, &Migration),
        write: &mut Write,
        now: Moment,
    ) -> Event {
        let is_cancelled = matches!(after.state, State::Cancelled { .. });
        let kind = if is_cancelled { EventKind::MigrationCancelled } else { EventKind::MigrationCompleted };
        let order = Order::by(Actor::pointsman());
        write.documents.push(persist::migration(key, after));
        write.records.push(persist::record_migration(key, command, &order, Some(before), after, now));
        self.migrations.forget_old(key, write);
        self.tell_of(control, key, kind, after, now)
    }
}
