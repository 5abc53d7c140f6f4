//! Guards: which keys go together, and whether the limit is in the metric's unit. Those that ask Prometheus are
//! in [`super::query`].

use std::time::Duration;

use super::super::file::{self, Metric as Name};
use super::super::scalar::{Amount, Fraction, Text};
use super::query;
use super::scope::Scope;
use crate::control::prometheus::QueryGuard;
use crate::judge::{GuardSpec, GuardTest, Limit, Metric};

const MAX_GUARDS: usize = 32;
const DEFAULT_WINDOW: Duration = Duration::from_secs(300);
const DEFAULT_MIN_REQUESTS: u64 = 50;

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
        let confidence = guard.confidence.as_ref().map(|Text(confidence)| self.confidence(*confidence));
        match (&guard.above, &guard.worse_than_stable_by) {
            (Some(_), Some(_)) => {
                self.error(
                    "worse_than_stable_by",
                    "a guard has one limit; remove `above`, or make it a guard of its own",
                );
                None
            }
            (None, None) => {
                let example = if metric == Metric::ErrorRate { "above: 5%" } else { "above: 3s" };
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
                    None => Some(self.windowed(limit, &guard)),
                    Some(confidence) => {
                        self.no_window(&guard);
                        Some(GuardTest::Above { limit, confidence })
                    }
                }
            }
            (None, Some(Text(margin))) => self.against_stable(metric, *margin, confidence, &guard),
        }
    }

    fn confidence(&mut self, Fraction(confidence): Fraction) -> f64 {
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
        match (metric, above) {
            (_, Amount::Number(number)) => {
                let expected = "a share such as 5% or a duration such as 3s";
                self.error("above", format!("`{number}` has no unit; expected {expected}"));
            }
            (Metric::ErrorRate, Amount::Share(share)) => return Some(Limit::Rate(share)),
            (Metric::ErrorRate, Amount::Time(_)) => {
                self.error(
                    "above",
                    "`error_rate` is a share of the requests; expected a share such as 5%, or a latency metric",
                );
            }
            (_, Amount::Time(time)) if time > Duration::ZERO => return Some(Limit::Duration(time)),
            (_, Amount::Time(_)) => {
                self.error("above", "every request takes longer than 0s; expected a duration such as 3s")
            }
            (_, Amount::Share(_)) => {
                self.error("above", "a latency is a time; expected a duration such as 3s, or the metric error_rate");
            }
        }
        None
    }

    fn windowed(&mut self, limit: Limit, guard: &file::Guard) -> GuardTest {
        const LONGEST: Duration = Duration::from_secs(86_400);
        let path = |key: &str| format!("{}.{key}", self.path);
        let (window, min_requests) = (path("window"), path("min_requests"));
        let range = Duration::from_secs(1)..=LONGEST;
        GuardTest::Windowed {
            limit,
            window: self.scope.duration(&window, guard.window.clone(), DEFAULT_WINDOW, range),
            min_requests: self.scope.count(&min_requests, guard.min_requests, DEFAULT_MIN_REQUESTS, 1..=1_000_000_000),
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
        Fraction(margin): Fraction,
        confidence: Option<f64>,
        guard: &file::Guard,
    ) -> Option<GuardTest> {
        if confidence.is_some() {
            self.no_window(guard);
        } else {
            self.error(
                "worse_than_stable_by",
                "a comparison with stable needs `confidence`, such as `confidence: 99.9%`",
            );
        }
        match (metric, &guard.slower_than) {
            (Metric::ErrorRate, Some(_)) => self.error("slower_than", "goes with a latency metric; remove it"),
            (Metric::ErrorRate, None) | (_, Some(_)) => {}
            (_, None) => {
                let message = "a latency is compared with stable by the share of slow requests; expected `slower_than`, such as `slower_than: 3s`";
                self.error("worse_than_stable_by", message);
            }
        }
        let slower_than = guard.slower_than.as_ref().map(|Text(limit)| *limit);
        Some(GuardTest::WorseThanStable { margin, slower_than, confidence: confidence? })
    }
}
