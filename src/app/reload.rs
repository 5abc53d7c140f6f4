//! A changed file → a new state, whole or not at all.
//!
//! Everything that can fail comes first: the file is read and validated, new sockets are bound, the
//! access log is opened, the table is compiled. Only then is anything replaced. A failure changes
//! nothing, is logged once, and stays visible in metrics and API until a reload succeeds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::watch::{Candidate, ConfigWatch};
use crate::config::{Config, ListenerConfig};
use crate::control::service::Control;
use crate::proxy::listen::{Acceptor, Bound, Serves, bind};
use crate::proxy::worker::Shared;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reload::ReloadStatus;

/// The sockets that are listened on, and what they were configured as: port 0 is a different one each time.
pub(super) struct Listeners(Vec<Listening>);

#[derive(Clone)]
struct Listening {
    configured: SocketAddr,
    bound: SocketAddr,
    serves: Arc<ArcSwap<Serves>>,
}

impl Listeners {
    /// All of them, newly bound.
    pub fn bind(configs: &[ListenerConfig]) -> anyhow::Result<(Self, Vec<Bound>)> {
        Self(Vec::new()).next(configs)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|l| l.bound).collect()
    }

    /// The listeners of `configs`: those that are here already, and the newly bound. Changes nothing here.
    fn next(&self, configs: &[ListenerConfig]) -> anyhow::Result<(Self, Vec<Bound>)> {
        let mut next = Self(Vec::new());
        let mut sockets = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            match self.0.iter().find(|l| l.configured == config.address) {
                Some(listening) => next.0.push(listening.clone()),
                None => {
                    let (listening, bound) = bind_one(index, config)?;
                    next.0.push(listening);
                    sockets.push(bound);
                }
            }
        }
        Ok((next, sockets))
    }
}

fn bind_one(index: usize, config: &ListenerConfig) -> anyhow::Result<(Listening, Bound)> {
    let serves = Arc::new(ArcSwap::from_pointee(serves(config)));
    let bound = bind(config.address, serves.clone())
        .with_context(|| super::cannot_listen(&format!("listeners[{index}].address"), config.address))?;
    Ok((Listening { configured: config.address, bound: bound.address, serves }, bound))
}

fn serves(config: &ListenerConfig) -> Serves {
    Serves { environment: config.environment.clone(), http2: config.http2 }
}

pub(super) struct Reloader {
    pub file: PathBuf,
    pub live: Config,
    pub control: Control,
    pub shared: Arc<Shared>,
    pub acceptor: Acceptor,
    pub listeners: Listeners,
    pub metrics: Arc<Metrics>,
    pub status: Arc<ReloadStatus>,
}

/// A [`Reloader`] that will see every change from now on.
pub(super) struct Armed {
    reloader: Reloader,
    watch: ConfigWatch,
    hangup: Signal,
}

impl Reloader {
    pub fn armed(self) -> anyhow::Result<Armed> {
        let watch = ConfigWatch::new(&self.file, &self.live.hash)
            .with_context(|| format!("cannot watch {}", self.file.display()))?;
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(Armed { reloader: self, watch, hangup })
    }

    async fn reload(&mut self, candidate: Candidate) {
        let name = self.file.display().to_string();
        let now = SystemTime::now();
        match self.take(&name, candidate).await {
            Ok(epoch) => {
                tracing::info!(file = name, hash = %self.live.hash, epoch, "configuration reloaded");
                self.status.succeeded(&self.live.hash, now);
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
        let (listeners, sockets) = self.listeners.next(&config.listeners)?;
        let access_log = self.next_access_log(&config)?;
        let applied = self.control.apply(config.intent()).await.map_err(super::all_rejections)?;

        // From here on nothing can fail.
        if let Some(log) = &access_log {
            self.metrics.set_access_log(log.counters());
        }
        self.shared.set_options(super::proxy_options(&config, access_log));
        self.switch_listeners(listeners, sockets, &config).await;
        warn_of_what_needs_a_restart(&self.live, &config);
        self.live = config;
        Ok(applied.epoch)
    }

    /// The live log, or a new one. The old one's writer ends with the last exchange that holds it.
    fn next_access_log(&self, config: &Config) -> anyhow::Result<Option<AccessLog>> {
        if config.access_log == self.live.access_log {
            return Ok(self.shared.options.load().access_log.clone());
        }
        super::access_log(config.access_log.as_ref())
    }

    async fn switch_listeners(&mut self, next: Listeners, sockets: Vec<Bound>, config: &Config) {
        for socket in sockets {
            self.acceptor.listen(socket).await;
        }
        for (listening, wanted) in next.0.iter().zip(&config.listeners) {
            listening.serves.store(Arc::new(serves(wanted)));
        }
        for gone in self.listeners.0.iter().filter(|old| next.0.iter().all(|new| new.bound != old.bound)) {
            self.acceptor.close(gone.bound).await;
        }
        self.listeners = next;
    }
}

impl Armed {
    /// Reloads at each change and each SIGHUP, until stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        loop {
            let candidate = tokio::select! {
                _ = &mut stopped => return,
                candidate = self.watch.changed() => candidate,
                _ = self.hangup.recv() => {
                    if let Some(log) = &self.reloader.shared.options.load().access_log {
                        log.reopen();
                    }
                    self.watch.reread()
                }
            };
            self.reloader.reload(candidate).await;
        }
    }
}

fn warn_of_what_needs_a_restart(live: &Config, next: &Config) {
    let changed = [
        ("workers", live.workers != next.workers),
        ("admin", live.admin != next.admin),
        ("limits.drain_timeout", live.limits.drain_timeout != next.limits.drain_timeout),
        ("state_dir", live.state_dir != next.state_dir),
    ];
    for (field, _) in changed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(field, "this setting has changed, and takes effect at the next start only");
    }
}
