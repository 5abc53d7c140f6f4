//! The only wiring: threads, sockets, reload, stop.
//!
//! Threads: `worker-N` and `acceptor` (data plane), `control` (reconciler, keeper of conversations, admin side, reload),
//! `store` (commits).
//! The data plane is stopped first and the control plane last, so that probes answer and figures can be
//! scraped while exchanges drain.

mod figures;
mod handover;
mod reload;
mod sockets;
mod stop;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::auth::Auth;
use crate::admin::tokens::{file::TokenFile, live::LiveTokens};
use crate::admin::{self, AdminState, Answers, DeploymentForm, Followers};
use crate::config::{self, AccessLogConfig, Config, Limits, LoadShedding, Secret};
use crate::control::keeper::Keeper;
use crate::control::reconcile::Reconciler;
use crate::control::service::{Control, Live, StartError};
use crate::control::store::redb::Redb;
use crate::control::writer::WriterThread;
use crate::descriptors;
use crate::proxy::listen::{self, DataPlane};
use crate::proxy::shed::SheddingOptions;
use crate::proxy::worker::{Floods, ProxyOptions, Shared};
use crate::ready::{Readiness, ReadyGuard};
use crate::routing::compile::Rejection;
use crate::routing::rate::{Rates, SharedRates};
use crate::routing::standing::Known;
use crate::routing::table::SharedTable;
use crate::telemetry::access::{AccessLog, AccessTarget};
use crate::telemetry::checkpoints::CheckpointFigures;
use crate::telemetry::commits::CommitFigures;
use crate::telemetry::counters::ProxyCounters;
use crate::telemetry::metrics::{Metrics, RateCollector};
use crate::telemetry::reload::ReloadStatus;
use crate::telemetry::stats::StatsRegistry;
use crate::tls::client::Clients;
use crate::tls::reload::{Cell, Cells};
use crate::tls::server::{HTTP1, Protocols, Server, ServerSpec};
use reload::{Listeners, Reloader};

pub use handover::{Handover, Released};
pub use sockets::{ADMIN, Sockets};

/// A running instance. Dropping it stops it at once; [`Running::stop`] drains first.
pub struct Running {
    /// In the order of `config.listeners`, with real ports.
    pub listeners: Vec<SocketAddr>,
    pub admin: SocketAddr,
    pub table: SharedTable,
    pub registry: Arc<StatsRegistry>,
    pub control: Control,
    pub reloads: Arc<ReloadStatus>,
    plane: Plane,
    control_plane: ControlPlane,
    ready: ReadyGuard,
}

struct ControlPlane {
    stop: watch::Sender<bool>,
    /// Ends with what the last reload has left.
    thread: JoinHandle<Option<Origin>>,
    writer: Option<WriterThread>,
}

impl ControlPlane {
    /// Ends it; all that it has done is written then, and nothing of it holds the store. `None`: it has panicked.
    fn stop(self) -> Option<Origin> {
        self.stop.send_replace(true);
        let origin = self.thread.join().ok().flatten();
        // Last, for everything above may have had something to write.
        if let Some(writer) = self.writer {
            writer.stop();
        }
        origin
    }
}

/// Control, and what writes down what it does.
struct State {
    control: Control,
    reconciler: Reconciler,
    /// `None`, as `commits`, where nothing is kept beyond the process.
    writer: Option<WriterThread>,
    commits: Option<CommitFigures>,
}

impl State {
    /// `live` is what is in use already, and is to be gone on from.
    fn open(config: &Config, registry: &Arc<StatsRegistry>, live: Option<Live>) -> anyhow::Result<Self> {
        let Some(dir) = &config.state_dir else {
            let started = Control::start_on(live, config.intent(), registry.clone());
            let (control, reconciler) = started.map_err(all_rejections)?;
            return Ok(Self { control, reconciler, writer: None, commits: None });
        };
        let store = Arc::new(Redb::open(dir).context("state_dir")?);
        let commits = CommitFigures::default();
        let opened = Control::open_on(live, config.intent(), registry.clone(), store, commits.clone());
        let (control, reconciler, writer) = opened.map_err(|error| match error {
            StartError::Rejected(rejections) => all_rejections(rejections),
            StartError::Store(error) => anyhow::Error::new(error).context("state_dir"),
        })?;
        Ok(Self { control, reconciler, writer: Some(writer), commits: Some(commits) })
    }
}

/// Starts everything; returns when all sockets are bound and the first table is live.
/// `file` is watched for changes, and read again on SIGHUP, when given.
pub fn start(config: Config, file: Option<PathBuf>) -> anyhow::Result<Running> {
    start_with(config, file, Sockets::default(), &mut ())
}

/// The same, with sockets that listen already, and with steps that another process has to agree to.
pub fn start_with(
    config: Config,
    file: Option<PathBuf>,
    mut sockets: Sockets,
    handover: &mut dyn Handover,
) -> anyhow::Result<Running> {
    descriptors::raise();
    let registry = Arc::new(StatsRegistry::new(config.workers));
    let options = proxy_options(&config, config.workers, access_log(config.access_log.as_ref())?);
    let certificates = Cells::default();
    let (listeners, bound) = Listeners::bind(&config.listeners, &mut sockets, &certificates)?;
    let admin_tls = tls_of("admin.tls", config.admin.tls.as_ref(), &[HTTP1], &certificates)?;
    let admin = match sockets.take_admin(config.admin.address) {
        Some(socket) => socket.into(),
        None => bind_admin(config.admin.address)?,
    };
    admin.set_nonblocking(true)?;
    sockets.warn_of_rest();
    let clients = Arc::new(Clients::new(certificates.clone()));
    prepare_clients(&clients, &config)?;
    handover.state()?;
    let state = State::open(&config, &registry, None)?;
    let pins = state.control.pins().clone();
    pins.set_max(config.pins.max);
    let counters = ProxyCounters::for_workers(config.workers);
    let shared = Shared::new(state.control.table().clone(), options, counters, pins, rates()?, clients);
    let data_plane = listen::start(config.workers, shared.clone()).context("cannot start the proxy's threads")?;
    let Limits { drain_delay, drain_timeout, .. } = config.limits;
    let plane = Plane {
        shared,
        registry,
        data_plane,
        admin,
        admin_address: config.admin.address,
        admin_tls,
        certificates,
        drain_delay,
        drain_timeout,
    };
    let running = plane.control(Origin { config, file, listeners }, state)?;
    handover.serving()?;
    running.plane.data_plane.listen(bound);
    Ok(running)
}

/// What goes on while the control plane comes and goes.
struct Plane {
    shared: Arc<Shared>,
    registry: Arc<StatsRegistry>,
    data_plane: DataPlane,
    /// The admin side serves a duplicate, so that this one can be handed on.
    admin: std::net::TcpListener,
    /// As in the file.
    admin_address: SocketAddr,
    admin_tls: Option<Arc<Cell<Server>>>,
    /// What is made of certificate files.
    certificates: Cells,
    drain_delay: Duration,
    drain_timeout: Duration,
}

/// What the control plane was told to do, and where it listens.
struct Origin {
    config: Config,
    file: Option<PathBuf>,
    listeners: Listeners,
}

impl Plane {
    /// Starts the control plane.
    fn control(self, origin: Origin, state: State) -> anyhow::Result<Running> {
        let Origin { config, file, listeners } = origin;
        let State { control, reconciler, writer, commits } = state;
        let reconciler = reconciler.with_clients(self.shared.clients.clone());
        let reloads = Arc::new(ReloadStatus::default());
        let metrics = Arc::new(metrics(&self.registry, &reloads, &self.shared.counters, &control));
        if let Some(log) = &self.shared.options.load().access_log {
            metrics.set_access_log(log.counters());
        }
        metrics.register(self.shared.clients.handshakes.collector())?;
        for collector in commits.iter().flat_map(CommitFigures::collectors) {
            metrics.register(collector)?;
        }
        for collector in control.checkpoints().into_iter().flat_map(CheckpointFigures::collectors) {
            metrics.register(collector)?;
        }
        let rates = self.shared.rates.clone();
        metrics.register(Box::new(RateCollector::new(move || figures::of_rates(&rates))))?;
        let pins = self.shared.pins.clone();
        metrics.set_pin_source(Box::new(move || figures::of_pins(&pins)));
        let certificates = self.certificates.clone();
        metrics.set_tls_source(Box::new(move || certificates.figures()));
        let (addresses, admin) = (listeners.addresses(), self.admin.local_addr()?);
        let ready = Readiness::default();
        let state = AdminState {
            control: control.clone(),
            reloads: reloads.clone(),
            ready: ready.clone(),
            metrics: {
                let metrics = metrics.clone();
                Arc::new(move || metrics.render())
            },
            auth: Auth::new(
                config.admin.token.as_ref().map(Secret::expose),
                config.state_dir.as_deref().map(|dir| LiveTokens::new(TokenFile::in_state_dir(dir))),
            ),
            answers: Answers::default(),
            followers: Followers::default(),
            known: {
                let shared = self.shared.clone();
                Arc::new(move || Known { pins: shared.pins.clone(), keys: shared.options.load().keys.clone() })
            },
            slashes: {
                let shared = self.shared.clone();
                Arc::new(move || shared.options.load().paths.slashes)
            },
            certificates: self.certificates.clone(),
            form: DeploymentForm { read: config::deployment_request, schema: config::deployment_schema },
        };
        reloads.succeeded(&config.hash, SystemTime::now());
        let reloader = Reloader {
            origin: Origin { config, file, listeners },
            control: control.clone(),
            shared: self.shared.clone(),
            acceptor: self.data_plane.acceptor(),
            metrics,
            status: reloads.clone(),
            certificates: self.certificates.clone(),
        };
        let admin_port = AdminPort { socket: self.admin.try_clone()?, tls: self.admin_tls.clone() };
        let control_plane = start_control_plane(reconciler, admin_port, state, reloader, writer)?;
        Ok(Running {
            listeners: addresses,
            admin,
            table: control.table().clone(),
            registry: self.registry.clone(),
            control,
            reloads,
            plane: self,
            control_plane,
            ready: ready.ready(),
        })
    }
}

struct AdminPort {
    socket: std::net::TcpListener,
    tls: Option<Arc<Cell<Server>>>,
}

fn start_control_plane(
    reconciler: Reconciler,
    port: AdminPort,
    state: AdminState,
    reloader: Reloader,
    writer: Option<WriterThread>,
) -> anyhow::Result<ControlPlane> {
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    // Inside the runtime, so that what the watch and the signal need is there before `start` returns.
    let keeper = Keeper::new(state.control.clone());
    let reloader = runtime.block_on(async { reloader.armed() })?;
    let certificates = state.certificates.clone();
    let work = async move {
        let socket = match TcpListener::from_std(port.socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "the admin side could not start");
                return None;
            }
        };
        let admin = admin::serve(socket, port.tls, admin::router(state), stopped.clone());
        let reload = reloader.run(stopped.clone());
        let ((), (), (), (), origin) = tokio::join!(
            reconciler.run(stopped.clone()),
            keeper.run(stopped.clone()),
            certificates.run(stopped.clone()),
            admin,
            reload
        );
        Some(origin)
    };
    let thread = std::thread::Builder::new().name("control".into()).spawn(move || runtime.block_on(work))?;
    Ok(ControlPlane { stop, thread, writer })
}

pub(crate) fn all_rejections(rejections: Vec<Rejection>) -> anyhow::Error {
    let lines: Vec<_> = rejections.iter().map(ToString::to_string).collect();
    anyhow::anyhow!(lines.join("\n"))
}

fn metrics(
    registry: &Arc<StatsRegistry>,
    reloads: &Arc<ReloadStatus>,
    counters: &Arc<[ProxyCounters]>,
    control: &Control,
) -> Metrics {
    let metrics = Metrics::new(registry.clone(), reloads.clone(), counters.clone());
    metrics.set_outside(control.outside().clone());
    let table = control.table().clone();
    metrics.set_table_source(Box::new(move || figures::of_table(&table.load())));
    let table = control.table().clone();
    metrics.set_breaker_source(Box::new(move || figures::of_breakers(&table.load())));
    let endpoints = control.table().clone();
    metrics.set_endpoint_source(Box::new(move || figures::of_endpoints(&endpoints.load(), Instant::now())));
    let conversations = control.clone();
    metrics.set_conversation_source(Box::new(move || figures::of_conversations(&conversations)));
    let control = control.clone();
    metrics.set_deployment_source(Box::new(move || figures::of_deployments(&control)));
    metrics
}

fn access_log(config: Option<&AccessLogConfig>) -> anyhow::Result<Option<AccessLog>> {
    let Some(config) = config else { return Ok(None) };
    let target = config.path.clone().map_or(AccessTarget::Stdout, AccessTarget::File);
    let name = config.path.as_ref().map_or("standard output".into(), |path| path.display().to_string());
    AccessLog::start(target, config.sample)
        .map(Some)
        .with_context(|| format!("access_log.path: cannot write to {name}"))
}

/// Limits that have counted nothing yet.
fn rates() -> anyhow::Result<SharedRates> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(Rates::new(secret, Instant::now()))
}

/// `workers`: those that run, whatever a changed file says.
fn proxy_options(config: &Config, workers: usize, access_log: Option<AccessLog>) -> ProxyOptions {
    let limits = &config.limits;
    let at_most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    ProxyOptions {
        version_header: config.version_header,
        head_bytes: limits.head_bytes,
        head_fields: limits.head_fields,
        head_timeout: limits.head_timeout,
        handshake_timeout: limits.handshake_timeout,
        keep_alive_timeout: limits.keep_alive_timeout,
        max_connections: with_descriptors(limits, workers),
        connections_per_address: limits.connections_per_address,
        requests_per_connection: limits.requests_per_connection,
        accept_backlog: i32::try_from(limits.accept_backlog).unwrap_or(i32::MAX),
        streams_per_connection: at_most(limits.streams_per_connection),
        stream_errors: limits.stream_errors,
        http2_floods: Floods { resets: at_most(limits.stream_resets), control: at_most(limits.control_frames) },
        trusted_proxies: config.trusted_proxies.clone(),
        paths: config.paths,
        shedding: shedding(&config.load_shedding, workers),
        access_log,
        keys: Arc::new(config.keys()),
    }
}

/// The client connections that there are file descriptors for; keeps the reserve from them.
fn with_descriptors(limits: &Limits, workers: usize) -> usize {
    descriptors::set_reserve(limits.descriptor_reserve);
    let most = descriptors::connections(limits.descriptor_reserve, workers);
    if most < limits.connections {
        let limit = descriptors::limit();
        let needed = limit.saturating_add(2 * (limits.connections - most) as u64);
        tracing::warn!(
            connections = most,
            configured = limits.connections,
            limit,
            needed,
            "this process may open fewer files than limits.connections needs, so fewer clients are served at a time; \
             raise the limit (`ulimit -n`, LimitNOFILE=) or lower limits.connections"
        );
    }
    most.min(limits.connections)
}

fn shedding(load: &LoadShedding, workers: usize) -> SheddingOptions {
    let in_flight_per_worker = load.requests_in_flight.map(|limit| limit.div_ceil(workers));
    SheddingOptions { lateness: load.lateness, interval: load.interval, in_flight_per_worker }
}

/// A file that cannot be used is an error.
fn prepare_clients(clients: &Clients, config: &Config) -> anyhow::Result<()> {
    clients.prepare(config.endpoint_tls()).map_err(|errors| anyhow::anyhow!(errors.join("\n")))
}

fn bind_admin(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).with_context(|| cannot_listen("admin.address", address))
}

/// What a port's TLS is made of; `place` is where the configuration asks for it.
fn tls_of(
    place: &str,
    spec: Option<&ServerSpec>,
    protocols: Protocols,
    cells: &Cells,
) -> anyhow::Result<Option<Arc<Cell<Server>>>> {
    let serve = |spec: &ServerSpec| spec.clone().serve(cells, place, protocols);
    spec.map(serve).transpose().with_context(|| place.to_owned())
}

fn cannot_listen(field: &str, address: SocketAddr) -> String {
    format!(
        "{field}: cannot listen on {address}; is another process using it? choose another port, or 0 for a free one"
    )
}
