//! One guard at work.

mod readings;

use std::time::Duration;

use super::against::{self, AgainstTest};
use super::checkpoint::{self, GuardMemory, TestMemory};
use super::counts::{Question, Share, allowed_share};
use super::evidence::{AboveTest, Evidence};
use super::threshold::Threshold;
use super::window::Windows;
use super::{Counts, GuardSpec, GuardTest, Tally, Verdict};

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
    /// The most requests that were in flight at once; only an error rate counts them.
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
    Above(AboveTest),
    // Apart, so that the other kinds stay small.
    Against(Box<AgainstTest>),
}

impl Test {
    /// Memory of another kind of test than the guard's is none.
    fn of(guard: &GuardSpec, memory: &TestMemory) -> Self {
        match guard.test {
            GuardTest::Windowed { limit, window, min_requests } => Self::Window(Threshold {
                allowed: allowed_share(guard.metric, limit),
                span: window,
                min_requests: min_requests.max(1),
            }),
            GuardTest::Above { limit, confidence } => {
                let evidence = match memory {
                    TestMemory::Above(evidence) => evidence.clone(),
                    _ => Evidence::new(),
                };
                Self::Above(AboveTest::new(allowed_share(guard.metric, limit), confidence, evidence))
            }
            GuardTest::WorseThanStable { margin, confidence, .. } => {
                let memory = match memory {
                    TestMemory::Against(memory) => against::Memory::clone(memory),
                    _ => against::Memory::of(Tally::default()),
                };
                Self::Against(Box::new(AgainstTest::new(margin, confidence, memory)))
            }
        }
    }
}

impl Watch {
    pub(super) fn new(guard: GuardSpec, canary: &Counts, stable: &Counts) -> Self {
        let test = match guard.test {
            GuardTest::Windowed { .. } => TestMemory::Window,
            GuardTest::Above { .. } => TestMemory::Above(Evidence::new()),
            GuardTest::WorseThanStable { .. } => {
                TestMemory::Against(Box::new(against::Memory::of(Question::of(&guard).ask(stable))))
            }
        };
        let none = Tally::default();
        let blank = GuardMemory {
            guard: checkpoint::name(&guard),
            canary: none,
            stable: none,
            step_began_at: 0,
            breached: false,
            test,
        };
        Self::resume(guard, &blank, canary, stable)
    }

    /// Goes on from what is remembered; the counts are the baselines of what is to come.
    pub(super) fn resume(guard: GuardSpec, memory: &GuardMemory, canary: &Counts, stable: &Counts) -> Self {
        let question = Question::of(&guard);
        let side = |since_start, counts| Side { since_start, latest: question.ask(counts) };
        Self {
            guard,
            question,
            test: Test::of(&guard, &memory.test),
            canary: side(memory.canary, canary),
            stable: side(memory.stable, stable),
            in_flight_max: canary.in_flight,
            step_began_at: memory.step_began_at,
            breached: memory.breached,
        }
    }

    pub(super) fn memory(&self) -> GuardMemory {
        GuardMemory {
            guard: checkpoint::name(&self.guard),
            canary: self.canary.since_start,
            stable: self.stable.since_start,
            step_began_at: self.step_began_at,
            breached: self.breached,
            test: match &self.test {
                Test::Window(_) => TestMemory::Window,
                Test::Above(test) => TestMemory::Above(test.memory()),
                Test::Against(test) => TestMemory::Against(Box::new(test.memory())),
            },
        }
    }

    pub(super) fn observe(&mut self, now: Duration, canary: &Counts, stable: &Counts, windows: &Windows) {
        let pending = self.newly_pending(canary.in_flight);
        let new = self.canary.advance(self.question.ask(canary)).plus(Tally::new(pending, 0));
        let breached = match &mut self.test {
            Test::Window(threshold) => threshold.is_exceeded(windows.tally(threshold.span, self.question, now)),
            Test::Above(test) => {
                test.take(new);
                test.is_reached()
            }
            Test::Against(test) => {
                test.take(new, self.stable.advance(self.question.ask(stable)));
                test.is_reached()
            }
        };
        self.breached |= breached;
    }

    /// By how much the requests in flight exceed their highest number so far. Counting those as good can only
    /// lower the evidence; see the room's page for why it is done.
    fn newly_pending(&mut self, in_flight: u64) -> u64 {
        if self.question != Question::Share(Share::Failed) {
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
            Test::Window(_) | Test::Above(_) => self.canary.since_start.requests,
        }
    }
}
