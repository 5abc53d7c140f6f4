//! One guard at work.

mod readings;

use std::time::Duration;

use super::against::AgainstTest;
use super::answers::YES_NO;
use super::counts::{Amount, Question, Share, allowed_share};
use super::evidence::AboveTest;
use super::mean::{MeanTest, MeanThreshold};
use super::threshold::Threshold;
use super::window::Windows;
use super::{Counts, GuardSpec, GuardTest, Limit, Tally, Verdict};

/// An anytime-valid guard passes a step only with this many judged requests since it began: at common limits and
/// shares, a version of which half the requests fail would have been caught on fewer (see the room's tests) …
pub(super) const REQUESTS_TO_PASS: u64 = 50;

/// … and with less evidence against it than this.
const EVIDENCE_TO_PASS: f64 = 0.5;

/// A guard and what it remembers.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    guard: GuardSpec,
    question: Question,
    test: Test,
    canary: Side,
    stable: Side,
    /// The most requests that were in flight at once; only error rates count them.
    in_flight_max: u64,
    /// Judged requests when the step began.
    step_began_at: u64,
    breached: bool,
}

/// A version's answers: since the trial began, and the counter's as of the last look.
#[derive(Clone, Copy, Debug)]
struct Side {
    since_start: Tally,
    latest: Tally,
}

impl Side {
    /// Returns what is new.
    fn advance(&mut self, to: Tally) -> Tally {
        let new = to.since(self.latest);
        self.latest = to;
        self.since_start = self.since_start.plus(new);
        new
    }
}

#[derive(Clone, Debug)]
enum Test {
    Window(Threshold),
    Above(AboveTest<2>),
    // Apart, so that the other kinds stay small.
    Against(Box<AgainstTest<2>>),
    WindowedMean(MeanThreshold),
    Mean(Box<MeanTest>),
}

impl Test {
    fn new(guard: &GuardSpec, question: Question, canary: &Counts, stable: &Counts) -> Self {
        if let Some(amount) = guard.metric.amount() {
            return Self::of_mean(guard, amount, canary, stable);
        }
        match guard.test {
            GuardTest::Windowed { limit, window, min_requests } => Self::Window(Threshold {
                allowed: allowed_share(guard.metric, limit),
                span: window,
                min_requests: min_requests.max(1),
            }),
            GuardTest::Above { limit, confidence, .. } => {
                Self::Above(AboveTest::new(allowed_share(guard.metric, limit), confidence, YES_NO))
            }
            GuardTest::WorseThanStable { margin, confidence, .. } => {
                let history = question.ask(stable).into();
                Self::Against(Box::new(AgainstTest::new(margin, confidence, (YES_NO, YES_NO), &history)))
            }
        }
    }

    /// A limit that is no number, or a missing cap (the configuration refuses both), finds nothing above it.
    fn of_mean(guard: &GuardSpec, amount: Amount, canary: &Counts, stable: &Counts) -> Self {
        let number = |limit| if let Limit::Mean(number) = limit { number } else { amount.cap_max() };
        let cap = |cap: Option<f64>| cap.unwrap_or_else(|| amount.cap_max());
        match guard.test {
            GuardTest::Windowed { limit, window, min_requests } => Self::WindowedMean(MeanThreshold {
                amount,
                limit: number(limit),
                span: window,
                min_requests: min_requests.max(1),
            }),
            GuardTest::Above { limit, cap: most, confidence } => {
                Self::Mean(Box::new(MeanTest::above(amount, number(limit), cap(most), confidence, canary)))
            }
            GuardTest::WorseThanStable { margin, cap: most, confidence, .. } => {
                Self::Mean(Box::new(MeanTest::against(amount, margin, cap(most), confidence, (canary, stable))))
            }
        }
    }
}

impl Watch {
    pub(super) fn new(guard: GuardSpec, canary: &Counts, stable: &Counts) -> Self {
        let question = Question::of(&guard);
        let side = |counts| Side { since_start: Tally::default(), latest: question.ask(counts) };
        Self {
            guard,
            question,
            test: Test::new(&guard, question, canary, stable),
            canary: side(canary),
            stable: side(stable),
            in_flight_max: canary.in_flight,
            step_began_at: 0,
            breached: false,
        }
    }

    pub(super) fn observe(&mut self, now: Duration, canary: &Counts, stable: &Counts, windows: &Windows) {
        let pending = self.newly_pending(canary.in_flight);
        let new = self.canary.advance(self.question.ask(canary)).plus(Tally::new(pending, 0));
        let breached = match &mut self.test {
            Test::Window(threshold) => threshold.is_exceeded(windows.tally(threshold.span, self.question, now)),
            Test::Above(test) => {
                test.take(&new.into());
                test.is_reached()
            }
            Test::Against(test) => {
                test.take(&new.into(), &self.stable.advance(self.question.ask(stable)).into());
                test.is_reached()
            }
            Test::WindowedMean(mean) => mean.is_exceeded(windows.total(mean.span, mean.amount, now)),
            Test::Mean(test) => {
                self.stable.advance(self.question.ask(stable));
                test.observe(canary, stable);
                test.is_reached()
            }
        };
        self.breached |= breached;
    }

    /// By how much the requests in flight exceed their highest number so far. Counting those as good can only
    /// lower the evidence; see the room's page for why it is done.
    fn newly_pending(&mut self, in_flight: u64) -> u64 {
        if !matches!(self.question, Question::Share(Share::Failed | Share::StreamFailed)) {
            return 0;
        }
        let more = in_flight.saturating_sub(self.in_flight_max);
        self.in_flight_max += more;
        more
    }

    pub(super) fn has_breached(&self) -> bool {
        self.breached
    }

    pub(super) fn step_started(&mut self) {
        self.step_began_at = self.judged();
    }

    pub(super) fn verdict(&self, now: Duration, windows: &Windows) -> Verdict {
        match &self.test {
            _ if self.breached => Verdict::Breach,
            Test::Window(threshold) => {
                let tally = windows.tally(threshold.span, self.question, now);
                threshold.verdict(tally, self.judged_in_step())
            }
            Test::Above(test) => self.anytime_verdict(test.evidence()),
            Test::Against(test) => self.anytime_verdict(test.evidence()),
            Test::WindowedMean(mean) => mean.verdict(windows.total(mean.span, mean.amount, now), self.judged_in_step()),
            Test::Mean(test) => self.anytime_verdict(test.evidence()),
        }
    }

    fn anytime_verdict(&self, evidence: f64) -> Verdict {
        if self.judged_in_step() >= REQUESTS_TO_PASS && evidence < EVIDENCE_TO_PASS {
            Verdict::Pass
        } else {
            Verdict::Hold
        }
    }

    pub(super) fn judged_in_step(&self) -> u64 {
        self.judged().saturating_sub(self.step_began_at)
    }

    /// Canary requests since the beginning that the guard could judge.
    fn judged(&self) -> u64 {
        match &self.test {
            Test::Against(test) => test.judged(),
            Test::Mean(test) => test.judged(),
            Test::Window(_) | Test::Above(_) | Test::WindowedMean(_) => self.canary.since_start.requests,
        }
    }
}
