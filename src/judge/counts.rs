//! What the judge reads of a version, and the yes/no questions that guards put to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::metric::Figure;
use super::{GuardSpec, GuardTest, Limit, Metric};
use crate::telemetry::stats::{Distribution, Totals};

/// A version's figures, cumulative since any moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exchanges that ended and say something of the version.
    pub judged: u64,
    /// Those of them that the version is to blame for.
    pub errors: u64,
    /// Just now; not cumulative.
    pub in_flight: u64,
    /// To the last byte, of the judged.
    pub latency: Distribution,
    /// To the response head, of the judged that had one.
    pub first_byte: Distribution,
}

impl From<Totals> for Counts {
    fn from(totals: Totals) -> Self {
        Self {
            judged: totals.judged(),
            errors: totals.errors(),
            in_flight: totals.in_flight(),
            latency: totals.latency,
            first_byte: totals.first_byte,
        }
    }
}

/// The answers to a yes/no question: of `requests`, `bad` said yes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub requests: u64,
    /// Never more than `requests`.
    pub bad: u64,
}

impl Tally {
    pub fn new(requests: u64, bad: u64) -> Self {
        Self { requests, bad: bad.min(requests) }
    }

    pub fn good(self) -> u64 {
        self.requests - self.bad
    }

    /// 0 where there were no requests.
    pub fn share(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.bad as f64 / self.requests as f64 }
    }

    /// What came since `earlier`. Counts that ran back (a version's series began anew) give nothing.
    pub fn since(self, earlier: Self) -> Self {
        Self::new(self.requests.saturating_sub(earlier.requests), self.bad.saturating_sub(earlier.bad))
    }

    pub fn plus(self, other: Self) -> Self {
        Self::new(self.requests.saturating_add(other.requests), self.bad.saturating_add(other.bad))
    }

    /// The same share over half as many, so that running figures forget.
    pub fn halved(self) -> Self {
        Self::new(self.requests / 2, self.bad / 2)
    }
}

/// A yes/no question whose answers are counted as such. Another one (a broken stream, a refused tool) is a variant
/// here with its count in [`Counts`] and a name in `judge/metric.rs`; windows and tests take it as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Failed,
}

impl Share {
    pub(super) fn of(self, counts: &Counts) -> Tally {
        match self {
            Self::Failed => Tally::new(counts.judged, counts.errors),
        }
    }

    /// What a yes is called in a sentence: "3 of 100 requests …".
    pub(super) fn as_words(self) -> &'static str {
        match self {
            Self::Failed => "failed",
        }
    }
}

/// Which histogram a latency metric reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    Total,
    FirstByte,
}

impl Timing {
    pub(super) fn of(metric: Metric) -> Option<Self> {
        match metric.figure() {
            Figure::Share(_) => None,
            Figure::Quantile(timing, _) => Some(timing),
        }
    }
}

/// What a guard asks of each request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Question {
    Share(Share),
    /// To the histogram's precision, in the version's favour: up to 6 % above the limit is not yet slower.
    SlowerThan(Timing, Duration),
}

impl Question {
    /// A latency guard without a duration (the configuration refuses it) finds nothing slow.
    pub(super) fn of(guard: &GuardSpec) -> Self {
        let timing = match guard.metric.figure() {
            Figure::Share(share) => return Self::Share(share),
            Figure::Quantile(timing, _) => timing,
        };
        let limit = match guard.test {
            GuardTest::Windowed { limit: Limit::Duration(limit), .. }
            | GuardTest::Above { limit: Limit::Duration(limit), .. }
            | GuardTest::WorseThanStable { slower_than: Some(limit), .. } => limit,
            _ => Duration::MAX,
        };
        Self::SlowerThan(timing, limit)
    }

    pub(super) fn ask(self, counts: &Counts) -> Tally {
        match self {
            Self::Share(share) => share.of(counts),
            Self::SlowerThan(Timing::Total, limit) => slower(&counts.latency, limit),
            Self::SlowerThan(Timing::FirstByte, limit) => slower(&counts.first_byte, limit),
        }
    }
}

fn slower(times: &Distribution, limit: Duration) -> Tally {
    Tally::new(times.count(), times.above(limit))
}

/// The share of bad answers that a guard with a limit allows: the limit itself, or 1 − quantile.
pub(super) fn allowed_share(metric: Metric, limit: Limit) -> f64 {
    match (metric.quantile(), limit) {
        (Some(quantile), _) => 1.0 - quantile,
        (None, Limit::Rate(rate)) => rate,
        // The configuration refuses it; nothing is above the whole.
        (None, Limit::Duration(_)) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_run_back_give_nothing() {
        assert_eq!(Tally::new(10, 3).since(Tally::new(50, 1)), Tally::new(0, 0));
        assert_eq!(Tally::new(60, 3).since(Tally::new(50, 1)), Tally::new(10, 2));
    }

    #[test]
    fn a_latency_question_reads_its_own_histogram() {
        let mut counts = Counts { judged: 3, errors: 1, ..Counts::default() };
        for ms in [100, 2_000, 4_000] {
            counts.latency.record(Duration::from_millis(ms));
        }
        counts.first_byte.record(Duration::from_millis(50));
        let limit = Duration::from_secs(1);
        assert_eq!(Question::Share(Share::Failed).ask(&counts), Tally::new(3, 1));
        assert_eq!(Question::SlowerThan(Timing::Total, limit).ask(&counts), Tally::new(3, 2));
        assert_eq!(Question::SlowerThan(Timing::FirstByte, limit).ask(&counts), Tally::new(1, 0));
        assert_eq!(Question::SlowerThan(Timing::Total, Duration::MAX).ask(&counts), Tally::new(3, 0));
    }
}
