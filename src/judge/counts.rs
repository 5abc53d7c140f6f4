//! What the judge reads of a version, and the yes/no questions that guards put to it.

use std::time::Duration;

use super::metric::Figure;
use super::scale::CAP_MAX;
use super::{GuardSpec, GuardTest, Limit, Metric};
use crate::telemetry::stats::{Distribution, Totals};

/// A version's figures, cumulative since any moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exchanges that ended and say something of the version.
    pub judged: u64,
    /// Those of them that the version is to blame for.
    pub errors: u64,
    /// Streams whose end says something of the version.
    pub streams: u64,
    /// Those of them that failed: an error within, cut short, stalled.
    pub stream_errors: u64,
    /// Just now; not cumulative.
    pub in_flight: u64,
    /// To the last byte, of the judged.
    pub latency: Distribution,
    /// To the response head, of the judged that had one.
    pub first_byte: Distribution,
    /// To the first event with content, of the judged that had one.
    pub first_token: Distribution,
    /// Between one event with content and the next.
    pub between_tokens: Distribution,
    /// Of each of the judged that told them.
    pub output_tokens: Distribution,
    /// Of each of the judged whose cost is known, in millionths of the currency.
    pub cost: Distribution,
}

impl From<Totals> for Counts {
    fn from(totals: Totals) -> Self {
        Self {
            judged: totals.judged(),
            errors: totals.errors(),
            streams: totals.streams.judged(),
            stream_errors: totals.streams.errors(),
            in_flight: totals.in_flight(),
            latency: totals.latency,
            first_byte: totals.first_byte,
            first_token: totals.streams.first_token,
            between_tokens: totals.streams.between_tokens,
            output_tokens: totals.streams.output,
            cost: totals.streams.cost,
        }
    }
}

/// The answers to a yes/no question: of `requests`, `bad` said yes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// A yes/no question whose answers are counted as such. Another one (a refused tool) is a variant
/// here with its count in [`Counts`] and a name in `judge/metric.rs`; windows and tests take it as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Failed,
    StreamFailed,
}

impl Share {
    pub(super) fn of(self, counts: &Counts) -> Tally {
        match self {
            Self::Failed => Tally::new(counts.judged, counts.errors),
            Self::StreamFailed => Tally::new(counts.streams, counts.stream_errors),
        }
    }

    /// What it is asked of, and what a yes is called, in a sentence: "3 of 100 requests failed".
    pub(super) fn as_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Failed => ("requests", "failed"),
            Self::StreamFailed => ("streams", "failed"),
        }
    }
}

/// Which histogram of times a metric reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    Total,
    FirstByte,
    FirstToken,
    BetweenTokens,
}

impl Timing {
    pub(super) const ALL: [Self; 4] = [Self::Total, Self::FirstByte, Self::FirstToken, Self::BetweenTokens];

    pub(super) fn of(self, counts: &Counts) -> &Distribution {
        match self {
            Self::Total => &counts.latency,
            Self::FirstByte => &counts.first_byte,
            Self::FirstToken => &counts.first_token,
            Self::BetweenTokens => &counts.between_tokens,
        }
    }
}

/// What is counted in each request, and which histogram has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    OutputTokens,
    Cost,
}

impl Amount {
    pub(super) const ALL: [Self; 2] = [Self::OutputTokens, Self::Cost];

    pub(super) fn of(self, counts: &Counts) -> &Distribution {
        match self {
            Self::OutputTokens => &counts.output_tokens,
            Self::Cost => &counts.cost,
        }
    }

    /// How many of the histogram's units make one of the metric's.
    pub(super) fn per_unit(self) -> f64 {
        match self {
            Self::OutputTokens => 1.0,
            Self::Cost => 1e6,
        }
    }

    /// In the histogram's units, rounded up: in the version's favour.
    pub(super) fn in_units(self, amount: f64) -> u64 {
        (amount * self.per_unit()).ceil() as u64
    }

    /// In the metric's unit.
    pub(super) fn cap_max(self) -> f64 {
        CAP_MAX as f64 / self.per_unit()
    }
}

/// What a number of requests came to together, in the histogram's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) requests: u64,
    pub(super) amount: u64,
}

impl Total {
    pub(super) fn of(amounts: &Distribution) -> Self {
        Self { requests: amounts.count(), amount: amounts.sum }
    }

    /// What came since `earlier`. Counts that ran back give nothing.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            amount: self.amount.saturating_sub(earlier.amount),
        }
    }

    pub(super) fn mean(self) -> Option<f64> {
        (self.requests > 0).then(|| self.amount as f64 / self.requests as f64)
    }
}

/// What a guard asks of each request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Question {
    Share(Share),
    /// To the histogram's precision, in the version's favour: up to 6 % above the limit is not yet slower.
    SlowerThan(Timing, Duration),
    /// Likewise, in the histogram's units. It does not decide: a guard on a mean shows it, and counts by it.
    MoreThan(Amount, u64),
}

impl Question {
    /// A latency guard without a duration (the configuration refuses it) finds nothing slow.
    pub(super) fn of(guard: &GuardSpec) -> Self {
        match guard.metric.figure() {
            Figure::Share(share) => Self::Share(share),
            Figure::Quantile(timing, _) => Self::SlowerThan(timing, slow(guard)),
            Figure::Mean(amount) => Self::MoreThan(amount, amount.in_units(much(guard))),
        }
    }

    pub(super) fn ask(self, counts: &Counts) -> Tally {
        match self {
            Self::Share(share) => share.of(counts),
            Self::SlowerThan(timing, limit) => {
                let times = timing.of(counts);
                Tally::new(times.count(), times.above(limit))
            }
            Self::MoreThan(amount, limit) => {
                let amounts = amount.of(counts);
                Tally::new(amounts.count(), amounts.above_units(limit))
            }
        }
    }
}

fn slow(guard: &GuardSpec) -> Duration {
    match guard.test {
        GuardTest::Windowed { limit: Limit::Duration(limit), .. }
        | GuardTest::Above { limit: Limit::Duration(limit), .. }
        | GuardTest::WorseThanStable { slower_than: Some(limit), .. } => limit,
        _ => Duration::MAX,
    }
}

/// The limit, or the cap where there is none.
fn much(guard: &GuardSpec) -> f64 {
    match guard.test {
        GuardTest::Windowed { limit: Limit::Mean(limit), .. } | GuardTest::Above { limit: Limit::Mean(limit), .. } => {
            limit
        }
        GuardTest::WorseThanStable { cap: Some(cap), .. } => cap,
        _ => f64::MAX,
    }
}

/// The share of bad answers that a guard with a limit allows: the limit itself, or 1 − quantile.
pub(super) fn allowed_share(metric: Metric, limit: Limit) -> f64 {
    match (metric.quantile(), limit) {
        (Some(quantile), _) => 1.0 - quantile,
        (None, Limit::Rate(rate)) => rate,
        // The configuration refuses it; nothing is above the whole.
        (None, Limit::Duration(_) | Limit::Mean(_)) => 1.0,
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
