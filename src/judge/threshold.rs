//! The windowed guard's arithmetic: a limit on the share of bad answers, once there are enough of them.

use std::time::Duration;

use super::{Forecast, Tally, Verdict};

/// Up to where the number of bad requests to a breach is searched.
pub(super) const BAD_TO_BREACH_MAX: u64 = 1_000;

/// How far a forecast looks ahead.
pub(super) const FORECAST_REQUESTS: u64 = 20;

/// A windowed threshold, as a limit on the share of bad answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threshold {
    pub(super) allowed: f64,
    pub(super) span: Duration,
    /// At least 1.
    pub(super) min_requests: u64,
}

impl Threshold {
    pub(super) fn verdict(&self, tally: Tally, judged_in_step: u64) -> Verdict {
        if self.is_exceeded(tally) {
            Verdict::Breach
        } else if tally.requests >= self.min_requests && judged_in_step >= self.min_requests {
            Verdict::Pass
        } else {
            Verdict::Hold
        }
    }

    pub(super) fn is_exceeded(&self, tally: Tally) -> bool {
        tally.requests >= self.min_requests && self.is_exceeded_by_share(tally)
    }

    pub(super) fn is_exceeded_by_share(&self, tally: Tally) -> bool {
        tally.bad >= self.bad_too_many(tally.requests)
    }

    /// The first number of bad ones among `requests` that is above the limit. "p95 above the limit" is the same
    /// as "more than 5 % slower than the limit". The small addition keeps 5 % of 100 from being 4.999….
    fn bad_too_many(&self, requests: u64) -> u64 {
        (self.allowed * requests as f64 + 1e-9) as u64 + 1
    }

    pub(super) fn evidence(&self, tally: Tally) -> f64 {
        let enough = (tally.requests as f64 / self.min_requests as f64).min(1.0);
        let bad_too_many = self.bad_too_many(tally.requests.max(self.min_requests)) as f64;
        if enough < 1.0 { enough * (tally.bad as f64 / bad_too_many).min(1.0) } else { tally.bad as f64 / bad_too_many }
    }

    pub(super) fn bad_to_breach(&self, tally: Tally) -> Option<u64> {
        (1..=BAD_TO_BREACH_MAX).find(|more| self.is_exceeded(tally.plus(Tally::new(*more, *more))))
    }

    /// As if none of those in the window left it meanwhile.
    pub(super) fn forecast(&self, tally: Tally) -> Option<Forecast> {
        let requests = self.min_requests.saturating_sub(tally.requests).max(FORECAST_REQUESTS);
        Forecast::search(requests, |bad| self.is_exceeded(tally.plus(Tally::new(requests, bad))))
    }
}
