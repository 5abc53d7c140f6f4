//! Guards: which keys go together, and whether the limit is in the metric's unit. Those that ask Prometheus are
//! in [`super::query`].

use std::time::Duration;

use super::super::file::{self, Metric as Name};
use super::super::scalar::{Amount, Fraction, Number, Text};
use super::query;
use super::scope::Scope;
use crate::control::prometheus::QueryGuard;
use crate::judge::{GuardSpec, GuardTest, Limit, Metric, Unit};

const MAX_GUARDS: usize = 32;
const DEFAULT_WINDOW: Duration = Duration::from_secs(300);
const DEFAULT_MIN_REQUESTS: u64 = 50;
/// A few streams have fifty gaps between tokens in a second.
const DEFAULT_MIN_GAPS: u64 = 1_000;
/// Without a `cap`, one request counts up to so many times the limit.
const DEFAULT_CAP: f64 = 4.0;

/// Those that are right; what is wrong with the others is reported.
pub(super) fn check(given: Vec<file::Guard>, scope: &mut Scope<'_, '_>) -> (Vec<GuardSpec>, Vec<QueryGuard>) {
    if given.len() > MAX_GUARDS {
        scope.error("deployment.guards", format!("{} guards; expected at most {MAX_GUARDS}", given.len()));
    }
    let (mut guards, mut queries) = (Vec::new(), Vec::new());
    for (position, guard) in scope.positions("deployment.guards").1.into_iter().zip(given) {
        let path = format!("deployment.guards[{position}]");
        if scope.is_damaged(&path) {
            continue;
        }
        let mut place = Guard { path, scope, sound: true };
        match (guard.metric, &guard.query) {
            (Some(name), None) => {
                let metric = metric(name);
                let test = place.test(metric, guard);
                guards.extend(test.filter(|_| place.sound).map(|test| GuardSpec { metric, test }));
            }
            (None, Some(_)) => queries.extend(query::check(guard, &mut place).filter(|_| place.sound)),
            (Some(_), Some(_)) => {
                place.error("query", "a guard looks at one thing; remove `metric`, or make it a guard of its own");
            }
            (None, None) => place.error("", "the guard does not say what it looks at; expected `metric` or `query`"),
        }
    }
    (guards, queries)
}

fn metric(name: Name) -> Metric {
    match name {
        Name::ErrorRate => Metric::ErrorRate,
        Name::LatencyP50 => Metric::LatencyP50,
        Name::LatencyP90 => Metric::LatencyP90,
        Name::LatencyP95 => Metric::LatencyP95,
        Name::LatencyP99 => Metric::LatencyP99,
        Name::TtfbP95 => Metric::TtfbP95,
        Name::TtftP95 => Metric::TtftP95,
        Name::InterTokenP95 => Metric::InterTokenP95,
        Name::OutputTokensMean => Metric::OutputTokensMean,
        Name::CostPerRequestMean => Metric::CostPerRequestMean,
        Name::StreamErrorRate => Metric::StreamErrorRate,
    }
}

/// A limit as it is written for figures of this unit.
fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "5%",
        Unit::Duration => "3s",
        Unit::Tokens => "1500",
        Unit::Cost => "0.05",
    }
}

/// What figures of this unit are, and what is expected of their limits.
fn kind(unit: Unit) -> (&'static str, &'static str) {
    match unit {
        Unit::Share => ("a share of the requests", "a share such as 5%"),
        Unit::Duration => ("a time", "a duration such as 3s"),
        Unit::Tokens => ("a number of tokens", "a number such as 1500"),
        Unit::Cost => ("an amount in the currency of `prices`", "a number such as 0.05"),
    }
}

/// One guard under check.
pub(super) struct Guard<'s, 'a, 'r> {
    pub(super) path: String,
    pub(super) scope: &'s mut Scope<'a, 'r>,
    /// Nothing wrong so far.
    sound: bool,
}

impl Guard<'_, '_, '_> {
    pub(super) fn error(&mut self, key: &str, message: impl Into<String>) {
        self.sound = false;
        let dot = if key.is_empty() { "" } else { "." };
        self.scope.error(&format!("{}{dot}{key}", self.path), message);
    }

    fn test(&mut self, metric: Metric, guard: file::Guard) -> Option<GuardTest> {
        let of_queries = [
            ("below", guard.below.is_some()),
            ("name", guard.name.is_some()),
            ("interval", guard.interval.is_some()),
            ("failures", guard.failures.is_some()),
        ];
        for (key, _) in of_queries.into_iter().filter(|(_, given)| *given) {
            self.error(key, "goes with `query`; remove it");
        }
        let confidence = guard.confidence.as_ref().map(|Text(confidence)| self.confidence(metric, *confidence));
        match (&guard.above, &guard.worse_than_stable_by) {
            (Some(_), Some(_)) => {
                self.error(
                    "worse_than_stable_by",
                    "a guard has one limit; remove `above`, or make it a guard of its own",
                );
                None
            }
            (None, None) => {
                let example = format!("above: {}", example(metric.unit()));
                self.error(
                    "",
                    format!("the guard has no limit; expected `above` or `worse_than_stable_by`, such as `{example}`"),
                );
                None
            }
            (Some(Text(above)), None) => {
                let limit = self.limit(metric, *above)?;
                if guard.slower_than.is_some() {
                    self.error(
                        "slower_than",
                        "goes with `worse_than_stable_by`; the limit of `above` already says what is slow",
                    );
                }
                match confidence {
                    None => {
                        if guard.cap.is_some() {
                            self.error("cap", "goes with a mean that has a `confidence`; remove it");
                        }
                        Some(self.windowed(metric, limit, &guard))
                    }
                    Some(confidence) => {
                        self.no_window(&guard);
                        let limit_of_mean = if let Limit::Mean(limit) = limit { limit } else { 0.0 };
                        let cap = self.cap(metric, &guard, limit_of_mean, Some(DEFAULT_CAP * limit_of_mean));
                        Some(GuardTest::Above { limit, cap, confidence })
                    }
                }
            }
            (None, Some(Text(margin))) => self.against_stable(metric, *margin, confidence, &guard),
        }
    }

    fn confidence(&mut self, metric: Metric, Fraction(confidence): Fraction) -> f64 {
        if !metric.is_per_request() {
            let message = format!(
                "`{metric}` looks at many gaps of one stream, which are fast or slow together: no confidence can be \
                 promised on them; use `window`, or the metric ttft_p95 or latency_p95"
            );
            self.error("confidence", message);
        }
        if !(0.5..1.0).contains(&confidence) {
            let percent = confidence * 100.0;
            self.error(
                "confidence",
                format!("{percent}% is out of range; expected at least 50% and less than 100%, such as 99.9%"),
            );
        }
        confidence
    }

    fn limit(&mut self, metric: Metric, above: Amount) -> Option<Limit> {
        let unit = metric.unit();
        let (what, expected) = kind(unit);
        match (unit, above) {
            (Unit::Share, Amount::Share(share)) => return Some(Limit::Rate(share)),
            (Unit::Duration, Amount::Time(time)) if time > Duration::ZERO => return Some(Limit::Duration(time)),
            (Unit::Duration, Amount::Time(_)) => {
                self.error("above", "every request takes longer than 0s; expected a duration such as 3s");
            }
            (Unit::Tokens | Unit::Cost, Amount::Number(number)) => {
                return self.positive("above", number, unit).map(Limit::Mean);
            }
            (Unit::Share | Unit::Duration, Amount::Number(number)) => {
                self.error("above", format!("`{number}` has no unit; `{metric}` is {what}; expected {expected}"));
            }
            _ => self.error("above", format!("`{metric}` is {what}; expected {expected}, or another metric")),
        }
        None
    }

    fn positive(&mut self, key: &str, number: f64, unit: Unit) -> Option<f64> {
        if number > 0.0 {
            return Some(number);
        }
        self.error(key, format!("`{number}` is not above 0; expected {}", kind(unit).1));
        None
    }

    /// For a mean, the most that one request may count.
    fn cap(&mut self, metric: Metric, guard: &file::Guard, above: f64, default: Option<f64>) -> Option<f64> {
        let given = guard.cap.as_ref().map(|Text(Number(cap))| *cap);
        let Some(most) = metric.cap_max() else {
            if given.is_some() {
                self.error("cap", "goes with a mean; remove it");
            }
            return None;
        };
        let Some(cap) = given.or(default.map(|cap| cap.min(most))) else {
            let message = "a mean is compared with stable up to a cap; expected `cap`, the most that one request may \
                           count, such as four times what is usual";
            self.error("worse_than_stable_by", message);
            return None;
        };
        if cap <= above || cap > most {
            let key = if given.is_some() { "cap" } else { "above" };
            let expected = format!("expected a cap above the limit of {above} and up to {most}");
            self.error(key, format!("`{cap}` is out of range; {expected}"));
        }
        Some(cap)
    }

    fn windowed(&mut self, metric: Metric, limit: Limit, guard: &file::Guard) -> GuardTest {
        const LONGEST: Duration = Duration::from_secs(86_400);
        let path = |key: &str| format!("{}.{key}", self.path);
        let (window, min_requests) = (path("window"), path("min_requests"));
        let range = Duration::from_secs(1)..=LONGEST;
        let least = if metric.is_per_request() { DEFAULT_MIN_REQUESTS } else { DEFAULT_MIN_GAPS };
        GuardTest::Windowed {
            limit,
            window: self.scope.duration(&window, guard.window.clone(), DEFAULT_WINDOW, range),
            min_requests: self.scope.count(&min_requests, guard.min_requests, least, 1..=1_000_000_000),
        }
    }

    /// An anytime-valid guard looks at all requests since the deployment began.
    fn no_window(&mut self, guard: &file::Guard) {
        if guard.window.is_some() {
            self.error("window", "does not go with `confidence`, which judges after every request; remove one of them");
        }
        if guard.min_requests.is_some() {
            self.error("min_requests", "does not go with `confidence`, which needs no minimum; remove one of them");
        }
    }

    fn against_stable(
        &mut self,
        metric: Metric,
        margin: Amount,
        confidence: Option<f64>,
        guard: &file::Guard,
    ) -> Option<GuardTest> {
        if confidence.is_some() {
            self.no_window(guard);
        } else if metric.is_per_request() {
            self.error(
                "worse_than_stable_by",
                "a comparison with stable needs `confidence`, such as `confidence: 99.9%`",
            );
        } else {
            self.error("worse_than_stable_by", format!("`{metric}` takes a `window` and a fixed limit; use `above`"));
        }
        match (metric.unit(), &guard.slower_than) {
            (Unit::Duration, Some(_)) | (Unit::Share | Unit::Tokens | Unit::Cost, None) => {}
            (Unit::Share | Unit::Tokens | Unit::Cost, Some(_)) => {
                self.error("slower_than", "goes with a latency metric; remove it");
            }
            (Unit::Duration, None) => {
                let message = "a latency is compared with stable by the share of slow requests; expected `slower_than`, such as `slower_than: 3s`";
                self.error("worse_than_stable_by", message);
            }
        }
        let slower_than = guard.slower_than.as_ref().map(|Text(limit)| *limit);
        let margin = self.margin(metric, margin);
        let cap = self.cap(metric, guard, margin.unwrap_or_default(), None);
        Some(GuardTest::WorseThanStable { margin: margin?, slower_than, cap, confidence: confidence? })
    }

    /// Of times it is the share of slow ones that is compared.
    fn margin(&mut self, metric: Metric, margin: Amount) -> Option<f64> {
        match (metric.is_mean(), margin) {
            (false, Amount::Share(share)) => return Some(share),
            (true, Amount::Number(number)) => return self.positive("worse_than_stable_by", number, metric.unit()),
            (false, Amount::Number(number)) => {
                let message = format!("`{number}` has no percent sign; expected a percentage such as 1%");
                self.error("worse_than_stable_by", message);
            }
            (false, Amount::Time(_)) => {
                let message = "what is compared is a share of the requests; expected a percentage such as 1%";
                self.error("worse_than_stable_by", message);
            }
            (true, _) => {
                let (what, expected) = kind(metric.unit());
                let message =
                    format!("`{metric}` is {what}, and so is what it may be above stable's; expected {expected}");
                self.error("worse_than_stable_by", message);
            }
        }
        None
    }
}
