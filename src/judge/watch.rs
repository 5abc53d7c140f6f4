//! One guard at work.

use std::time::Duration;

use super::against::{self, AgainstTest};
use super::checkpoint::{self, GuardMemory, TestMemory};
use super::counts::{Question, Share, Timing, allowed_share};
use super::evidence::{AboveTest, Evidence};
use super::threshold::{BAD_TO_BREACH_MAX, Threshold};
use super::window::Windows;
use super::{Counts, Figures, GuardSpec, GuardTest, Metric, Reading, Tally, Unit, Verdict, explain, interval};

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

    pub(super) fn reading(&self, now: Duration, windows: &Windows) -> Reading {
        let mut reading = match &self.test {
            Test::Window(threshold) => self.window_reading(threshold, now, windows),
            Test::Above(test) => self.above_reading(test),
            Test::Against(test) => self.against_reading(test),
        };
        reading.verdict = self.verdict(now, windows);
        if reading.verdict == Verdict::Breach {
            reading.evidence = reading.evidence.max(1.0);
            reading.bad_to_breach = None;
        }
        reading.explanation = explain::sentence(&reading, self.judged_in_step());
        reading
    }

    fn window_reading(&self, threshold: &Threshold, now: Duration, windows: &Windows) -> Reading {
        let tally = windows.tally(threshold.span, self.question, now);
        let mut canary = share_figures(tally, |tally| interval::at_once(tally, 0.05));
        let mut limit = threshold.allowed;
        if let Question::SlowerThan(timing, slow) = self.question {
            limit = slow.as_secs_f64();
            let is_above = threshold.is_exceeded_by_share(tally);
            (canary.estimate, canary.interval) =
                quantile_figures(self.guard.metric, threshold.span, timing, slow, is_above, now, windows);
        }
        Reading {
            canary,
            limit: Some(limit),
            evidence: threshold.evidence(tally),
            bad_to_breach: threshold.bad_to_breach(tally),
            ..self.blank_reading(self.guard.metric.unit())
        }
    }

    fn above_reading(&self, test: &AboveTest) -> Reading {
        let GuardTest::Above { limit, confidence } = self.guard.test else { return self.blank_reading(Unit::Share) };
        Reading {
            canary: anytime_figures(self.canary.since_start, confidence),
            limit: Some(allowed_share(self.guard.metric, limit)),
            evidence: test.evidence(),
            bad_to_breach: bad_to_breach(test.clone(), |test| {
                test.take(Tally::new(1, 1));
                test.evidence()
            }),
            ..self.blank_reading(Unit::Share)
        }
    }

    fn against_reading(&self, test: &AgainstTest) -> Reading {
        let GuardTest::WorseThanStable { margin, confidence, .. } = self.guard.test else {
            return self.blank_reading(Unit::Share);
        };
        let stable = anytime_figures(self.stable.since_start, confidence);
        Reading {
            canary: anytime_figures(self.canary.since_start, confidence),
            limit: stable.estimate.map(|rate| rate + margin),
            stable: Some(stable),
            evidence: test.evidence(),
            bad_to_breach: bad_to_breach(test.clone(), |test| {
                test.take(Tally::new(1, 1), Tally::new(test.usual_stable(1), 0));
                test.evidence()
            }),
            ..self.blank_reading(Unit::Share)
        }
    }

    fn blank_reading(&self, unit: Unit) -> Reading {
        Reading {
            guard: self.guard,
            verdict: Verdict::Hold,
            unit,
            canary: Figures { requests: 0, bad: 0, estimate: None, interval: None },
            stable: None,
            limit: None,
            evidence: 0.0,
            bad_to_breach: None,
            explanation: String::new(),
        }
    }
}

fn anytime_figures(tally: Tally, confidence: f64) -> Figures {
    share_figures(tally, |tally| interval::anytime(tally, (1.0 - confidence).clamp(1e-12, 1.0)))
}

fn share_figures(tally: Tally, interval: impl Fn(Tally) -> (f64, f64)) -> Figures {
    let some = tally.requests > 0;
    Figures {
        requests: tally.requests,
        bad: tally.bad,
        estimate: some.then(|| tally.share()),
        interval: some.then(|| interval(tally)),
    }
}

/// A quantile in seconds, and its interval.
fn quantile_figures(
    metric: Metric,
    span: Duration,
    timing: Timing,
    limit: Duration,
    is_above: bool,
    now: Duration,
    windows: &Windows,
) -> (Option<f64>, Option<(f64, f64)>) {
    let Some((quantile, times)) = metric.quantile().zip(windows.times(span, timing, now)) else { return (None, None) };
    let requests = times.count();
    let ranks = interval::at_once(Tally::new(requests, (quantile * requests as f64).round() as u64), 0.05);
    let at = |quantile| times.quantile(quantile).map(|time| time.as_secs_f64());
    // The histogram rounds up; a figure in the limit's own bucket is not above the limit.
    let estimate = at(quantile).map(|time| if is_above { time } else { time.min(limit.as_secs_f64()) });
    (estimate, at(ranks.0).zip(at(ranks.1)))
}

fn bad_to_breach<T>(mut test: T, mut one_more_bad: impl FnMut(&mut T) -> f64) -> Option<u64> {
    (1..=BAD_TO_BREACH_MAX).find(|_| one_more_bad(&mut test) >= 1.0)
}
