//! How writing down where conversations stand goes, and what was found at the start.

use std::time::SystemTime;

use prometheus::core::Collector;
use prometheus::{Gauge, IntCounterVec, IntGaugeVec, Opts};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct CheckpointFigures {
    results: IntCounterVec,
    newest: Gauge,
    taken_up: IntGaugeVec,
}

impl Default for CheckpointFigures {
    fn default() -> Self {
        let results = Opts::new(
            "pointsman_pins_checkpoints_total",
            "Times that changed conversations were written to the store, by how it ended.",
        );
        let taken_up = Opts::new(
            "pointsman_pins_taken_up",
            "What the start found in the store: conversations taken up, those left out (their version is gone), and \
             documents that could not be read.",
        );
        let newest = "When the newest checkpoint of conversations was complete.";
        // Constant names that every unit test of control makes.
        let figures = Self {
            results: IntCounterVec::new(results, &["result"]).expect("a sound name"),
            newest: Gauge::new("pointsman_pins_checkpoint_timestamp_seconds", newest).expect("a sound name"),
            taken_up: IntGaugeVec::new(taken_up, &["what"]).expect("a sound name"),
        };
        for result in ["success", "failure"] {
            figures.results.with_label_values(&[result]);
        }
        figures
    }
}

impl CheckpointFigures {
    pub fn ended(&self, success: bool) {
        self.results.with_label_values(&[if success { "success" } else { "failure" }]).inc();
        if success {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.newest.set(now.as_secs_f64());
        }
    }

    pub fn started(&self, taken_up: usize, left_out: usize, unreadable: usize) {
        for (what, count) in [("conversations", taken_up), ("left_out", left_out), ("unreadable", unreadable)] {
            self.taken_up.with_label_values(&[what]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// For [`super::metrics::Metrics::register`].
    pub fn collectors(&self) -> [Box<dyn Collector>; 3] {
        [Box::new(self.results.clone()), Box::new(self.newest.clone()), Box::new(self.taken_up.clone())]
    }

    #[cfg(test)]
    pub fn counted(&self) -> (u64, u64) {
        let count = |result| self.results.with_label_values(&[result]).get();
        (count("success"), count("failure"))
    }
}
