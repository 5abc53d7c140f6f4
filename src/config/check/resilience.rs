//! What is done when endpoints fail, when a version is too slow, and when there is too much to do.

use std::time::Duration;

use super::super::LoadShedding;
use super::super::file;
use super::super::scalar::{Fraction, Text, Whole};
use super::scope::Scope;
use crate::routing::resilience::{Backoff, BreakerSpec, Budget, ErrorShare, Priority, Resilience, RetrySpec};

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// `response_timeout` is the agent's.
pub(super) fn resilience(
    retries: Option<file::Retries>,
    breaker: Option<file::CircuitBreaker>,
    priority: Option<file::Priority>,
    response_timeout: Option<Duration>,
    scope: &mut Scope<'_, '_>,
) -> Resilience {
    Resilience {
        retries: self::retries(retries.unwrap_or_default(), response_timeout, scope),
        breaker: breaker.map(|given| self::breaker(given, scope)),
        priority: match priority {
            Some(file::Priority::Low) => Priority::Low,
            None | Some(file::Priority::Normal) => Priority::Normal,
            Some(file::Priority::High) => Priority::High,
        },
    }
}

fn retries(given: file::Retries, response_timeout: Option<Duration>, scope: &mut Scope<'_, '_>) -> RetrySpec {
    let default = RetrySpec::default();
    let attempts = number(scope, "retries.attempts", given.attempts, default.attempts, 0..=10);
    let per_try_timeout =
        given.per_try_timeout.map(|given| scope.duration("retries.per_try_timeout", Some(given), MS, MS..=HOUR));
    if let Some(each) = per_try_timeout {
        if attempts == 0 {
            let message = "is for an attempt that another may follow, and with `attempts: 0` none does";
            scope.error("retries.per_try_timeout", message);
        }
        if response_timeout.is_some_and(|whole| each >= whole) {
            scope.error("retries.per_try_timeout", "leaves no time for another attempt within `timeouts.response`");
        }
    }
    RetrySpec {
        attempts,
        statuses: given.statuses.map_or(default.statuses, |given| statuses(given, scope)),
        per_try_timeout,
        backoff: backoff(given.backoff.unwrap_or_default(), scope),
        budget: budget(given.budget.unwrap_or_default(), scope),
    }
}

fn statuses(given: Vec<Whole>, scope: &mut Scope<'_, '_>) -> Vec<u16> {
    let positions = scope.positions("retries.statuses").1;
    let mut statuses: Vec<u16> = Vec::with_capacity(given.len().min(200));
    for (position, status) in positions.into_iter().zip(given) {
        let path = format!("retries.statuses[{position}]");
        let status = scope.count(&path, Some(status), 503, 400..=599) as u16;
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    statuses
}

fn backoff(given: file::Backoff, scope: &mut Scope<'_, '_>) -> Backoff {
    let default = Backoff::default();
    let base = scope.duration("retries.backoff.base", given.base, default.base, Duration::ZERO..=MINUTE);
    let max = scope.duration("retries.backoff.max", given.max, default.max.max(base), Duration::ZERO..=MINUTE);
    if max < base {
        scope.error("retries.backoff.max", "is less than `base`; expected at least as much");
    }
    Backoff { base, max }
}

fn budget(given: file::Budget, scope: &mut Scope<'_, '_>) -> Budget {
    let default = Budget::default();
    Budget {
        ratio_millionths: given.ratio.map_or(default.ratio_millionths, millionths),
        per_second: number(scope, "retries.budget.per_second", given.per_second, default.per_second, 0..=100_000),
    }
}

fn breaker(given: file::CircuitBreaker, scope: &mut Scope<'_, '_>) -> BreakerSpec {
    let at = |key: &str| format!("circuit_breaker.{key}");
    let default = BreakerSpec::default();
    let acts = [given.max_concurrent.is_some(), given.max_pending.is_some(), given.consecutive_failures.is_some()];
    let node = scope.node().entry("circuit_breaker").map(|entry| &entry.value);
    // Also one that was not understood.
    let has_share = node.is_some_and(|node| node.entry("error_share").is_some());
    if !acts.contains(&true) && !has_share && !scope.is_damaged("circuit_breaker") {
        let keys = "expected `consecutive_failures`, `error_share`, `max_concurrent` or `max_pending`";
        scope.error("circuit_breaker", format!("it would never refuse anything; {keys}"));
    }
    for (key, given) in [("window", given.window.is_some()), ("min_requests", given.min_requests.is_some())] {
        if given && !has_share {
            scope.error(&at(key), "says over what `error_share` is taken, and there is none");
        }
    }
    let mut limit =
        |key: &str, given: Option<Whole>, most| given.map(|given| number(scope, &at(key), Some(given), 1, 1..=most));
    let max_concurrent = limit("max_concurrent", given.max_concurrent, 1_000_000);
    let max_pending = limit("max_pending", given.max_pending, 1_000_000);
    let consecutive_failures = limit("consecutive_failures", given.consecutive_failures, 1_000);
    let min_requests = limit("min_requests", given.min_requests, 1_000_000).unwrap_or(20);
    let window = scope.duration(&at("window"), given.window, 10 * Duration::from_secs(1), 100 * MS..=HOUR);
    let error_share = given.error_share.map(|share| share_of_failures(share, window, min_requests, scope));
    BreakerSpec {
        max_concurrent,
        max_pending,
        consecutive_failures,
        error_share,
        open_for: scope.duration(&at("open_for"), given.open_for, default.open_for, 100 * MS..=HOUR),
        half_open_requests: number(
            scope,
            &at("half_open_requests"),
            given.half_open_requests,
            default.half_open_requests,
            1..=1_000,
        ),
    }
}

fn share_of_failures(
    share: Text<Fraction>,
    window: Duration,
    min_requests: u32,
    scope: &mut Scope<'_, '_>,
) -> ErrorShare {
    let millionths = millionths(share);
    if millionths == 0 {
        scope.error("circuit_breaker.error_share", "opens at any failure; expected at least 0.0001%");
    }
    ErrorShare { millionths, window, min_requests }
}

pub(super) fn load_shedding(given: file::LoadShedding, scope: &mut Scope<'_, '_>) -> LoadShedding {
    let default = LoadShedding::default();
    let lateness = match given.lateness {
        None => default.lateness,
        Some(Text(Duration::ZERO)) => None,
        Some(given) => Some(scope.duration("load_shedding.lateness", Some(given), MS, 10 * MS..=MINUTE)),
    };
    let in_flight = given
        .requests_in_flight
        .map(|given| scope.count("load_shedding.requests_in_flight", Some(given), u64::MAX, 1..=10_000_000) as usize);
    let interval = scope.duration("load_shedding.interval", given.interval, default.interval, 100 * MS..=MINUTE);
    LoadShedding { lateness, interval, requests_in_flight: in_flight }
}

fn millionths(Text(Fraction(share)): Text<Fraction>) -> u32 {
    (share * 1e6).round() as u32
}

fn number(
    scope: &mut Scope<'_, '_>,
    path: &str,
    given: Option<Whole>,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> u32 {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    u32::try_from(scope.count(path, given, u64::from(default), range)).unwrap_or(default)
}
