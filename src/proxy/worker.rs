//! One data-plane thread: its own single-threaded runtime, connections, pools and randomness.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use tokio::sync::{Notify, mpsc, watch};

pub use super::connection::Floods;
use super::connection::{self, Client, Date, Speaks};
use super::listen::{Addresses, Counted};
use super::pool::Pools;
use super::share::{Turn, Turns};
use super::shed::{Load, SheddingOptions};
use super::upstream::Scratch;
use crate::random;
use crate::routing::ids::EnvironmentId;
use crate::routing::networks::Networks;
use crate::routing::path::PathPolicy;
use crate::routing::pin::SharedPins;
use crate::routing::rate::SharedRates;
use crate::routing::standing::Keys;
use crate::routing::table::{RoutingTable, SharedTable};
use crate::telemetry::access::AccessLog;
use crate::telemetry::counters::{ErrorCode, ProxyCounters, add};
use crate::telemetry::stats::VersionLabels;
use crate::tls::client::Clients;

/// What may change while the proxy runs; swapped whole, like the table.
#[derive(Clone)]
pub struct ProxyOptions {
    pub version_header: bool,
    pub head_bytes: usize,
    pub head_fields: usize,
    pub head_timeout: Duration,
    /// Of TLS, from accept.
    pub handshake_timeout: Duration,
    pub keep_alive_timeout: Duration,
    /// All client connections together; more wait in the kernel's accept queue.
    pub max_connections: usize,
    /// Of these, from one address; more are closed at once.
    pub connections_per_address: Option<usize>,
    /// Then a connection is closed in order.
    pub requests_per_connection: usize,
    /// As a socket begins to be accepted on.
    pub accept_backlog: i32,
    /// HTTP/2 streams at a time on one connection.
    pub streams_per_connection: u32,
    /// HTTP/2 streams refused or broken in a connection's life.
    pub stream_errors: usize,
    /// Of frames that cost more than they carry.
    pub http2_floods: Floods,
    /// Whose word on the client is taken.
    pub trusted_proxies: Arc<Networks>,
    pub paths: PathPolicy,
    pub shedding: SheddingOptions,
    pub access_log: Option<AccessLog>,
    /// What tokens and overrides are signed with.
    pub keys: Arc<Keys>,
}

/// What all threads of the data plane share.
pub struct Shared {
    pub table: SharedTable,
    pub options: Arc<ArcSwap<ProxyOptions>>,
    /// By worker; the acceptor uses the first.
    pub counters: Arc<[ProxyCounters]>,
    pub pins: SharedPins,
    pub rates: SharedRates,
    /// What TLS with endpoints takes.
    pub clients: Arc<Clients>,
    /// Client connections of all workers.
    pub(super) open: AtomicUsize,
    addresses: Addresses,
    /// A connection ended: the acceptor may have waited for room.
    pub(super) room: Notify,
    /// Clients are to go elsewhere.
    leaving: AtomicBool,
    /// Exchanges that the deadline of a stop has cut.
    cut: AtomicUsize,
}

impl Shared {
    pub fn new(
        table: SharedTable,
        options: ProxyOptions,
        counters: Arc<[ProxyCounters]>,
        pins: SharedPins,
        rates: SharedRates,
        clients: Arc<Clients>,
    ) -> Arc<Self> {
        let options = Arc::new(ArcSwap::from_pointee(options));
        let (open, cut, leaving) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let (addresses, room) = (Addresses::default(), Notify::new());
        Arc::new(Self { table, options, counters, pins, rates, clients, open, addresses, room, leaving, cut })
    }

    /// Takes new options; a higher connection limit lets waiting clients in.
    pub fn set_options(&self, options: ProxyOptions) {
        self.options.store(Arc::new(options));
        self.room.notify_waiters();
    }

    /// From now on answers say `Connection: close`, so that clients come back to whoever listens then.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self) -> bool {
        self.open_connections() < self.options.load().max_connections
    }

    /// Exchanges that the deadline of a stop has cut.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::Relaxed)
    }

    /// Client connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// The table and options of one request: taken once, kept to its end.
pub(super) struct Snapshot {
    pub table: Arc<RoutingTable>,
    pub options: Arc<ProxyOptions>,
}

/// A thread's own state.
pub(super) struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub pools: Pools,
    pub scratch: Scratch,
    pub date: Date,
    pub load: Load,
    pub turns: Turns,
    caches: RefCell<Caches>,
    random: Cell<u64>,
    connections: RefCell<HashMap<u64, Rc<Client>>>,
    last_connection: Cell<u64>,
    /// The deadline of a stop has passed: what ends now is cut.
    cutting: Cell<bool>,
}

struct Caches {
    table: Cache<SharedTable, Arc<RoutingTable>>,
    options: Cache<Arc<ArcSwap<ProxyOptions>>, Arc<ProxyOptions>>,
    current: Rc<Snapshot>,
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        let current = Rc::new(Snapshot { table: shared.table.load_full(), options: shared.options.load_full() });
        let caches =
            Caches { table: Cache::new(shared.table.clone()), options: Cache::new(shared.options.clone()), current };
        Rc::new(Self {
            index,
            shared,
            pools: Pools::default(),
            scratch: Scratch::default(),
            date: Date::default(),
            load: Load::default(),
            turns: Turns::default(),
            caches: RefCell::new(caches),
            random: Cell::new(seed()),
            connections: RefCell::default(),
            last_connection: Cell::new(0),
            cutting: Cell::new(false),
        })
    }

    /// The newest table. Two loads and two compares; the count is this thread's own.
    pub fn snapshot(&self) -> Rc<Snapshot> {
        let mut caches = self.caches.borrow_mut();
        let Caches { table, options, current } = &mut *caches;
        let (table, options) = (table.load(), options.load());
        if !Arc::ptr_eq(table, &current.table) || !Arc::ptr_eq(options, &current.options) {
            *current = Rc::new(Snapshot { table: table.clone(), options: options.clone() });
        }
        current.clone()
    }

    pub fn counters(&self) -> &ProxyCounters {
        &self.shared.counters[self.index]
    }

    /// Not for secrets.
    pub fn random(&self) -> u64 {
        let (state, number) = random::step(self.random.get());
        self.random.set(state);
        number
    }

    fn serve(self: &Rc<Self>, accepted: Accepted, place: Place) {
        let stream = match tokio::net::TcpStream::from_std(accepted.stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "could not take over an accepted connection"),
        };
        let client = Client::new(self.clone(), accepted.environment, accepted.peer, accepted.speaks.tls.is_some());
        let number = self.last_connection.get() + 1;
        self.last_connection.set(number);
        self.connections.borrow_mut().insert(number, client.clone());
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            let _place = place;
            let _listed = Listed { worker: &worker, number };
            let (mut turn, mut connection) =
                (Turn::new(&worker.turns), pin!(connection::run(stream, client, accepted.speaks)));
            poll_fn(|cx| turn.poll(&worker.turns, cx, |cx| connection.as_mut().poll(cx))).await;
        });
    }

    /// An exchange ends. If that is because the time of a stop is over, it is named.
    pub fn note_end(&self, labels: &VersionLabels, age: Duration) {
        if self.cutting.get() && self.shared.cut.fetch_add(1, Ordering::Relaxed) < CUTS_LOGGED {
            let VersionLabels { environment, agent, version } = labels;
            tracing::warn!(%environment, %agent, %version, ?age, "an exchange was cut at the end of the drain time-out");
        }
    }

    /// Tells every connection to finish what is in flight, and waits until all have, or the deadline, which may
    /// still be moved.
    async fn drain(&self, stop: &StopSignal) {
        for client in self.connections.borrow().values() {
            client.stop();
        }
        let is_over = || stop.borrow().is_none_or(|deadline| deadline <= Instant::now());
        while !self.connections.borrow().is_empty() && !is_over() {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        self.cutting.set(true);
    }
}

/// More exchanges that a stop cuts are counted only.
const CUTS_LOGGED: usize = 20;

const DRAIN_POLL: Duration = Duration::from_millis(10);

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::thread::current().id())
}

/// Takes a connection off the worker's list when its task ends, also by panic.
struct Listed<'a> {
    worker: &'a Worker,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(&self.number);
        if std::thread::panicking() {
            self.worker.counters().error(ErrorCode::Internal);
        }
    }
}

/// A connection on its way from the acceptor to a worker.
pub(super) struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    pub environment: EnvironmentId,
    pub speaks: Speaks,
}

/// One place among the allowed connections; given back when dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    load: Arc<AtomicUsize>,
    /// `None` where nobody counts those of the address.
    counted: Option<Counted>,
}

impl Place {
    /// `None`: the client's address has all that it may have.
    pub fn take(shared: &Arc<Shared>, load: &Arc<AtomicUsize>, client: IpAddr) -> Option<Self> {
        let options = shared.options.load();
        let most = options.connections_per_address.filter(|_| !options.trusted_proxies.contain(client));
        let counted = match most {
            Some(most) => Some(shared.addresses.take(client, most)?),
            None => None,
        };
        shared.open.fetch_add(1, Ordering::Relaxed);
        load.fetch_add(1, Ordering::Relaxed);
        Some(Self { shared: shared.clone(), load: load.clone(), counted })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counted) = self.counted.take() {
            self.shared.addresses.release(counted);
        }
        add(&self.shared.counters[0].client_closed);
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.shared.room.notify_waiters();
    }
}

/// The acceptor's end of a worker.
#[derive(Clone)]
pub(super) struct Inbox {
    pub sender: mpsc::Sender<(Accepted, Place)>,
    /// Connections handed to this worker and not yet ended.
    pub load: Arc<AtomicUsize>,
}

/// Accepted connections that a worker has not yet picked up; the acceptor waits when it is full.
const INBOX: usize = 256;
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// `Some(deadline)`: finish until then and return.
pub type StopSignal = watch::Receiver<Option<Instant>>;

/// Starts worker `index`.
pub(super) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    stop: StopSignal,
) -> std::io::Result<(Inbox, std::thread::JoinHandle<()>)> {
    let (sender, inbox) = mpsc::channel(INBOX);
    let thread =
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || run(index, shared, inbox, stop))?;
    Ok((Inbox { sender, load: Arc::default() }, thread))
}

fn run(index: usize, shared: Arc<Shared>, inbox: mpsc::Receiver<(Accepted, Place)>, stop: StopSignal) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(RESOLVER_THREADS)
        .build_local(Default::default());
    match runtime {
        Ok(runtime) => {
            runtime.block_on(work(Worker::new(index, shared), inbox, stop));
            // Without waiting for a name look-up that hangs.
            runtime.shutdown_background();
        }
        Err(error) => tracing::error!(%error, index, "a worker could not start"),
    }
}

/// Threads for name look-ups, which block.
const RESOLVER_THREADS: usize = 4;

async fn watch_load(worker: Rc<Worker>) {
    let options = || worker.snapshot().options.shedding;
    worker.load.watch(worker.index, options, &worker.counters().shedding).await;
}

async fn call_turns(worker: Rc<Worker>) {
    worker.turns.call().await;
}

async fn work(worker: Rc<Worker>, mut inbox: mpsc::Receiver<(Accepted, Place)>, mut stop: StopSignal) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut accepting = true;
    tokio::task::spawn_local(watch_load(worker.clone()));
    tokio::task::spawn_local(call_turns(worker.clone()));
    loop {
        tokio::select! {
            accepted = inbox.recv(), if accepting => match accepted {
                Some((accepted, place)) => worker.serve(accepted, place),
                None => accepting = false,
            },
            _ = sweep.tick() => {
                // Also lets go of an old table when no request comes.
                worker.snapshot();
                let now = Instant::now();
                worker.pools.sweep(now);
                if worker.index == 0 {
                    worker.shared.rates.sweep(worker.shared.rates.nanos(now));
                }
            }
            _ = stop.changed() => break,
        }
    }
    inbox.close();
    while let Ok((accepted, place)) = inbox.try_recv() {
        worker.serve(accepted, place);
    }
    worker.drain(&stop).await;
}
