//! What is counted per version, on the hot path.
//!
//! Each worker has a shard of its own and is its only writer, so a count is a plain load, add and
//! store on a cache line that no other core writes. Readers (the judge, the scrape) sum the shards;
//! they may miss an increment of this very instant, never one that happened before.

mod exchange;
mod histogram;
mod outcome;
mod protection;
mod registry;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::bell::Bell;
use super::endpoints::Ejections;
use histogram::Histogram;

pub use exchange::{Exchange, Usage};
pub use histogram::{Distribution, HISTOGRAM_BUCKETS, bucket_end, bucket_of, bucket_start};
pub use outcome::{Outcome, StatusClass, StreamEnd};
pub use protection::{BreakerPhase, BreakerState, COUNT_MAX, Change, Protection, RetryResult, WindowStart};
pub use registry::{AgentStats, StatsRegistry};
use streams::StreamShard;
pub use streams::StreamTotals;

/// Adds to a counter that only this thread writes. Not for counters with several writers.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// One worker's counts for one version. Aligned, so that no two workers' counts share a cache line.
#[repr(align(64))]
struct Shard {
    started: AtomicU64,
    ended: AtomicU64,
    outcomes: [[AtomicU64; StatusClass::ALL.len()]; Outcome::ALL.len()],
    latency: Histogram,
    first_byte: Histogram,
    retries: [AtomicU64; RetryResult::ALL.len()],
    /// Made at the first exchange that has anything to count there.
    streams: OnceLock<Box<StreamShard>>,
}

impl Shard {
    fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            outcomes: Default::default(),
            latency: Histogram::new(),
            first_byte: Histogram::new(),
            retries: Default::default(),
            streams: OnceLock::new(),
        }
    }
}

impl Shard {
    fn streams(&self) -> &StreamShard {
        self.streams.get_or_init(|| Box::new(StreamShard::new()))
    }
}

/// The names that label every figure of a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionLabels {
    pub environment: Arc<str>,
    pub agent: Arc<str>,
    pub version: Arc<str>,
}

/// All figures of one version in one environment. Outlives the tables that point to it.
pub struct VersionStats {
    pub labels: VersionLabels,
    /// Of its endpoints.
    pub ejections: Ejections,
    /// By worker; made when the worker first serves this version, so that idle versions cost nothing.
    shards: Box<[OnceLock<Box<Shard>>]>,
    /// Whether a judge watches: then each outcome rings its bell.
    guarded: AtomicBool,
    bell: Arc<Bell>,
    pub protection: Protection,
}

/// Sums over all workers at one moment. Only ever grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub started: u64,
    pub ended: u64,
    pub outcomes: [[u64; StatusClass::ALL.len()]; Outcome::ALL.len()],
    pub latency: Distribution,
    pub first_byte: Distribution,
    pub retries: [u64; RetryResult::ALL.len()],
    pub streams: StreamTotals,
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
        let (ejections, protection) = (Ejections::default(), Protection::default());
        Self { labels, ejections, shards, guarded: AtomicBool::new(false), bell, protection }
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
        // What the breaker answers at once says nothing of how long the version takes.
        if exchange.outcome.counts() && exchange.outcome != Outcome::CircuitOpen {
            shard.latency.record(exchange.latency);
            if let Some(first_byte) = exchange.first_byte {
                shard.first_byte.record(first_byte);
            }
        }
        if StreamShard::wants(exchange) {
            shard.streams().ended(exchange);
        }
        // Last, and as a release: who sees this end also sees its start and what was counted of it.
        shard.ended.store(shard.ended.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        if self.guarded.load(Ordering::Relaxed) {
            self.bell.ring();
        }
    }

    /// Worker `worker` passed on `count` events with content, each `gap` after the one before it. Only that
    /// worker's thread may call this.
    pub fn between_tokens(&self, worker: usize, gap: Duration, count: u32) {
        self.shard(worker).streams().between_tokens.record_many(gap, count);
    }

    /// Worker `worker` had a failure that may be tried again. Only that worker's thread may call this.
    pub fn retry(&self, worker: usize, result: RetryResult) {
        bump(&self.shard(worker).retries[result as usize], 1);
    }

    /// Exchanges begun, by all workers.
    pub fn requests(&self) -> u64 {
        self.live().map(|shard| shard.started.load(Ordering::Relaxed)).sum()
    }

    /// Exchanges that say something of the version, and those of them that failed; without those that its circuit
    /// breaker did not let through.
    pub fn evidence(&self) -> (u64, u64) {
        let ended = |outcome: Outcome| {
            let classes = self.live().flat_map(|shard| &shard.outcomes[outcome as usize]);
            classes.map(|count| count.load(Ordering::Relaxed)).sum::<u64>()
        };
        let all = Outcome::ALL.into_iter().filter(|outcome| outcome.counts() && *outcome != Outcome::CircuitOpen);
        all.fold((0, 0), |(judged, errors), outcome| {
            let count = ended(outcome);
            (judged + count, errors + if outcome.is_error() { count } else { 0 })
        })
    }

    fn live(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| &**shard)
    }

    /// Asks for, or does without, a ring of the judge's bell at each outcome.
    pub fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::Relaxed);
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.read(&mut totals, Histograms::ALL);
        totals
    }

    /// As [`Self::totals`], into a buffer: allocates nothing. Histograms that are not asked for stay as they are;
    /// they are most of what there is to add up.
    pub fn read(&self, totals: &mut Totals, histograms: Histograms) {
        (totals.started, totals.ended, totals.outcomes, totals.retries) = Default::default();
        if histograms.latency {
            totals.latency.clear();
        }
        if histograms.first_byte {
            totals.first_byte.clear();
        }
        totals.streams.clear(histograms);
        for shard in self.live() {
            // `ended` first: an exchange that ends between the two reads must not make in-flight negative.
            totals.ended += shard.ended.load(Ordering::Acquire);
            totals.started += shard.started.load(Ordering::Relaxed);
            for (sum, row) in totals.outcomes.iter_mut().flatten().zip(shard.outcomes.iter().flatten()) {
                *sum += row.load(Ordering::Relaxed);
            }
            for (sum, count) in totals.retries.iter_mut().zip(&shard.retries) {
                *sum += count.load(Ordering::Relaxed);
            }
            if histograms.latency {
                totals.latency.add(&shard.latency);
            }
            if histograms.first_byte {
                totals.first_byte.add(&shard.first_byte);
            }
            if let Some(streams) = shard.streams.get() {
                totals.streams.add(streams, histograms);
            }
        }
    }
}

/// Which histograms to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histograms {
    pub latency: bool,
    pub first_byte: bool,
    pub first_token: bool,
    pub between_tokens: bool,
    pub input_tokens: bool,
    pub output_tokens: bool,
    pub cost: bool,
}

impl Histograms {
    pub const ALL: Self = Self {
        latency: true,
        first_byte: true,
        first_token: true,
        between_tokens: true,
        input_tokens: true,
        output_tokens: true,
        cost: true,
    };
}
