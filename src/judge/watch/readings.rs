//! What a guard has seen, how near it is, and what would trip it.

use std::time::Duration;

use super::super::against::AgainstTest;
use super::super::answers::Sum;
use super::super::counts::{Question, Timing, allowed_share};
use super::super::evidence::AboveTest;
use super::super::mean::{MeanTest, MeanThreshold};
use super::super::threshold::{BAD_TO_BREACH_MAX, FORECAST_REQUESTS, Threshold};
use super::super::window::Windows;
use super::super::{Figures, Forecast, GuardTest, Limit, Metric, Reading, Tally, Unit, Verdict, explain, interval};
use super::{Test, Watch};

impl Watch {
    pub(in crate::judge) fn reading(&self, now: Duration, windows: &Windows) -> Reading {
        let mut reading = match &self.test {
            Test::Window(threshold) => self.window_reading(threshold, now, windows),
            Test::Above(test) => self.above_reading(test),
            Test::Against(test) => self.against_reading(test),
            Test::WindowedMean(mean) => self.windowed_mean_reading(mean, now, windows),
            Test::Mean(test) => self.mean_reading(test),
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
                test.take(&Tally::new(1, u64::from(bad)).into());
                test.is_reached()
            }),
            Test::Against(test) => outlook(&**test, |test, bad| {
                test.take(&Tally::new(1, u64::from(bad)).into(), &Tally::new(test.usual_stable(1), 0).into());
                test.is_reached()
            }),
            // One request may be as bad as it likes.
            Test::WindowedMean(_) => (None, None),
            Test::Mean(test) => (in_a_row(&mut MeanTest::clone(test), MeanTest::play_one_more), None),
        }
    }

    fn window_reading(&self, threshold: &Threshold, now: Duration, windows: &Windows) -> Reading {
        let tally = windows.tally(threshold.span, self.question, now);
        let mut canary = share_figures(tally, |sum| interval::at_once(sum, 0.05));
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

    fn above_reading(&self, test: &AboveTest<2>) -> Reading {
        let GuardTest::Above { limit, confidence, .. } = self.guard.test else {
            return self.blank_reading(Unit::Share);
        };
        Reading {
            canary: anytime_figures(self.canary.since_start, confidence),
            limit: Some(allowed_share(self.guard.metric, limit)),
            evidence: test.evidence(),
            ..self.blank_reading(Unit::Share)
        }
    }

    fn against_reading(&self, test: &AgainstTest<2>) -> Reading {
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

    fn windowed_mean_reading(&self, mean: &MeanThreshold, now: Duration, windows: &Windows) -> Reading {
        let (total, above) = (windows.total(mean.span, mean.amount, now), windows.tally(mean.span, self.question, now));
        let estimate = mean.mean(total);
        Reading {
            canary: Figures { requests: total.requests, bad: above.bad, estimate, interval: None },
            limit: Some(mean.limit),
            evidence: mean.evidence(total),
            ..self.blank_reading(self.guard.metric.unit())
        }
    }

    fn mean_reading(&self, test: &MeanTest) -> Reading {
        let unit = self.guard.metric.unit();
        let (confidence, margin) = match self.guard.test {
            GuardTest::Above { confidence, .. } => (confidence, None),
            GuardTest::WorseThanStable { margin, confidence, .. } => (confidence, Some(margin)),
            GuardTest::Windowed { .. } => return self.blank_reading(unit),
        };
        let figures = |sum: Sum, tally: Tally| mean_figures(test, sum, tally.bad, confidence);
        let (canary, stable) = test.sums();
        let stable = margin.map(|_| figures(stable, self.stable.since_start));
        let limit = match self.guard.test {
            GuardTest::Above { limit: Limit::Mean(limit), .. } => Some(limit),
            _ => stable.and_then(|stable| stable.estimate).zip(margin).map(|(mean, margin)| mean + margin),
        };
        let canary = figures(canary, self.canary.since_start);
        Reading { canary, stable, limit, evidence: test.evidence(), ..self.blank_reading(unit) }
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
    share_figures(tally, |sum| interval::anytime(sum, (1.0 - confidence).clamp(1e-12, 1.0)))
}

/// In the metric's unit, of the amounts up to the cap.
fn mean_figures(test: &MeanTest, sum: Sum, bad: u64, confidence: f64) -> Figures {
    let some = sum.requests > 0;
    let (low, high) = interval::anytime(sum, (1.0 - confidence).clamp(1e-12, 1.0));
    Figures {
        requests: sum.requests,
        bad,
        estimate: some.then(|| test.in_unit(sum.mean())),
        interval: some.then(|| (test.in_unit(low), test.in_unit(high))),
    }
}

fn share_figures(tally: Tally, interval: impl Fn(Sum) -> (f64, f64)) -> Figures {
    let some = tally.requests > 0;
    Figures {
        requests: tally.requests,
        bad: tally.bad,
        estimate: some.then(|| tally.share()),
        interval: some.then(|| interval(tally.into())),
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
    let ranks = interval::at_once(Sum { requests, total: quantile * requests as f64 }, 0.05);
    let at = |quantile| times.quantile(quantile).map(|time| time.as_secs_f64());
    // The histogram rounds up; a figure in the limit's own bucket is not above the limit.
    let estimate = at(quantile).map(|time| if is_above { time } else { time.min(limit.as_secs_f64()) });
    (estimate, at(ranks.0).zip(at(ranks.1)))
}

/// `one_more` plays one request, bad or good, to a copy of the test, and says whether that is a breach.
fn outlook<T: Clone>(test: &T, one_more: impl Fn(&mut T, bool) -> bool) -> (Option<u64>, Option<Forecast>) {
    let in_a_row = in_a_row(&mut test.clone(), |test| one_more(test, true));
    let trips = |bad| {
        let mut copy = test.clone();
        (0..FORECAST_REQUESTS).any(|request| one_more(&mut copy, request >= FORECAST_REQUESTS - bad))
    };
    (in_a_row, Forecast::search(FORECAST_REQUESTS, trips))
}

/// How many bad ones in a row it takes.
fn in_a_row<T>(test: &mut T, one_more_bad: impl Fn(&mut T) -> bool) -> Option<u64> {
    (1..=BAD_TO_BREACH_MAX).find(|_| one_more_bad(test))
}
