//! A changed file → a new state, whole or not at all.
//!
//! Everything that can fail comes first: the file is read and validated, new sockets are bound, the
//! access log is opened, the table is compiled. Only then is anything replaced. A failure changes
//! nothing, is logged once, and stays visible in metrics and API until a reload succeeds.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{Origin, Sockets};
use crate::config::watch::{Candidate, ConfigWatch};
use crate::config::{Config, ListenerConfig};
use crate::control::service::Control;
use crate::proxy::listen::{Acceptor, Bound, Serves, adopt, bind};
use crate::proxy::worker::Shared;
use crate::systemd;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reload::ReloadStatus;
use crate::tls::reload::Cells;
use crate::tls::server::{HTTP1, HTTP2, Protocols};

/// The sockets that are listened on, and what they were configured as: port 0 is a different one each time.
pub(super) struct Listeners(Vec<Listening>);

#[derive(Clone)]
struct Listening {
    configured: SocketAddr,
    bound: SocketAddr,
    /// What it is to serve, and what the acceptor takes that from.
    wanted: Arc<Serves>,
    serves: Arc<ArcSwap<Serves>>,
    /// What `wanted` was made of.
    config: ListenerConfig,
}

impl Listeners {
    /// All of them: given, or newly bound.
    pub fn bind(configs: &[ListenerConfig], given: &mut Sockets, cells: &Cells) -> anyhow::Result<(Self, Vec<Bound>)> {
        Self(Vec::new()).next(configs, given, cells)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|l| l.bound).collect()
    }

    /// The listeners of `configs`: those that are here already, and the newly bound. Changes nothing here.
    fn next(
        &self,
        configs: &[ListenerConfig],
        given: &mut Sockets,
        cells: &Cells,
    ) -> anyhow::Result<(Self, Vec<Bound>)> {
        let mut next = Self(Vec::new());
        let mut sockets = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            match self.0.iter().find(|l| l.configured == config.address) {
                Some(listening) => next.0.push(listening.next(index, config, cells)?),
                None => {
                    let (listening, bound) = bind_one(index, config, given, cells)?;
                    next.0.push(listening);
                    sockets.push(bound);
                }
            }
        }
        Ok((next, sockets))
    }
}

impl Listening {
    /// The same socket, for what `config` says.
    fn next(&self, index: usize, config: &ListenerConfig, cells: &Cells) -> anyhow::Result<Self> {
        let wanted = if *config == self.config { self.wanted.clone() } else { Arc::new(serves(index, config, cells)?) };
        Ok(Self { wanted, config: config.clone(), ..self.clone() })
    }
}

fn bind_one(
    index: usize,
    config: &ListenerConfig,
    given: &mut Sockets,
    cells: &Cells,
) -> anyhow::Result<(Listening, Bound)> {
    let wanted = Arc::new(serves(index, config, cells)?);
    let serves = Arc::new(ArcSwap::new(wanted.clone()));
    let bound = match given.take_listener(index, config.address) {
        Some(socket) => adopt(socket, config.address, serves.clone()),
        None => bind(config.address, serves.clone()),
    };
    let bound = bound.with_context(|| super::cannot_listen(&format!("listeners[{index}].address"), config.address))?;
    let (configured, config) = (config.address, config.clone());
    Ok((Listening { configured, bound: bound.address, wanted, serves, config }, bound))
}

fn serves(index: usize, config: &ListenerConfig, cells: &Cells) -> anyhow::Result<Serves> {
    let protocols: Protocols = if config.http2 { &[HTTP2, HTTP1] } else { &[HTTP1] };
    let tls = super::tls_of(&format!("listeners[{index}].tls"), config.tls.as_ref(), protocols, cells)?;
    Ok(Serves { environment: config.environment.clone(), http2: config.http2, tls })
}

pub(super) struct Reloader {
    pub origin: Origin,
    pub control: Control,
    pub shared: Arc<Shared>,
    pub acceptor: Acceptor,
    pub metrics: Arc<Metrics>,
    pub status: Arc<ReloadStatus>,
    pub certificates: Cells,
}

/// A [`Reloader`] that will see every change from now on.
pub(super) struct Armed {
    reloader: Reloader,
    /// `None` where there is no file to follow.
    watched: Option<Watched>,
}

struct Watched {
    file: PathBuf,
    changes: ConfigWatch,
    hangup: Signal,
}

impl Reloader {
    pub fn armed(self) -> anyhow::Result<Armed> {
        let Some(file) = self.origin.file.clone() else { return Ok(Armed { reloader: self, watched: None }) };
        let changes = ConfigWatch::new(&file, &self.origin.config.hash)
            .with_context(|| format!("cannot watch {}", file.display()))?;
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(Armed { reloader: self, watched: Some(Watched { file, changes, hangup }) })
    }

    async fn reload(&mut self, file: &Path, candidate: Candidate) {
        let name = file.display().to_string();
        let now = SystemTime::now();
        match self.take(&name, candidate).await {
            Ok(epoch) => {
                let hash = &self.origin.config.hash;
                tracing::info!(file = name, %hash, epoch, "configuration reloaded");
                self.status.succeeded(hash, now);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(file = name, %error, "configuration not reloaded; the last good one stays live");
                self.status.failed(error, now);
            }
        }
    }

    async fn take(&mut self, name: &str, candidate: Candidate) -> anyhow::Result<u64> {
        let text = candidate.text.with_context(|| format!("cannot read {name}"))?;
        let config = Config::parse(name, &text, &|variable| std::env::var(variable).ok())?;
        let (listeners, sockets) = self.next_listeners(&config.listeners)?;
        let access_log = self.next_access_log(&config)?;
        super::prepare_clients(&self.shared.clients, &config)?;
        let applied = self.control.apply(config.intent()).await.map_err(super::all_rejections);
        if applied.is_err() {
            self.shared.clients.keep(self.origin.config.endpoint_tls().map(|(_, tls)| tls));
        }
        let applied = applied?;

        // From here on nothing can fail.
        if let Some(log) = &access_log {
            self.metrics.set_access_log(log.counters());
        }
        self.shared.clients.keep(config.endpoint_tls().map(|(_, tls)| tls));
        self.shared.pins.set_max(config.pins.max);
        self.shared.set_options(super::proxy_options(&config, self.shared.counters.len(), access_log));
        self.switch_listeners(listeners, sockets).await;
        warn_of_what_needs_a_restart(&self.origin.config, &config);
        self.origin.config = config;
        Ok(applied.epoch)
    }

    /// The live log, or a new one. The old one's writer ends with the last exchange that holds it.
    fn next_access_log(&self, config: &Config) -> anyhow::Result<Option<AccessLog>> {
        if config.access_log == self.origin.config.access_log {
            return Ok(self.shared.options.load().access_log.clone());
        }
        super::access_log(config.access_log.as_ref())
    }

    fn next_listeners(&self, configs: &[ListenerConfig]) -> anyhow::Result<(Listeners, Vec<Bound>)> {
        self.origin.listeners.next(configs, &mut Sockets::default(), &self.certificates)
    }

    async fn switch_listeners(&mut self, next: Listeners, sockets: Vec<Bound>) {
        for socket in sockets {
            self.acceptor.listen(socket).await;
        }
        for listening in &next.0 {
            listening.serves.store(listening.wanted.clone());
        }
        for gone in self.origin.listeners.0.iter().filter(|old| next.0.iter().all(|new| new.bound != old.bound)) {
            self.acceptor.close(gone.bound).await;
        }
        self.origin.listeners = next;
    }
}

impl Armed {
    /// Reloads at each change and each SIGHUP, until stopped; answers what is live then.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Origin {
        let Self { mut reloader, watched } = self;
        let Some(Watched { file, mut changes, mut hangup }) = watched else {
            let _ = stop.wait_for(|stop| *stop).await;
            return reloader.origin;
        };
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        let mut asked = false;
        loop {
            let candidate = tokio::select! {
                _ = &mut stopped => return reloader.origin,
                candidate = changes.changed() => candidate,
                _ = hangup.recv() => {
                    systemd::notify("RELOADING=1");
                    asked = true;
                    if let Some(log) = &reloader.shared.options.load().access_log {
                        log.reopen();
                    }
                    changes.reread()
                }
            };
            reloader.reload(&file, candidate).await;
            if std::mem::take(&mut asked) {
                systemd::notify("READY=1");
            }
        }
    }
}

fn warn_of_what_needs_a_restart(live: &Config, next: &Config) {
    let changed = [
        ("workers", live.workers != next.workers),
        ("admin", live.admin != next.admin),
        ("limits.drain_delay", live.limits.drain_delay != next.limits.drain_delay),
        ("limits.drain_timeout", live.limits.drain_timeout != next.limits.drain_timeout),
        ("limits.accept_backlog", live.limits.accept_backlog != next.limits.accept_backlog),
        ("state_dir", live.state_dir != next.state_dir),
    ];
    for (field, _) in changed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(field, "this setting has changed, and takes effect at the next start only");
    }
}
