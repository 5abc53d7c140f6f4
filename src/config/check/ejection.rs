//! When endpoints are ejected.

use std::time::Duration;

use super::super::file::{Ejection, EjectionRule};
use super::super::scalar::{Text, Whole};
use super::scope::Scope;
use crate::routing::ids::Weight;
use crate::routing::spec::EjectionSpec;

const MAX_STATUSES: usize = 32;

pub(super) fn check(given: Option<Ejection>, scope: &mut Scope<'_, '_>) -> EjectionSpec {
    match given {
        None => EjectionSpec::default(),
        Some(Ejection::Off(_)) => EjectionSpec { consecutive_failures: None, ..EjectionSpec::default() },
        Some(Ejection::On(rule)) => one(rule, scope),
    }
}

fn one(given: EjectionRule, scope: &mut Scope<'_, '_>) -> EjectionSpec {
    const TENTH: Duration = Duration::from_millis(100);
    const HOUR: Duration = Duration::from_secs(3600);
    let default = EjectionSpec::default();
    let usual = default.consecutive_failures.unwrap_or_default();
    let failures =
        scope.count("ejection.consecutive_failures", given.consecutive_failures, u64::from(usual), 1..=1_000) as u32;
    let base_time = scope.duration("ejection.base_time", given.base_time, default.base_time, TENTH..=HOUR);
    let most = default.max_time.max(base_time);
    let max_time = scope.duration("ejection.max_time", given.max_time, most, TENTH..=24 * HOUR);
    if max_time < base_time && !scope.is_damaged("ejection") {
        scope.error("ejection.max_time", "is shorter than `base_time`; expected at least as much");
    }
    let max_ejected = given.max_ejected.map_or(default.max_ejected, |Text(share)| share);
    if max_ejected == Weight::ZERO {
        scope.error("ejection.max_ejected", "0% ejects nothing; to say that, write `ejection: off`");
    }
    let statuses = given.statuses.map_or(default.statuses, |given| statuses(given, scope));
    EjectionSpec { consecutive_failures: Some(failures), statuses, base_time, max_time, max_ejected }
}

fn statuses(given: Vec<Whole>, scope: &mut Scope<'_, '_>) -> Vec<u16> {
    let path = "ejection.statuses";
    if given.len() > MAX_STATUSES {
        scope.error(path, format!("{} statuses; expected at most {MAX_STATUSES}", given.len()));
    }
    let positions = scope.positions(path).1;
    let status = |(position, status)| scope.count(&format!("{path}[{position}]"), Some(status), 0, 400..=599) as u16;
    positions.into_iter().zip(given).map(status).collect()
}
