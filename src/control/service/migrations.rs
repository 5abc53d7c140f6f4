//! Migrations of conversations: to begin one, to stop it, and what is remembered.
//!
//! To begin a migration is written first and takes effect then, as most commands; to cancel one, and what ends by
//! itself, is in effect first: nothing more moves while a disk stalls. Moving is the keeper's work (`keep`), never
//! under the service's lock.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;

use super::Control;
use super::orders::{PATIENCE, confirmed};
use super::state::Inner;
use crate::control::command::{CommandError, Order, Refusal};
use crate::control::feed::{Event, EventKind};
use crate::control::migration::{
    MIGRATIONS_REMEMBERED, Migration, MigrationId, MigrationRequest, Mode, Progress, RequestedMode, State,
};
use crate::control::model::{Actor, AgentKey, Moment};
use crate::control::persist;
use crate::control::report;
use crate::control::writer::{Write, written};
use crate::routing::ids::{VersionId, Weight};
use crate::routing::pin::{Migrated, PinKey, Second, SharedPins, second};

/// Behind the service's lock.
#[derive(Default)]
pub(super) struct Migrations {
    /// Of each agent, the oldest first.
    pub known: BTreeMap<AgentKey, VecDeque<Migration>>,
}

/// A command on a migration, carried out, or as it would be.
#[derive(Clone, Debug)]
pub struct MigrationDone {
    pub migration: Migration,
    /// For people: one line per thing that follows.
    pub changes: Vec<String>,
}

impl MigrationDone {
    fn beginning(migration: Migration) -> Self {
        Self { changes: migration.beginning(), migration }
    }
}

impl Control {
    /// Begins a migration, or says what it would come to.
    pub async fn migrate(
        &self,
        key: &AgentKey,
        request: MigrationRequest,
        order: Order,
    ) -> Result<MigrationDone, CommandError> {
        let (control, key) = (self.clone(), key.clone());
        if order.dry_run {
            return self.planned(&key, request, &order, Moment::now()).map(MigrationDone::beginning);
        }
        to_the_end(async move { control.begin_migration(&key, request, &order).await }).await
    }

    async fn begin_migration(
        &self,
        key: &AgentKey,
        request: MigrationRequest,
        order: &Order,
    ) -> Result<MigrationDone, CommandError> {
        let _turn = self.0.turn.clone().lock_owned().await;
        let now = Moment::now();
        let migration = self.planned(key, request, order, now)?;
        let write = Write {
            documents: vec![persist::migration(key, &migration)],
            records: vec![persist::record_migration(key, "migrate", order, None, &migration, now)],
            ..Write::default()
        };
        written(self.0.book.writer.ask(write)).await.map_err(|why| CommandError::Unwritten(why.to_string()))?;
        let event = {
            let mut inner = self.0.lock();
            let known = inner.migrations.known.entry(key.clone()).or_default();
            known.push_back(migration.clone());
            inner.tell_of(self, key, EventKind::MigrationStarted, &migration, now)
        };
        report::log_event(&event);
        self.0.keep.notify_one();
        Ok(MigrationDone::beginning(migration))
    }

    fn planned(
        &self,
        key: &AgentKey,
        request: MigrationRequest,
        order: &Order,
        now: Moment,
    ) -> Result<Migration, CommandError> {
        let inner = self.0.lock();
        let agent = &inner.agents.get(key).ok_or_else(|| CommandError::UnknownAgent(key.clone()))?.rollout;
        let known = inner.migrations.known.get(key).into_iter().flatten();
        request.check(agent, known.filter(|migration| migration.is_running()))?;
        drop(inner);
        Ok(self.migration(key, request, order, now))
    }

    /// A migration that is about to begin.
    pub(super) fn migration(&self, key: &AgentKey, request: MigrationRequest, order: &Order, now: Moment) -> Migration {
        let MigrationRequest { from, to, mode } = request;
        let source = self.place(key, &from);
        let (mode, total, busy) = match mode {
            RequestedMode::Immediate => (Mode::Immediate, source.conversations(), source.in_flight()),
            RequestedMode::Gradual(pace) => (Mode::Gradual(pace), source.conversations(), source.in_flight()),
            RequestedMode::Manual(ids) => {
                let mut keys: Vec<_> = ids.iter().filter_map(|id| source.agent.key(id.as_bytes())).collect();
                keys.sort_unstable();
                keys.dedup();
                let found: Vec<_> = keys.iter().filter_map(|key| self.0.pins.look(*key)).collect();
                let here = || found.iter().filter(|(pin, _)| Arc::ptr_eq(&pin.place, &source));
                let busy = here().filter(|(_, in_flight)| *in_flight > 0).count();
                let listed = keys.into_iter().map(|key| format!("{:032x}", key.to_u128())).collect();
                (Mode::Manual { listed }, here().count() as u64, busy as u64)
            }
        };
        Migration {
            id: MigrationId::make(key, &from, &to, now),
            from,
            to,
            mode,
            by: order.by.clone(),
            reason: order.reason.clone(),
            started: now,
            total,
            progress: Progress { moved: 0, remaining: total, busy: busy.min(total) },
            state: State::Running,
        }
    }

    /// Stops a migration. Whoever has moved stays moved.
    pub async fn cancel_migration(
        &self,
        key: &AgentKey,
        id: &str,
        order: Order,
    ) -> Result<MigrationDone, CommandError> {
        let (control, key, id) = (self.clone(), key.clone(), id.to_owned());
        to_the_end(async move { control.end_migration(&key, &id, &order, Moment::now()).await }).await
    }

    async fn end_migration(
        &self,
        key: &AgentKey,
        id: &str,
        order: &Order,
        now: Moment,
    ) -> Result<MigrationDone, CommandError> {
        let (done, event, receipt) = {
            let mut inner = self.0.lock();
            let migration = inner.migration(key, id)?;
            if !migration.is_running() {
                let state = migration.state.as_str();
                return Err(Refusal::MigrationOver { id: id.to_owned(), state }.into());
            }
            let before = migration.clone();
            let mut after = before.clone();
            after.cancel(order.by.clone(), order.reason.clone(), now);
            let done = MigrationDone { changes: after.cancelling(), migration: after.clone() };
            if order.dry_run {
                return Ok(done);
            }
            *migration = after.clone();
            let record = persist::record_migration(key, "cancel migration", order, Some(&before), &after, now);
            let mut write =
                Write { documents: vec![persist::migration(key, &after)], records: vec![record], ..Write::default() };
            inner.migrations.forget_old(key, &mut write);
            let event = inner.tell_of(self, key, EventKind::MigrationCancelled, &after, now);
            (done, event, self.0.book.writer.insist(write))
        };
        report::log_event(&event);
        confirmed(receipt).await.map(|()| done)
    }

    /// The migrations of an agent that are remembered, the newest first.
    pub fn migrations(&self, key: &AgentKey) -> Vec<Migration> {
        self.0.lock().migrations.known.get(key).into_iter().flatten().rev().cloned().collect()
    }
}

impl Migrations {
    /// After a start: how far those that run have come is told by where their conversations are now, which after a
    /// kill may be a little less far than it was.
    pub fn resume(&mut self, pins: &SharedPins) {
        for (key, known) in &mut self.known {
            for migration in known.iter_mut().filter(|migration| migration.is_running()) {
                let left = migrate(pins, key, migration, 0);
                let remaining = (left.busy + left.left) as u64;
                migration.progress = Progress { moved: migration.total.saturating_sub(remaining), remaining, busy: 0 };
            }
        }
    }

    /// The oldest that have ended go, with their documents.
    pub fn forget_old(&mut self, key: &AgentKey, write: &mut Write) {
        let Some(known) = self.known.get_mut(key) else { return };
        let mut ended = known.iter().filter(|migration| !migration.is_running()).count();
        known.retain(|migration| {
            let goes = !migration.is_running() && ended > MIGRATIONS_REMEMBERED;
            if goes {
                ended -= 1;
                write.documents.push(persist::forgotten_migration(key, &migration.id));
            }
            !goes
        });
    }
}

impl Inner {
    fn migration(&mut self, key: &AgentKey, id: &str) -> Result<&mut Migration, CommandError> {
        let known = self.migrations.known.get_mut(key).into_iter().flatten();
        let found = known.into_iter().find(|migration| migration.id.as_str() == id);
        found.ok_or_else(|| CommandError::UnknownMigration { key: key.clone(), id: id.to_owned() })
    }

    pub(super) fn tell_of(
        &mut self,
        control: &Control,
        key: &AgentKey,
        kind: EventKind,
        migration: &Migration,
        now: Moment,
    ) -> Event {
        let (by, why) = match &migration.state {
            State::Running => (migration.by.clone(), migration.reason.clone()),
            State::Completed { .. } => (Actor::pointsman(), None),
            State::Cancelled { by, why, .. } => (by.clone(), why.clone()),
        };
        let event = Event {
            by,
            why,
            migration: Some(migration.id.clone()),
            ..self.event(control, key, kind, &migration.to, now)
        };
        self.feed.push(event.clone());
        event
    }

    /// An event that is no deployment's.
    pub(super) fn event(
        &self,
        control: &Control,
        key: &AgentKey,
        kind: EventKind,
        version: &VersionId,
        now: Moment,
    ) -> Event {
        let table = control.0.table.load();
        let agent = table.agent(key.environment.as_str(), key.agent.as_str());
        let weight = agent.and_then(|agent| {
            let index = agent.versions.iter().position(|known| known.id == *version)?;
            Some(agent.split.weight(index))
        });
        Event {
            id: 0,
            at: now,
            key: key.clone(),
            kind,
            deployment: None,
            migration: None,
            version: version.clone(),
            weight: weight.unwrap_or(Weight::ZERO),
            by: Actor::pointsman(),
            why: None,
            revision: self.agents.get(key).map_or(0, |entry| entry.rollout.state.revision),
            epoch: table.epoch,
        }
    }
}

/// Moves at most `limit` of a migration's conversations.
pub(super) fn migrate(pins: &SharedPins, key: &AgentKey, migration: &Migration, limit: u64) -> Migrated {
    let Migration { from, to, mode, started, .. } = migration;
    let place = |version| pins.place(&key.environment, &key.agent, version);
    let listed: Option<HashSet<_>> = match mode {
        Mode::Manual { listed } => Some(listed.iter().filter_map(|key| u128::from_str_radix(key, 16).ok()).collect()),
        Mode::Immediate | Mode::Gradual(_) => None,
    };
    let began = second(started.wall);
    let is_in_it = |key: PinKey, created: Second| {
        created <= began && listed.as_ref().is_none_or(|listed| listed.contains(&key.to_u128()))
    };
    pins.migrate(&place(from), &place(to), is_in_it, usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Carries a command out, whether or not whoever gave it waits for that.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, CommandError>> + Send + 'static,
) -> Result<T, CommandError> {
    match tokio::time::timeout(PATIENCE, tokio::spawn(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(panicked)) => Err(CommandError::Unwritten(panicked.to_string())),
        Err(_) => {
            let why = format!("the disk has not answered for {} s; look again, it may still", PATIENCE.as_secs());
            Err(CommandError::Unwritten(why))
        }
    }
}
