//! Guards, windows, tests and verdicts. Pure: counts and times come in, verdicts go out.

use std::time::Duration;

/// What a guard looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    ErrorRate,
    LatencyP50,
    LatencyP90,
    LatencyP95,
    LatencyP99,
    TtfbP95,
}

/// A condition on a version's live figures that must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardSpec {
    pub metric: Metric,
    pub test: GuardTest,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GuardTest {
    /// Breach when the figure over the last `window` is above `limit` and at least `min_requests` are in it.
    Windowed { limit: Limit, window: Duration, min_requests: u64 },
    /// Anytime-valid against a fixed limit: the chance of ever blaming a version that keeps the limit is at most 1 − confidence.
    Above { limit: Limit, confidence: f64 },
    /// Anytime-valid against stable: the canary's rate may exceed stable's by at most `margin`.
    /// For a latency metric `slower_than` says what counts as slow.
    WorseThanStable { margin: f64, slower_than: Option<Duration>, confidence: f64 },
}

/// A limit in the metric's own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// For `error_rate`, 0..=1.
    Rate(f64),
    /// For latency metrics.
    Duration(Duration),
}
