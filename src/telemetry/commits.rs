//! What the store's writer counts: commits by result, how long they took, how many wait.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct CommitFigures {
    results: IntCounterVec,
    seconds: Histogram,
    pending: IntGauge,
}

impl Default for CommitFigures {
    fn default() -> Self {
        let results = Opts::new("pointsman_store_commits_total", "Commits to the store, by how they ended.");
        let seconds = HistogramOpts::new("pointsman_store_commit_seconds", "How long commits took, to the disk.")
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0]);
        let pending =
            "Changes that are not in the store yet; those that are in effect already are tried until they are.";
        // Constant names that every unit test of the writer makes.
        let figures = Self {
            results: IntCounterVec::new(results, &["result"]).expect("a sound name"),
            seconds: Histogram::with_opts(seconds).expect("sound buckets"),
            pending: IntGauge::new("pointsman_store_commits_pending", pending).expect("a sound name"),
        };
        for result in ["success", "failure"] {
            figures.results.with_label_values(&[result]);
        }
        figures
    }
}

impl CommitFigures {
    pub fn committed(&self, took: Duration, success: bool) {
        self.results.with_label_values(&[if success { "success" } else { "failure" }]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub fn queued(&self) {
        self.pending.inc();
    }

    pub fn answered(&self) {
        self.pending.dec();
    }

    /// For [`super::metrics::Metrics::register`].
    pub fn collectors(&self) -> [Box<dyn Collector>; 3] {
        [Box::new(self.results.clone()), Box::new(self.seconds.clone()), Box::new(self.pending.clone())]
    }

    #[cfg(test)]
    pub fn counted(&self) -> (u64, u64, i64) {
        let count = |result| self.results.with_label_values(&[result]).get();
        (count("success"), count("failure"), self.pending.get())
    }
}
