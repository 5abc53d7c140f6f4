//! What the keeper does at each round: moves conversations, forgets those of versions that were rolled back, and sees
//! which versions are drained. The table of pins is walked without the service's lock, so that a rollback never waits
//! for it.

use std::time::{Duration, SystemTime};

use super::{Control, conversations};
use super::state::Inner;
use crate::control::command::Order;
use crate::control::drain::Load;
use crate::control::feed::{Event, EventKind};
use crate::control::migration::{Migration, MigrationId};
use crate::control::model::{Actor, AgentKey, Moment};
use crate::control::persist;
use crate::control::report;
use crate::control::writer::Write;
use crate::routing::ids::VersionId;
use crate::routing::pin::{Migrated, SEGMENTS, Second};
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
    moves: u64,
}

impl Control {
    /// One round; says how long the next may wait.
    pub(in crate::control) fn keep(&self, now: Moment) -> Duration {
        self.0.pins.sweep(SWEPT, second(now));
        let (moves, barred, mut events) = {
            let mut inner = self.0.lock();
            let events = inner.cancel_what_cannot_go_on(self, now);
            let (moves, barred) = (inner.moves(now), inner.barred());
            (moves, barred, events)
        };
        for (key, version) in barred {
            let place = self.place(&key, &version);
            if place.conversations() > 0 {
                self.0.pins.evict(&place);
            }
        }
        let mut again = ROUND;
        for due in moves {
            again = again.min(due.migration.plan(now).again);
            let migrated = conversations::migrate(&self.0.pins, &due.key, &due.migration, due.moves);
            let mut inner = self.0.lock();
            events.extend(inner.ran(self, &due.key, &due.migration.id, migrated, now));
        }
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
        let all = self.conversations.migrations.iter();
        let running = all.flat_map(|(key, known)| {
            known.iter().filter(|migration| migration.is_running()).map(move |migration| (key, migration))
        });
        let due = |(key, migration): (&AgentKey, &Migration)| Move {
            key: key.clone(),
            moves: migration.plan(now).moves,
            migration: migration.clone(),
        };
        running.map(due).collect()
    }

    /// Versions whose conversations are not to stay there.
    fn barred(&self) -> Vec<(AgentKey, VersionId)> {
        let evicting = |(key, entry): (&AgentKey, &super::entry::Entry)| {
            let rollout = &entry.rollout;
            let evicts = rollout.spec.conversations.as_ref().is_some_and(|spec| spec.evict_on_rollback);
            let barred = if evicts { rollout.desired().barred } else { Vec::new() };
            barred.into_iter().map(|version| (key.clone(), version)).collect::<Vec<_>>()
        };
        self.agents.iter().flat_map(evicting).collect()
    }

    /// A rollback of the target, or a file that names it no more, ends a migration.
    fn cancel_what_cannot_go_on(&mut self, control: &Control, now: Moment) -> Vec<Event> {
        let mut write = Write::default();
        let mut ended = Vec::new();
        let Self { agents, conversations, .. } = self;
        conversations.migrations.retain(|key, known| {
            let Some(entry) = agents.get(key) else {
                // All that was remembered of a removed agent goes.
                write.documents.extend(known.iter().map(|one| persist::forgotten_migration(key, &one.id)));
                return false;
            };
            for migration in known.iter_mut().filter(|migration| migration.is_running()) {
                let Some(why) = migration.obstacle(&entry.rollout) else { continue };
                let before = migration.clone();
                migration.cancel(Actor::pointsman(), Some(why.clone()), now);
                ended.push((key.clone(), before, migration.clone()));
            }
            true
        });
        let mut events = Vec::new();
        for (key, before, after) in ended {
            events.push(self.written(control, &key, "cancel migration", (&before, &after), &mut write, now));
        }
        drop(control.0.book.insist(write));
        events
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
        let known = self.conversations.migrations.get_mut(key)?;
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
        let event = self.written(control, key, "complete migration", (&before, &after), &mut write, now);
        drop(control.0.book.insist(write));
        Some(event)
    }

    /// The end of a migration: documents, record, event.
    fn written(
        &mut self,
        control: &Control,
        key: &AgentKey,
        command: &str,
        (before, after): (&Migration, &Migration),
        write: &mut Write,
        now: Moment,
    ) -> Event {
        let kind = match after.state.as_str() {
            "cancelled" => EventKind::MigrationCancelled,
            _ => EventKind::MigrationCompleted,
        };
        let order = Order::by(Actor::pointsman());
        write.documents.push(persist::migration(key, after));
        write.records.push(persist::record_migration(key, command, &order, Some(before), after, now));
        self.conversations.forget_old(key, write);
        self.tell_of(control, key, kind, after, now)
    }
}

/// The wall clock as pins count it.
pub(in crate::control) fn second(now: Moment) -> Second {
    let since = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Second::try_from(since.as_secs()).unwrap_or(Second::MAX)
}
