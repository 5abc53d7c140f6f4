//! How a change takes effect: at once, or once it is written.
//!
//! - What takes a version's traffic away, or freezes it ([`Change::is_urgent`]), is published first and written then,
//!   however often that takes. It waits for nobody, and for no disk.
//! - Everything else is written first, one change at a time, and published then. What could not be written never
//!   happened. While an urgent change is not written, the writer refuses all others: nothing opens what it closed.
//! - An urgent change, or a file, may overtake one that is being written. That one then never takes effect, and what
//!   was stored of it is put right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::Control;
use super::entry::Entry;
use super::state::{Inner, Numbered, Told};
use crate::control::change::Change;
use crate::control::command::{Command, CommandError, Conflict, Done, Order};
use crate::control::model::{AgentKey, DeploymentId, Moment};
use crate::control::persist;
use crate::control::request::FieldError;
use crate::control::store::StoreError;
use crate::control::writer::{Receipt, Write, ready, written};
use crate::routing::compile::{Rejection, compile};
use crate::routing::ids::EnvironmentId;
use crate::telemetry::stats::StatsRegistry;

/// How long a command's answer waits for the disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Held by the one change that is being written before it takes effect.
pub(super) type Turn = OwnedMutexGuard<()>;

/// What an order comes to in the state that things are in.
trait Make: Fn(&Inner, Moment) -> Result<Vec<Change>, CommandError> + Send + Sync {}
impl<F: Fn(&Inner, Moment) -> Result<Vec<Change>, CommandError> + Send + Sync> Make for F {}

/// How far an order came without waiting.
enum Begun {
    /// Another change is being written.
    Waits,
    /// Nothing is to be done.
    Answered(Vec<Done>),
    InEffect(Vec<Done>, Receipt),
    Asked(Asked),
}

/// A change that takes effect once it is written.
pub(super) struct Asked {
    pub changes: Numbered,
    pub receipt: Receipt,
    pub turn: Turn,
}

impl Control {
    /// Carries out a command on the deployment of that id, or on the agent's current one.
    pub async fn order(
        &self,
        key: &AgentKey,
        deployment: Option<&DeploymentId>,
        command: Command,
        order: Order,
    ) -> Result<Done, CommandError> {
        let make = one(key.clone(), deployment.cloned(), command, order.clone());
        let mut done = self.carried_out(make, order).await?;
        done.pop().ok_or_else(|| CommandError::UnknownAgent(key.clone()))
    }

    /// Rolls back every deployment of an environment that is under way, in one table and one transaction. What has
    /// completed stays: that is for [`Command::Rollback`], agent by agent. Empty where nothing was under way.
    pub async fn emergency_rollback(
        &self,
        environment: &EnvironmentId,
        order: Order,
    ) -> Result<Vec<Done>, CommandError> {
        self.carried_out(all_of(environment.clone(), order.clone()), order).await
    }

    /// To the end, whether or not whoever ordered it waits for that.
    async fn carried_out(&self, make: impl Make + 'static, order: Order) -> Result<Vec<Done>, CommandError> {
        let control = self.clone();
        let carried = tokio::spawn(async move { control.carry_out(&make, &order, &Moment::now).await });
        match tokio::time::timeout(PATIENCE, carried).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(CommandError::Unwritten(panicked.to_string())),
            Err(_) => {
                let why = format!("the disk has not answered for {} s; look again, it may still", PATIENCE.as_secs());
                Err(CommandError::Unwritten(why))
            }
        }
    }

    async fn carry_out(
        &self,
        make: &impl Make,
        order: &Order,
        clock: &(impl Fn() -> Moment + Sync),
    ) -> Result<Vec<Done>, CommandError> {
        let mut turn = self.0.turn.clone().try_lock_owned().ok();
        loop {
            match self.begin(make, order, clock(), turn.take())? {
                Begun::Waits => turn = Some(self.0.turn.clone().lock_owned().await),
                Begun::Answered(done) => return Ok(done),
                Begun::InEffect(done, receipt) => return confirmed(receipt).await.map(|()| done),
                Begun::Asked(Asked { changes, receipt, turn: _turn }) => {
                    written(receipt).await.map_err(|why| CommandError::Unwritten(why.to_string()))?;
                    return self.put_into_effect(changes, clock());
                }
            }
        }
    }

    fn begin(&self, make: &impl Make, order: &Order, now: Moment, turn: Option<Turn>) -> Result<Begun, CommandError> {
        let mut inner = self.0.lock();
        let changes = make(&inner, now)?;
        self.check(&inner, &changes)?;
        if order.dry_run || changes.is_empty() {
            return Ok(Begun::Answered(inner.would_be(&changes, now)));
        }
        if changes.iter().any(Change::is_urgent) {
            let (told, receipt) = self.at_once(&mut inner, changes, now);
            let done = inner.done(told.changes(), now);
            drop(inner);
            self.tell(&told)?;
            return Ok(Begun::InEffect(done, receipt));
        }
        Ok(turn.map_or(Begun::Waits, |turn| Begun::Asked(self.ask(&mut inner, changes, turn, now))))
    }

    /// Published first, written second.
    pub(super) fn at_once(&self, inner: &mut Inner, changes: Vec<Change>, now: Moment) -> (Told, Receipt) {
        let changes = inner.number(changes, now);
        let write = self.0.book.runs.write(&changes, now);
        let told = self.0.install(inner, changes, now);
        (told, self.0.book.writer.insist(write))
    }

    pub(super) fn ask(&self, inner: &mut Inner, changes: Vec<Change>, turn: Turn, now: Moment) -> Asked {
        let changes = inner.number(changes, now);
        let receipt = self.0.book.writer.ask(self.0.book.runs.write(&changes, now));
        Asked { changes, receipt, turn }
    }

    /// Publishes what is written, unless it was overtaken.
    pub(super) fn put_into_effect(&self, changes: Numbered, now: Moment) -> Result<Vec<Done>, CommandError> {
        let mut inner = self.0.lock();
        if let Some(overtaken) = changes.iter().find_map(|change| inner.overtaken(change)) {
            // Nobody waits for it: until it is written, nothing else is.
            drop(self.0.book.writer.insist(inner.put_right(&self.0.book.runs, &changes, now)));
            return Err(overtaken);
        }
        let told = self.0.install(&mut inner, changes, now);
        let done = inner.done(told.changes(), now);
        drop(inner);
        self.tell(&told).map(|()| done)
    }

    fn tell(&self, told: &Told) -> Result<(), CommandError> {
        self.0.changed.notify_one();
        told.log();
        told.published.clone().map_err(CommandError::Unpublished)
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
}

/// A command on one agent.
fn one(key: AgentKey, deployment: Option<DeploymentId>, command: Command, order: Order) -> impl Make {
    move |inner: &Inner, now| {
        let entry = inner.agents.get(&key).ok_or_else(|| CommandError::UnknownAgent(key.clone()))?;
        Ok(vec![entry.order(deployment.as_ref(), &command, &order, now)?])
    }
}

fn all_of(environment: EnvironmentId, order: Order) -> impl Make {
    move |inner: &Inner, now| {
        let here = || inner.agents.iter().filter(|(key, _)| key.environment == environment);
        if here().next().is_none() {
            return Err(CommandError::UnknownEnvironment(environment.clone()));
        }
        let roll_back =
            |(_, entry): (&AgentKey, &Entry)| entry.order(None, &Command::Rollback { to: None }, &order, now);
        here().filter(|(_, entry)| entry.is_live()).map(roll_back).collect()
    }
}

/// Whether what is in effect is written too, as far as one may wait for that.
pub(super) async fn confirmed(mut receipt: Receipt) -> Result<(), CommandError> {
    let result = match ready(&mut receipt) {
        Some(result) => result,
        None => match tokio::time::timeout(PATIENCE / 2, written(receipt)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Failed("the log says what the disk does".into())),
        },
    };
    result.map(drop).map_err(|why| CommandError::InEffect(why.to_string()))
}

impl Inner {
    /// The revision is that of the agent as it is: what the command itself may expect.
    fn would_be(&self, changes: &[Change], now: Moment) -> Vec<Done> {
        let would = |change: &Change| {
            let (key, revision) = (change.key(), change.after.state.revision);
            let view = self.agents.get(&key).and_then(|entry| entry.view_of(&change.after, &key, now));
            Done { key, view, changes: change.differences(), revision, epoch: self.epoch }
        };
        changes.iter().map(would).collect()
    }

    fn done<'a>(&self, changes: impl Iterator<Item = &'a Change>, now: Moment) -> Vec<Done> {
        let done = |change: &Change| {
            let (key, revision) = (change.key(), change.after.state.revision);
            let view = self.agents.get(&key).and_then(|entry| entry.view(&key, now));
            Done { key, view, changes: change.differences(), revision, epoch: self.epoch }
        };
        changes.map(done).collect()
    }

    /// Why a change no longer fits what it was made for, where it does not.
    fn overtaken(&self, change: &Change) -> Option<CommandError> {
        let (key, before) = (change.key(), change.before.as_ref()?);
        let Some(Entry { rollout, .. }) = self.agents.get(&key) else { return Some(CommandError::UnknownAgent(key)) };
        let (expected, current) = (before.state.revision, rollout.state.revision);
        if expected == current && Arc::ptr_eq(&before.spec, &rollout.spec) {
            return None;
        }
        let changed = rollout.state.changed.iter().filter(|c| c.revision > expected).cloned().collect();
        Some(Conflict { expected, current, changed }.into())
    }

    /// Writes over what was stored of changes that never take effect.
    fn put_right(&self, runs: &super::durable::Runs, changes: &[Change], now: Moment) -> Write {
        let mut write = Write::default();
        let by_key: BTreeMap<_, _> = changes.iter().map(|change| (change.key(), change)).collect();
        for (key, change) in by_key {
            let Some(entry) = self.agents.get(&key) else {
                write.documents.push(persist::forgotten(&key));
                continue;
            };
            write.documents.push(runs.document(&entry.rollout));
            write.records.push(persist::record_overtaken(change, &entry.rollout.state, now));
        }
        write
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
impl Control {
    /// Where nothing has to be waited for: the store is written in place, and it is nobody else's turn.
    pub(super) fn order_at(
        &self,
        key: &AgentKey,
        deployment: Option<&DeploymentId>,
        command: &Command,
        order: &Order,
        now: Moment,
    ) -> Result<Done, CommandError> {
        let make = one(key.clone(), deployment.cloned(), command.clone(), order.clone());
        Ok(self.at_one_poll(&make, order, now)?.pop().expect("one command, one answer"))
    }

    pub(super) fn emergency_at(
        &self,
        environment: &EnvironmentId,
        order: &Order,
        now: Moment,
    ) -> Result<Vec<Done>, CommandError> {
        self.at_one_poll(&all_of(environment.clone(), order.clone()), order, now)
    }

    fn at_one_poll(&self, make: &impl Make, order: &Order, now: Moment) -> Result<Vec<Done>, CommandError> {
        let clock = || now;
        let mut carried = std::pin::pin!(self.carry_out(make, order, &clock));
        match carried.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => panic!("nothing is to be waited for"),
        }
    }
}
