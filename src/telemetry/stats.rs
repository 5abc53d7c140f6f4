//! What is counted per version, on the hot path.
//!
//! Each worker has a shard of its own and is its only writer, so a count is a plain load, add and
//! store on a cache line that no other core writes. Readers (the judge, the scrape) sum the shards;
//! they may miss an increment of this very instant, never one that happened before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::bell::Bell;

/// How an exchange ended, seen from the version. Also the metric label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// The whole answer was delivered, with a status under 500.
    Success,
    /// The whole answer was delivered; its status is 5xx.
    ServerError,
    /// No connection to any endpoint.
    ConnectFailed,
    /// The version has no endpoint.
    NoEndpoint,
    /// No response head in time.
    ResponseTimeout,
    /// The connection ended before a whole response head.
    Reset,
    /// Not HTTP, or HTTP that must not be passed on.
    BadResponse,
    /// The body ended before its announced end.
    Truncated,
    /// The body stood still for longer than allowed.
    IdleTimeout,
    /// The client went away first. Not the version's fault.
    ClientCancel,
    /// The client's own request broke: a bad or too large body. Not the version's fault.
    ClientError,
}

impl Outcome {
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::ServerError,
        Self::ConnectFailed,
        Self::NoEndpoint,
        Self::ResponseTimeout,
        Self::Reset,
        Self::BadResponse,
        Self::Truncated,
        Self::IdleTimeout,
        Self::ClientCancel,
        Self::ClientError,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ServerError => "server_error",
            Self::ConnectFailed => "connect_failed",
            Self::NoEndpoint => "no_endpoint",
            Self::ResponseTimeout => "response_timeout",
            Self::Reset => "reset",
            Self::BadResponse => "bad_response",
            Self::Truncated => "truncated",
            Self::IdleTimeout => "idle_timeout",
            Self::ClientCancel => "client_cancel",
            Self::ClientError => "client_error",
        }
    }

    /// Whether the version is to blame.
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Success | Self::ClientCancel | Self::ClientError)
    }

    /// Whether it says anything of the version at all: what the client broke is no evidence.
    pub fn counts(self) -> bool {
        !matches!(self, Self::ClientCancel | Self::ClientError)
    }
}

/// `1xx` … `5xx`, or none where no response head came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StatusClass {
    None,
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl StatusClass {
    pub const ALL: [Self; 6] =
        [Self::None, Self::Informational, Self::Success, Self::Redirection, Self::ClientError, Self::ServerError];

    pub fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => Self::None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// Adds to a counter that only this thread writes. Not for counters with several writers.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// Whole microseconds; what no `u64` can hold counts as the longest that it can.
fn micros(value: Duration) -> u64 {
    u64::try_from(value.as_micros()).unwrap_or(u64::MAX)
}

const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
const TOP_OCTAVE: u32 = 32;
/// 464 buckets, 3.6 KiB: every microsecond below 16 µs, then 16 buckets an octave (at most 6.25 % wide),
/// up to 71 min; what is longer counts in the last one.
pub const HISTOGRAM_BUCKETS: usize = ((TOP_OCTAVE - SUB_BITS + 1) as usize) << SUB_BITS;

fn bucket_of(us: u64) -> usize {
    if us < SUB {
        return us as usize;
    }
    let octave = us.ilog2().min(TOP_OCTAVE - 1);
    let us = us.min((1 << TOP_OCTAVE) - 1);
    let sub = (us >> (octave - SUB_BITS)) & (SUB - 1);
    (((octave - SUB_BITS + 1) as usize) << SUB_BITS) + sub as usize
}

/// The smallest value above bucket `index`, in microseconds.
pub fn bucket_end_us(index: usize) -> u64 {
    let (octave, sub) = ((index >> SUB_BITS) as u32, index as u64 & (SUB - 1));
    if octave == 0 {
        return sub + 1;
    }
    (SUB + sub + 1) << (octave - 1)
}

struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Histogram {
    fn new() -> Self {
        let buckets = (0..HISTOGRAM_BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, sum_us: AtomicU64::new(0) }
    }

    fn record(&self, value: Duration) {
        let us = micros(value);
        bump(&self.buckets[bucket_of(us)], 1);
        bump(&self.sum_us, us);
    }
}

/// A histogram's counts at one moment, in microseconds; sums and differences are histograms too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    pub counts: Box<[u64]>,
    pub sum_us: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { counts: vec![0; HISTOGRAM_BUCKETS].into(), sum_us: 0 }
    }
}

impl Distribution {
    /// For tests and models: the hot path records into the shard's atomic form.
    pub fn record(&mut self, value: Duration) {
        let us = micros(value);
        self.counts[bucket_of(us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    fn clear(&mut self) {
        self.counts.fill(0);
        self.sum_us = 0;
    }

    fn add(&mut self, histogram: &Histogram) {
        for (count, bucket) in self.counts.iter_mut().zip(&histogram.buckets) {
            *count += bucket.load(Ordering::Relaxed);
        }
        self.sum_us = self.sum_us.saturating_add(histogram.sum_us.load(Ordering::Relaxed));
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came in since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then));
        Self { counts: counts.collect(), sum_us: self.sum_us.saturating_sub(earlier.sum_us) }
    }

    /// The upper end of the bucket that holds the quantile: above the true value, by at most 6.25 % or
    /// 1 µs. `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_micros(bucket_end_us(index)));
            }
        }
        None
    }

    /// How many were longer than `limit`, to the bucket's precision: those of the limit's own bucket are not.
    pub fn above(&self, limit: Duration) -> u64 {
        self.counts[bucket_of(micros(limit)) + 1..].iter().sum()
    }
}

/// One worker's counts for one version. Aligned, so that no two workers' counts share a cache line.
#[repr(align(64))]
struct Shard {
    started: AtomicU64,
    ended: AtomicU64,
    outcomes: [[AtomicU64; StatusClass::ALL.len()]; Outcome::ALL.len()],
    latency: Histogram,
    first_byte: Histogram,
}

impl Shard {
    fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            outcomes: Default::default(),
            latency: Histogram::new(),
            first_byte: Histogram::new(),
        }
    }
}

/// The names that label every figure of a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionLabels {
    pub environment: Arc<str>,
    pub agent: Arc<str>,
    pub version: Arc<str>,
}

/// A finished exchange, as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub outcome: Outcome,
    pub class: StatusClass,
    /// To the last byte.
    pub latency: Duration,
    /// To the response head; `None` where none came.
    pub first_byte: Option<Duration>,
}

/// All figures of one version in one environment. Outlives the tables that point to it.
pub struct VersionStats {
    pub labels: VersionLabels,
    /// By worker; made when the worker first serves this version, so that idle versions cost nothing.
    shards: Box<[OnceLock<Box<Shard>>]>,
    /// Whether a judge watches: then each outcome rings its bell.
    guarded: AtomicBool,
    bell: Arc<Bell>,
}

/// Sums over all workers at one moment. Only ever grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub started: u64,
    pub ended: u64,
    pub outcomes: [[u64; StatusClass::ALL.len()]; Outcome::ALL.len()],
    pub latency: Distribution,
    pub first_byte: Distribution,
}

impl Totals {
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.ended)
    }
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].iter().sum()
    }
    /// Exchanges that say something of the version.
    pub fn judged(&self) -> u64 {
        Outcome::ALL.iter().filter(|o| o.counts()).map(|o| self.outcome(*o)).sum()
    }
    pub fn errors(&self) -> u64 {
        Outcome::ALL.iter().filter(|o| o.is_error()).map(|o| self.outcome(*o)).sum()
    }
}

impl VersionStats {
    pub fn new(labels: VersionLabels, workers: usize, bell: Arc<Bell>) -> Self {
        let shards = (0..workers).map(|_| OnceLock::new()).collect();
        Self { labels, shards, guarded: AtomicBool::new(false), bell }
    }

    fn shard(&self, worker: usize) -> &Shard {
        self.shards[worker].get_or_init(|| Box::new(Shard::new()))
    }

    /// Worker `worker` began an exchange. Only that worker's thread may call this.
    pub fn started(&self, worker: usize) {
        bump(&self.shard(worker).started, 1);
    }

    /// Worker `worker` ended one that it had `started`. Only that worker's thread may call this.
    pub fn ended(&self, worker: usize, exchange: &Exchange) {
        let shard = self.shard(worker);
        bump(&shard.outcomes[exchange.outcome as usize][exchange.class as usize], 1);
        if exchange.outcome.counts() {
            shard.latency.record(exchange.latency);
            if let Some(first_byte) = exchange.first_byte {
                shard.first_byte.record(first_byte);
            }
        }
        // Last, and as a release: who sees this end also sees its start and what was counted of it.
        shard.ended.store(shard.ended.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        if self.guarded.load(Ordering::Relaxed) {
            self.bell.ring();
        }
    }

    /// Asks for, or does without, a ring of the judge's bell at each outcome.
    pub fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::Relaxed);
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.read(&mut totals, Histograms { latency: true, first_byte: true });
        totals
    }

    /// As [`Self::totals`], into a buffer: allocates nothing. Histograms that are not asked for stay as they are;
    /// they are most of what there is to add up.
    pub fn read(&self, totals: &mut Totals, histograms: Histograms) {
        (totals.started, totals.ended, totals.outcomes) = Default::default();
        if histograms.latency {
            totals.latency.clear();
        }
        if histograms.first_byte {
            totals.first_byte.clear();
        }
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            // `ended` first: an exchange that ends between the two reads must not make in-flight negative.
            totals.ended += shard.ended.load(Ordering::Acquire);
            totals.started += shard.started.load(Ordering::Relaxed);
            for (sum, row) in totals.outcomes.iter_mut().flatten().zip(shard.outcomes.iter().flatten()) {
                *sum += row.load(Ordering::Relaxed);
            }
            if histograms.latency {
                totals.latency.add(&shard.latency);
            }
            if histograms.first_byte {
                totals.first_byte.add(&shard.first_byte);
            }
        }
    }
}

/// Which histograms to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histograms {
    pub latency: bool,
    pub first_byte: bool,
}

/// What is counted per agent rather than per version.
pub struct AgentStats {
    pub environment: Arc<str>,
    pub agent: Arc<str>,
    /// Requests that had no bucketing key, by worker.
    keyless: Box<[OwnLine]>,
}

/// A counter on a cache line of its own, so that workers side by side in a slice do not slow each other.
#[derive(Default)]
#[repr(align(64))]
struct OwnLine(AtomicU64);

impl AgentStats {
    pub fn new(environment: Arc<str>, agent: Arc<str>, workers: usize) -> Self {
        Self { environment, agent, keyless: (0..workers).map(|_| OwnLine::default()).collect() }
    }
    /// Only worker `worker`'s thread may call this.
    pub fn without_key(&self, worker: usize) {
        bump(&self.keyless[worker].0, 1);
    }
    pub fn keyless(&self) -> u64 {
        self.keyless.iter().map(|c| c.0.load(Ordering::Relaxed)).sum()
    }
}

/// Hands out the one `VersionStats` of each version, so that counts go on across table swaps.
///
/// Bound: what no table and no request holds any more goes at the next [`StatsRegistry::prune`], which
/// every publish calls: old versions' series end instead of lingering.
pub struct StatsRegistry {
    workers: usize,
    bell: Arc<Bell>,
    inner: std::sync::Mutex<RegistryInner>,
}

#[derive(Default)]
struct RegistryInner {
    versions: std::collections::HashMap<VersionLabels, Arc<VersionStats>>,
    agents: std::collections::HashMap<(Arc<str>, Arc<str>), Arc<AgentStats>>,
}

impl StatsRegistry {
    pub fn new(workers: usize) -> Self {
        Self { workers, bell: Arc::default(), inner: std::sync::Mutex::default() }
    }

    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RegistryInner> {
        // A panic under this lock can leave nothing half-done: each use is one map operation.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn version(&self, labels: VersionLabels) -> Arc<VersionStats> {
        let make = || Arc::new(VersionStats::new(labels.clone(), self.workers, self.bell.clone()));
        self.lock().versions.entry(labels.clone()).or_insert_with(make).clone()
    }

    pub fn agent(&self, environment: Arc<str>, agent: Arc<str>) -> Arc<AgentStats> {
        let make = || Arc::new(AgentStats::new(environment.clone(), agent.clone(), self.workers));
        self.lock().agents.entry((environment.clone(), agent.clone())).or_insert_with(make).clone()
    }

    /// Every version's figures, in label order.
    pub fn versions(&self) -> Vec<Arc<VersionStats>> {
        let mut all: Vec<_> = self.lock().versions.values().cloned().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all
    }

    pub fn agents(&self) -> Vec<Arc<AgentStats>> {
        let mut all: Vec<_> = self.lock().agents.values().cloned().collect();
        all.sort_by(|a, b| (&a.environment, &a.agent).cmp(&(&b.environment, &b.agent)));
        all
    }

    /// Forgets what only the registry still holds: no table, no request in flight, no judge.
    pub fn prune(&self) {
        let mut inner = self.lock();
        inner.versions.retain(|_, stats| Arc::strong_count(stats) > 1);
        inner.agents.retain(|_, stats| Arc::strong_count(stats) > 1);
    }
}

#[cfg(test)]
mod tests;
