//! Taking the state up: what earlier processes left, and what the file makes of it now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use super::durable::{Book, Left, Runs};
use super::migrations::Migrations;
use super::state::{self, Inner, Numbered, Shared};
use super::{Control, adopt};
use crate::control::agent::AgentRollout;
use crate::control::checkpoint::{self, TakenUp as Found};
use crate::control::feed::Feed;
use crate::control::model::{Actor, AgentIntent, AgentKey, Intent, Moment};
use crate::control::persist::{self, Kept};
use crate::control::prometheus::PrometheusServer;
use crate::control::reconcile::Reconciler;
use crate::control::store::memory::Memory;
use crate::control::store::{Store, StoreError};
use crate::control::writer::{Writer, WriterThread, ready};
use crate::routing::compile::{Rejection, compile_first};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId};
use crate::routing::pin::{PinSecret, Pins, SharedPins};
use crate::routing::table::{RoutingTable, SharedTable};
use crate::telemetry::checkpoints::CheckpointFigures;
use crate::telemetry::commits::CommitFigures;
use crate::telemetry::stats::StatsRegistry;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rejected(Vec<Rejection>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is in use already, and is to be gone on from.
pub struct Live {
    pub table: SharedTable,
    pub pins: SharedPins,
}

impl Control {
    /// Compiles and publishes the first table; keeps nothing beyond the process.
    pub fn start(intent: Intent, registry: Arc<StatsRegistry>) -> Result<(Self, Reconciler), Vec<Rejection>> {
        Self::start_at(None, intent, registry, Moment::now())
    }

    /// The same, in the place of what is in use, if there is any.
    pub fn start_on(
        live: Option<Live>,
        intent: Intent,
        registry: Arc<StatsRegistry>,
    ) -> Result<(Self, Reconciler), Vec<Rejection>> {
        Self::start_at(live, intent, registry, Moment::now())
    }

    pub(in crate::control) fn start_at(
        live: Option<Live>,
        intent: Intent,
        registry: Arc<StatsRegistry>,
        now: Moment,
    ) -> Result<(Self, Reconciler), Vec<Rejection>> {
        let (store, figures) = (Arc::new(Memory::default()), CommitFigures::default());
        let started = Writer::in_place(store.clone(), figures).map_err(StartError::from).and_then(|writer| {
            let taken = TakenUp::new(live, store, &writer, intent, &registry, now)?;
            Ok(taken.run(writer, registry, None, now))
        });
        started.map_err(|error| match error {
            StartError::Rejected(rejections) => rejections,
            StartError::Store(error) => unreachable!("an empty store in memory takes what it is given: {error}"),
        })
    }

    /// Goes on from what the store holds. When this returns, what the file made of it is written and published.
    pub fn open(
        intent: Intent,
        registry: Arc<StatsRegistry>,
        store: Arc<dyn Store>,
        figures: CommitFigures,
    ) -> Result<(Self, Reconciler, WriterThread), StartError> {
        Self::open_on(None, intent, registry, store, figures)
    }

    /// The same, in the place of what is in use, if there is any.
    pub fn open_on(
        live: Option<Live>,
        intent: Intent,
        registry: Arc<StatsRegistry>,
        store: Arc<dyn Store>,
        figures: CommitFigures,
    ) -> Result<(Self, Reconciler, WriterThread), StartError> {
        let now = Moment::now();
        let first = Writer::in_place(store.clone(), figures.clone())?;
        let taken = TakenUp::new(live, store.clone(), &first, intent, &registry, now)?;
        let (writer, thread) = Writer::start(store, figures)?;
        let (control, reconciler) = taken.run(writer, registry, Some(CheckpointFigures::default()), now);
        Ok((control, reconciler, thread))
    }
}

/// Written, and not yet running.
struct TakenUp {
    inner: Inner,
    /// Where `table` is to be published, if anybody routes by what is there.
    live: Option<SharedTable>,
    table: RoutingTable,
    rollouts: BTreeMap<AgentKey, AgentRollout>,
    changes: Numbered,
    store: Arc<dyn Store>,
    runs: Runs,
    server: Option<Arc<PrometheusServer>>,
    pins: SharedPins,
    found: Found,
}

impl TakenUp {
    fn new(
        live: Option<Live>,
        store: Arc<dyn Store>,
        writer: &Writer,
        intent: Intent,
        registry: &StatsRegistry,
        now: Moment,
    ) -> Result<Self, StartError> {
        let mut kept = persist::load(&*store)?;
        let (runs, by) = (Runs::after(&kept), Actor::file(&intent.config_hash));
        let previous = |intent: &AgentIntent| {
            let state = kept.agents.get(&AgentKey::of(&intent.spec))?.clone();
            Some(AgentRollout::restored(intent, state))
        };
        let (changes, mut rollouts) = adopt(previous, &intent, now);
        let desired = state::desired(&intent.config_hash, rollouts.values());
        let epoch = live.as_ref().map_or(1, |live| live.table.load().epoch + 1);
        let table = compile_first(&desired, &kept.layouts, registry, epoch).map_err(StartError::Rejected)?;
        let mut inner = Inner {
            config_hash: intent.config_hash,
            epoch: table.epoch,
            revision: kept.agents.values().map(|state| state.revision).max().unwrap_or(0),
            agents: BTreeMap::new(),
            live: Vec::new(),
            has_new_checks: false,
            unpublished: false,
            retry: None,
            migrations: Migrations { known: std::mem::take(&mut kept.migrations) },
            feed: Feed::default(),
        };
        let (secret, new_secret) = checkpoint::secret(&*store)?;
        let (live, (pins, found)) = match live {
            Some(Live { table, pins }) => {
                pins.mark_all_changed();
                (Some(table), (pins, Found::default()))
            }
            None => (None, taken_up_pins(&*store, secret, &rollouts)),
        };
        inner.migrations.resume(&pins);
        let changes = inner.number(changes, now);
        state::note(&mut rollouts, &changes);

        let mut write = runs.write(&changes, now);
        write.documents.push(persist::instance(runs.starts()));
        write.aside.extend(new_secret);
        write.records.insert(0, persist::record_start(by.clone(), runs.starts(), now));
        let Kept { agents, layouts, .. } = std::mem::take(&mut kept);
        let gone = agents.into_iter().filter(|(key, _)| !rollouts.contains_key(key)).collect();
        Left { by: &by, gone, layouts: (layouts, persist::layouts(&table)) }.add_to(&mut write, now);
        if let Some(Err(error)) = ready(&mut writer.ask(write)) {
            return Err(error.into());
        }
        Ok(Self { inner, live, table, rollouts, changes, store, runs, server: intent.prometheus, pins, found })
    }

    fn run(
        self,
        writer: Writer,
        registry: Arc<StatsRegistry>,
        checkpoints: Option<CheckpointFigures>,
        now: Moment,
    ) -> (Control, Reconciler) {
        let Self { inner, live, table, rollouts, changes, store, runs, server, pins, found } = self;
        let table = match live {
            Some(live) => {
                live.store(Arc::new(table));
                live
            }
            None => Arc::new(ArcSwap::from_pointee(table)),
        };
        if let Some(checkpoints) = &checkpoints {
            checkpoints.started(found.pins, found.left_out, found.unreadable);
        }
        let shared = Shared {
            inner: Mutex::new(inner),
            table,
            registry,
            server: Arc::new(ArcSwapOption::new(server)),
            outside: Arc::default(),
            changed: Notify::new(),
            pins,
            keep: Notify::new(),
            drains: Mutex::default(),
            book: Book { store, writer, runs, checkpoints },
            turn: Arc::default(),
        };
        let control = Control(Arc::new(shared));
        let told = {
            let mut inner = control.0.lock();
            inner.settle(rollouts, &control.0.means(), now);
            inner.told(changes, now)
        };
        told.log();
        (control.clone(), Reconciler::new(control))
    }
}

/// The table of pins with what the store has of it. What it may hold at most is the configuration's to say, later.
fn taken_up_pins(
    store: &dyn Store,
    secret: PinSecret,
    rollouts: &BTreeMap<AgentKey, AgentRollout>,
) -> (SharedPins, Found) {
    let pins = Pins::new(secret, usize::MAX);
    let knows = |environment: &EnvironmentId, agent: &AgentId, version: &VersionId| {
        let rollout = rollouts.get(&AgentKey { environment: environment.clone(), agent: agent.clone() });
        let holds = |rollout: &AgentRollout| {
            rollout.spec.conversations.is_some() && rollout.spec.versions.contains_key(version)
        };
        rollout.is_some_and(holds)
    };
    let found = checkpoint::take_up(store, &pins, knows);
    (pins, found)
}
