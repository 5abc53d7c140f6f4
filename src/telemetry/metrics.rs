//! The Prometheus side of the figures: everything is read at the scrape, nothing is kept for it.
//!
//! The counters live where they are written ([`super::stats`], [`super::counters`], [`super::reload`],
//! [`super::access`]); what other rooms know (the table's weights, how deployments stand) comes from
//! sources that the wiring sets. A scrape takes no lock that a request could wait for.
//!
//! Bound on series: the first [`MAX_LABELLED`] versions that served anything have series of their own, and
//! keep them until they are gone; later ones add to `agent="_other",version="_other"` of their environment.
//! A version costs at most 84 request counters (in practice under ten), two histograms of 22, three counters of retries
//! and a gauge; one that
//! had streams or told tokens, at most 88 more: six ends, two histograms of 22, two of 17, two counters of tokens,
//! the cost and the answers without a price.
//! Gauges of weights, deployments, guards, conversations and circuit breakers, and what is told of endpoints (at most
//! four states and ten reasons a version), are cut off at the same number, in label order.

mod bound;
mod conversations;
mod deployments;
mod endpoints;
mod family;
mod instance;
mod outside;
mod pins;
mod protection;
mod rates;
mod streams;
mod tls;
mod versions;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{Registry, TextEncoder};

use super::access::AccessCounters;
use super::counters::ProxyCounters;
use super::outside::OutsideCounters;
use super::reload::ReloadStatus;
use super::stats::{BreakerPhase, StatsRegistry, VersionLabels};
use super::tls::TlsFigures;

pub use rates::{RateCollector, RateFigures, RateTableFigures};

/// How many versions, agents, weights or guards may have series of their own.
pub const MAX_LABELLED: usize = 2_000;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What the scrape shows of the live routing table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableFigures {
    pub epoch: u64,
    pub config_hash: Arc<str>,
    pub weights: Vec<VersionWeight>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VersionWeight {
    pub labels: VersionLabels,
    /// 0..=1 of the agent's eligible requests.
    pub ratio: f64,
}

/// What the scrape shows of one deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentFigures {
    pub labels: VersionLabels,
    /// The deployment's state in snake case, e.g. `running` or `rolled_back`.
    pub state: Cow<'static, str>,
    /// The share that it has now, 0..=1.
    pub weight_ratio: f64,
    pub guards: Vec<GuardFigures>,
    pub checks: Vec<CheckFigures>,
    /// All rollbacks of this *agent* so far, by cause. Must not shrink while the process lives; where an
    /// agent has several deployments, each may tell the same figures.
    pub rollbacks: Vec<RollbackCount>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GuardFigures {
    /// Names the guard within its deployment, e.g. `error_rate above 5% for 5m`.
    pub guard: String,
    /// In the metric's own unit: a ratio, seconds, tokens or money. `None` while there is nothing to measure.
    pub value: Option<f64>,
    pub limit: Option<f64>,
    /// How much of the evidence that a breach takes is there; 1 or more is a breach.
    pub evidence_ratio: Option<f64>,
    /// Of a guard that asks Prometheus: whether the newest answer was a value.
    pub query_success: Option<bool>,
}

/// What one health check says of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckFigures {
    pub check: String,
    pub endpoint: String,
    /// `None` while nobody knows.
    pub healthy: Option<bool>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RollbackCount {
    pub cause: Cow<'static, str>,
    pub count: u64,
}

/// What the scrape shows of one version's circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerFigures {
    pub labels: VersionLabels,
    pub phase: BreakerPhase,
    /// Times that it opened.
    pub opened: u64,
}

/// What the scrape shows of the conversations of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationFigures {
    pub labels: VersionLabels,
    /// Conversations, and responses in flight that belong to one; `None` where the version never had any.
    pub held: Option<(u64, u64)>,
    /// Of a version that gets no more new traffic: conversations and responses that are left.
    pub draining: Option<(u64, u64)>,
    /// While a migration moves conversations away: how many are still to go.
    pub to_migrate: Option<u64>,
}

/// What the scrape shows of the endpoints of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFigures {
    pub labels: VersionLabels,
    /// How many are in each state that any is in.
    pub states: Vec<(&'static str, u64)>,
    /// How often they were ejected, by the reasons that there were.
    pub ejections: Vec<(&'static str, u64)>,
}

/// What the scrape shows of the table of conversations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PinFigures {
    pub pins: usize,
    pub max: usize,
    pub bytes: usize,
    /// What has happened to pins, how often.
    pub events: Vec<(&'static str, u64)>,
}

/// Everything that `/metrics` shows.
pub struct Metrics {
    registry: Registry,
    table: Arc<Source<TableFigures>>,
    deployments: Arc<Source<Vec<DeploymentFigures>>>,
    conversations: Arc<Source<Vec<ConversationFigures>>>,
    breakers: Arc<Source<Vec<BreakerFigures>>>,
    endpoints: Arc<Source<Vec<EndpointFigures>>>,
    access: Arc<Mutex<Option<Arc<AccessCounters>>>>,
    outside: Arc<Mutex<Option<Arc<OutsideCounters>>>>,
    pins: Arc<Source<PinFigures>>,
    tls: Arc<Source<TlsFigures>>,
}

impl Metrics {
    pub fn new(stats: Arc<StatsRegistry>, reloads: Arc<ReloadStatus>, proxy: Arc<[ProxyCounters]>) -> Self {
        Self::with_limit(stats, reloads, proxy, MAX_LABELLED)
    }

    fn with_limit(
        stats: Arc<StatsRegistry>,
        reloads: Arc<ReloadStatus>,
        proxy: Arc<[ProxyCounters]>,
        limit: usize,
    ) -> Self {
        let metrics = Self {
            registry: Registry::new(),
            table: Arc::default(),
            deployments: Arc::default(),
            conversations: Arc::default(),
            breakers: Arc::default(),
            endpoints: Arc::default(),
            access: Arc::default(),
            outside: Arc::default(),
            pins: Arc::default(),
            tls: Arc::default(),
        };
        let own: [Box<dyn Collector>; 10] = [
            Box::new(tls::TlsCollector::new(metrics.tls.clone(), proxy.clone(), limit)),
            Box::new(endpoints::EndpointCollector::new(metrics.endpoints.clone(), limit)),
            Box::new(pins::PinCollector::new(metrics.pins.clone(), proxy.clone())),
            Box::new(protection::ProtectionCollector::new(metrics.breakers.clone(), proxy.clone(), limit)),
            Box::new(versions::VersionCollector::new(stats, limit)),
            Box::new(instance::InstanceCollector::new(instance::Sources {
                reloads,
                proxy,
                access: metrics.access.clone(),
                table: metrics.table.clone(),
                limit,
            })),
            Box::new(deployments::DeploymentCollector::new(metrics.deployments.clone(), limit)),
            Box::new(conversations::ConversationCollector::new(metrics.conversations.clone(), limit)),
            Box::new(outside::OutsideCollector::new(metrics.outside.clone())),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        for collector in own {
            // Only names that clash can be refused, and these are constants that every unit test registers.
            metrics.register(collector).expect("the metrics of this room have distinct names");
        }
        metrics
    }

    /// Adds a collector of another room.
    pub fn register(&self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        self.registry.register(collector)
    }

    /// Where the live table's figures come from. Called at each scrape; must not call back into `Metrics`.
    pub fn set_table_source(&self, source: Box<dyn Fn() -> TableFigures + Send + Sync>) {
        self.table.set(source);
    }

    /// Where the deployments' figures come from. Called at each scrape; must not call back into `Metrics`.
    pub fn set_deployment_source(&self, source: Box<dyn Fn() -> Vec<DeploymentFigures> + Send + Sync>) {
        self.deployments.set(source);
    }

    /// Where the figures of conversations come from. Called at each scrape; must not call back into `Metrics`.
    pub fn set_conversation_source(&self, source: Box<dyn Fn() -> Vec<ConversationFigures> + Send + Sync>) {
        self.conversations.set(source);
    }

    /// Where the circuit breakers' figures come from. Called at each scrape; must not call back into `Metrics`.
    pub fn set_breaker_source(&self, source: Box<dyn Fn() -> Vec<BreakerFigures> + Send + Sync>) {
        self.breakers.set(source);
    }

    /// Where the figures of endpoints come from. Called at each scrape; must not call back into `Metrics`.
    pub fn set_endpoint_source(&self, source: Box<dyn Fn() -> Vec<EndpointFigures> + Send + Sync>) {
        self.endpoints.set(source);
    }

    /// Where the figures of the table of pins come from. Called at each scrape; must not call back into `Metrics`.
    pub fn set_pin_source(&self, source: Box<dyn Fn() -> PinFigures + Send + Sync>) {
        self.pins.set(source);
    }

    /// Where the figures of certificates come from. Called at each scrape; must not call back into `Metrics`.
    pub fn set_tls_source(&self, source: Box<dyn Fn() -> TlsFigures + Send + Sync>) {
        self.tls.set(source);
    }

    /// The access log's counts, where one is written. Replaces those of an earlier log.
    pub fn set_access_log(&self, counters: Arc<AccessCounters>) {
        *lock(&self.access) = Some(counters);
    }

    /// Where control counts its health checks and queries.
    pub fn set_outside(&self, counters: Arc<OutsideCounters>) {
        *lock(&self.outside) = Some(counters);
    }

    /// The scrape's answer, in the text format ([`CONTENT_TYPE`]).
    pub fn render(&self) -> String {
        let mut text = String::new();
        for family in self.registry.gather() {
            let whole = text.len();
            if let Err(error) = TextEncoder::new().encode_utf8(std::slice::from_ref(&family), &mut text) {
                // One broken family must not cost the others.
                text.truncate(whole);
                tracing::warn!(family = family.name(), %error, "a metric family cannot be shown");
            }
        }
        text
    }
}

/// A function that the wiring sets after construction, so that telemetry need not know the rooms.
struct Source<T>(Mutex<Option<SourceFn<T>>>);

type SourceFn<T> = Arc<dyn Fn() -> T + Send + Sync>;

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Source<T> {
    fn set(&self, source: Box<dyn Fn() -> T + Send + Sync>) {
        *lock(&self.0) = Some(source.into());
    }

    /// `None` until set. The lock is not held while the source runs.
    fn read(&self) -> Option<T> {
        let source = lock(&self.0).clone();
        source.map(|source| source())
    }
}

/// All that is kept under these locks is replaced whole, so a panic cannot leave it half-done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
