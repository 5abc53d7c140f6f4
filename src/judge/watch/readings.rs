//! What a guard has seen, how near it is, and what would trip it.

use std::time::Duration;

use super::super::against::AgainstTest;
use super::super::counts::{Question, Timing, allowed_share};
use super::super::evidence::AboveTest;
use super::super::threshold::{BAD_TO_BREACH_MAX, FORECAST_REQUESTS, Threshold};
use super::super::window::Windows;
use super::super::{Figures, Forecast, GuardTest, Metric, Reading, Tally, Unit, Verdict, explain, interval};
use super::{Test, Watch};

impl Watch {
    pub(in crate::judge) fn reading(&self, now: Duration, windows: &Windows) -> Reading {
        let mut reading = match &self.test {
            Test::Window(threshold) => self.window_reading(threshold, now, windows),
            Test::Above(test) => self.above_reading(test),
            Test::Against(test) => self.against_reading(test),
        };
        reading.verdict = self.verdict(now, windows);
        if reading.verdict == Verdict::Breach {
            reading.evidence = 1.0;
        } else {
            (reading.bad_to_breach, reading.forecast) = self.outlook(now, windows);
        }
        reading.explanation = explain::sentence(&reading, self.judged_in_step());
        reading
    }

    /// How many bad requests in a row would be a breach, and how many of the next ones.
    fn outlook(&self, now: Duration, windows: &Windows) -> (Option<u64>, Option<Forecast>) {
        match &self.test {
            Test::Window(threshold) => {
                let tally = windows.tally(threshold.span, self.question, now);
                (threshold.bad_to_breach(tally), threshold.forecast(tally))
            }
            Test::Above(test) => outlook(test, |test, bad| {
                test.take(Tally::new(1, u64::from(bad)));
                test.is_reached()
            }),
            Test::Against(test) => outlook(&**test, |test, bad| {
                test.take(Tally::new(1, u64::from(bad)), Tally::new(test.usual_stable(1), 0));
                test.is_reached()
            }),
        }
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
            ..self.blank_reading(self.guard.metric.unit())
        }
    }

    fn above_reading(&self, test: &AboveTest) -> Reading {
        let GuardTest::Above { limit, confidence } = self.guard.test else { return self.blank_reading(Unit::Share) };
        Reading {
            canary: anytime_figures(self.canary.since_start, confidence),
            limit: Some(allowed_share(self.guard.metric, limit)),
            evidence: test.evidence(),
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
            forecast: None,
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

/// `one_more` plays one request, bad or good, to a copy of the test, and says whether that is a breach.
fn outlook<T: Clone>(test: &T, one_more: impl Fn(&mut T, bool) -> bool) -> (Option<u64>, Option<Forecast>) {
    let mut copy = test.clone();
    let in_a_row = (1..=BAD_TO_BREACH_MAX).find(|_| one_more(&mut copy, true));
    let trips = |bad| {
        let mut copy = test.clone();
        (0..FORECAST_REQUESTS).any(|request| one_more(&mut copy, request >= FORECAST_REQUESTS - bad))
    };
    (in_a_row, Forecast::search(FORECAST_REQUESTS, trips))
}
