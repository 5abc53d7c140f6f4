//! Guards on means: of a window, and anytime-valid on winsorised amounts (`judge/scale.rs` has the mathematics).

use std::time::Duration;

use super::against::AgainstTest;
use super::answers::{Answers, Sum};
use super::counts::{Amount, Total};
use super::evidence::AboveTest;
use super::scale::{LEVELS, Scale};
use super::{Counts, Verdict};

/// A limit on the mean over a window, once there are enough requests in it. No cap: it is the mean that a dashboard shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct MeanThreshold {
    pub(super) amount: Amount,
    /// In the metric's unit.
    pub(super) limit: f64,
    pub(super) span: Duration,
    /// At least 1.
    pub(super) min_requests: u64,
}

impl MeanThreshold {
    pub(super) fn verdict(&self, total: Total, judged_in_step: u64) -> Verdict {
        if self.is_exceeded(total) {
            Verdict::Breach
        } else if total.requests >= self.min_requests && judged_in_step >= self.min_requests {
            Verdict::Pass
        } else {
            Verdict::Hold
        }
    }

    pub(super) fn is_exceeded(&self, total: Total) -> bool {
        total.requests >= self.min_requests && self.mean(total).is_some_and(|mean| mean > self.limit)
    }

    /// In the metric's unit.
    pub(super) fn mean(&self, total: Total) -> Option<f64> {
        total.mean().map(|mean| mean / self.amount.per_unit())
    }

    /// Towards the limit, and towards the number of requests where that is the nearer to nothing; under 1 without a breach.
    pub(super) fn evidence(&self, total: Total) -> f64 {
        let enough = (total.requests as f64 / self.min_requests as f64).min(1.0);
        let near = self.mean(total).map_or(0.0, |mean| mean / self.limit);
        if self.is_exceeded(total) { near } else { (enough * near.min(1.0)).min(LARGEST_HELD) }
    }
}

/// A mean at the limit is not above it: its evidence stays below a breach.
const LARGEST_HELD: f64 = 0.999;

/// An anytime-valid guard on a mean, with what it has taken in.
#[derive(Clone, Debug)]
pub(super) struct MeanTest {
    amount: Amount,
    scale: Scale,
    canary: Side,
    stable: Side,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Above(Box<AboveTest<LEVELS>>),
    Against(Box<AgainstTest<LEVELS>>),
}

/// A version's answers: since the trial began, and the counter's as of the last look.
#[derive(Clone, Debug)]
struct Side {
    since_start: Answers<LEVELS>,
    latest: Answers<LEVELS>,
}

impl Side {
    fn new(latest: Answers<LEVELS>) -> Self {
        Self { since_start: Answers::default(), latest }
    }

    /// Returns what is new.
    fn advance(&mut self, to: Answers<LEVELS>) -> Answers<LEVELS> {
        let new = to.since(&self.latest);
        self.latest = to;
        self.since_start = self.since_start.plus(&new);
        new
    }
}

impl MeanTest {
    /// Against a fixed limit, in the metric's unit as the cap is.
    pub(super) fn above(amount: Amount, limit: f64, cap: f64, confidence: f64, canary: &Counts) -> Self {
        let make = |scale: &Scale, _: &Answers<LEVELS>| {
            let null = scale.share_of(limit * amount.per_unit());
            Test::Above(AboveTest::new(null, confidence, scale.worth_at_least()).into())
        };
        Self::new(amount, cap, canary, &Counts::default(), make)
    }

    /// Against stable, whose mean may be exceeded by `margin`.
    pub(super) fn against(
        amount: Amount,
        margin: f64,
        cap: f64,
        confidence: f64,
        (canary, stable): (&Counts, &Counts),
    ) -> Self {
        let make = |scale: &Scale, history: &Answers<LEVELS>| {
            let margin = scale.share_of(margin * amount.per_unit());
            let worth = (scale.worth_at_least(), scale.worth_at_most());
            Test::Against(AgainstTest::new(margin, confidence, worth, history).into())
        };
        Self::new(amount, cap, canary, stable, make)
    }

    fn new(
        amount: Amount,
        cap: f64,
        canary: &Counts,
        stable: &Counts,
        test: impl FnOnce(&Scale, &Answers<LEVELS>) -> Test,
    ) -> Self {
        let scale = Scale::new(amount.in_units(cap));
        let [canary, stable] = [canary, stable].map(|counts| scale.answers(amount.of(counts)));
        let test = test(&scale, &stable);
        Self { amount, scale, canary: Side::new(canary), stable: Side::new(stable), test }
    }

    pub(super) fn observe(&mut self, canary: &Counts, stable: &Counts) {
        let answers = |counts| self.scale.answers(self.amount.of(counts));
        let new = self.canary.advance(answers(canary));
        match &mut self.test {
            Test::Above(test) => test.take(&new),
            Test::Against(test) => test.take(&new, &self.stable.advance(answers(stable))),
        }
    }

    pub(super) fn is_reached(&self) -> bool {
        match &self.test {
            Test::Above(test) => test.is_reached(),
            Test::Against(test) => test.is_reached(),
        }
    }

    /// From 0 to 1, on the logarithm's scale; a breach at 1.
    pub(super) fn evidence(&self) -> f64 {
        match &self.test {
            Test::Above(test) => test.evidence(),
            Test::Against(test) => test.evidence(),
        }
    }

    /// Canary requests that were compared with something.
    pub(super) fn judged(&self) -> u64 {
        match &self.test {
            Test::Above(_) => self.canary.since_start.requests(),
            Test::Against(test) => test.judged(),
        }
    }

    /// Plays one more request, which takes all of the cap, and beside it the usual number of stable at its mean.
    /// Says whether that is a breach.
    pub(super) fn play_one_more(&mut self) -> bool {
        let (_, stable) = self.sums();
        let answers = |level, requests| {
            let mut answers = Answers::default();
            answers.add(level, requests);
            answers
        };
        let one = answers(LEVELS - 1, 1);
        match &mut self.test {
            Test::Above(test) => test.take(&one),
            Test::Against(test) => {
                let as_usual = self.scale.worth_at_most().partition_point(|worth| *worth < stable.mean());
                test.take(&one, &answers(as_usual.min(LEVELS - 1), test.usual_stable(1)));
            }
        }
        self.is_reached()
    }

    /// Of the canary and of stable: what the winsorised amounts since the beginning came to, as shares of the cap.
    pub(super) fn sums(&self) -> (Sum, Sum) {
        let worth = self.scale.worth_about();
        (self.canary.since_start.sum(&worth), self.stable.since_start.sum(&worth))
    }

    /// A share of the cap, in the metric's unit.
    pub(super) fn in_unit(&self, share: f64) -> f64 {
        share * self.scale.cap() / self.amount.per_unit()
    }
}

#[cfg(test)]
mod tests;
