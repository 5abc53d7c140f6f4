//! Which figures there are: one set per version and agent, for as long as someone holds it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{VersionLabels, VersionStats, bump};
use crate::telemetry::bell::Bell;

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
pub(super) struct OwnLine(AtomicU64);

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
    inner: Mutex<RegistryInner>,
}

#[derive(Default)]
struct RegistryInner {
    versions: HashMap<VersionLabels, Arc<VersionStats>>,
    agents: HashMap<(Arc<str>, Arc<str>), Arc<AgentStats>>,
}

impl StatsRegistry {
    pub fn new(workers: usize) -> Self {
        Self { workers, bell: Arc::default(), inner: Mutex::default() }
    }

    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    fn lock(&self) -> MutexGuard<'_, RegistryInner> {
        // A panic under this lock can leave nothing half-done: each use is one map operation.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
