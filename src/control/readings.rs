//! All guards together: those that the judge answers from our own counts, and those that ask Prometheus.
//!
//! Any breach is a breach, the judge's first for it is the quicker; all must pass to pass. What is no data holds.

use std::time::Duration;

use super::model::Breach;
use super::prometheus::Queries;
use super::rollout::Judgement;
use crate::judge::{Judge, Reading, Verdict};

/// `at` is the judge's time.
/// `as_written`: a reading as its guard's author knows it.
pub fn together(judge: &Judge, at: Duration, queries: &Queries, as_written: impl Fn(Reading) -> Reading) -> Judgement {
    let (own, asked) = (judge.verdict(at), queries.verdict());
    if own == Verdict::Breach
        && let Some(reading) = judge.breach(at)
    {
        return Judgement::Breach(Breach::Guard { reading: storable(as_written(reading)).into() });
    }
    if let Some(reading) = queries.breach() {
        return Judgement::Breach(Breach::Query { reading });
    }
    match Verdict::all([own, asked]) {
        Verdict::Pass => Judgement::Pass,
        Verdict::Hold | Verdict::Breach => Judgement::Silent,
    }
}

/// JSON has no infinities: a bound that is none becomes the largest number.
fn storable(mut reading: Reading) -> Reading {
    let finite = |value: f64| if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) };
    for figures in [Some(&mut reading.canary), reading.stable.as_mut()].into_iter().flatten() {
        figures.estimate = figures.estimate.map(finite);
        figures.interval = figures.interval.map(|(low, high)| (finite(low), finite(high)));
    }
    reading.limit = reading.limit.map(finite);
    reading.evidence = finite(reading.evidence);
    reading
}
