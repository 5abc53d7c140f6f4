//! All guards together: those that the judge answers from our own counts, and those that ask Prometheus.
//!
//! Any breach is a breach, the judge's first for it is the quicker; all must pass to pass. What is no data holds.

use std::time::Duration;

use super::model::Breach;
use super::prometheus::Queries;
use super::rollout::Judgement;
use crate::judge::{Judge, Verdict};

/// `at` is the judge's time.
pub fn together(judge: &Judge, at: Duration, queries: &Queries) -> Judgement {
    let (own, asked) = (judge.verdict(at), queries.verdict());
    if own == Verdict::Breach
        && let Some(reading) = judge.readings(at).into_iter().find(|reading| reading.verdict == Verdict::Breach)
    {
        return Judgement::Breach(Breach::Guard { reading: reading.into() });
    }
    if let Some(reading) = queries.breach() {
        return Judgement::Breach(Breach::Query { reading });
    }
    match Verdict::all([own, asked]) {
        Verdict::Pass => Judgement::Pass,
        Verdict::Hold | Verdict::Breach => Judgement::Silent,
    }
}
