//! A deployment as its author asks for it, whoever that is → [`DeploymentSpec`]: the strategies' defaults and rules.
//!
//! Every error is reported, with the field that it is about.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{DeploymentSpec, OnBreach, Step, Strategy};
use super::prometheus::QueryGuard;
use crate::judge::GuardSpec;
use crate::routing::ids::{BUCKETS, VersionId, Weight};
use crate::routing::spec::Audience;

pub const MAX_STEPS: usize = 100;
/// The longest hold, bake, cooldown or drain time-out.
pub const MAX_TIME: Duration = Duration::from_secs(365 * 86_400);
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentRequest {
    pub version: VersionId,
    pub strategy: Strategy,
    /// `None`: the strategy's own.
    pub steps: Option<Vec<Step>>,
    pub rolling: Option<Rolling>,
    /// `None`: 10 minutes; for `immediate` none.
    pub bake: Option<Duration>,
    pub guards: Vec<GuardSpec>,
    /// Guards that ask Prometheus.
    pub queries: Vec<QueryGuard>,
    pub on_breach: OnBreach,
    pub cooldown: Duration,
    /// `None`: the replaced version keeps its conversations until they end.
    pub drain_timeout: Option<Duration>,
    pub audience: Audience,
}

/// How `rolling` goes, where it has no steps of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rolling {
    /// Equal shares. `None`: one per endpoint of the new version, 2 to 10.
    pub shares: Option<u32>,
    /// Of each share. `None`: a minute.
    pub hold: Option<Duration>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Below the request, such as `steps[1].weight`.
    pub field: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl DeploymentRequest {
    /// A canary of `version` with all defaults.
    pub fn new(version: VersionId) -> Self {
        Self {
            version,
            strategy: Strategy::default(),
            steps: None,
            rolling: None,
            bake: None,
            guards: Vec::new(),
            queries: Vec::new(),
            on_breach: OnBreach::default(),
            cooldown: Duration::ZERO,
            drain_timeout: None,
            audience: Audience::default(),
        }
    }

    /// The whole of it, or everything that is wrong with it. `endpoints`: how many the version has.
    pub fn spec(self, fingerprint: String, endpoints: usize) -> Result<DeploymentSpec, Vec<FieldError>> {
        let mut errors = Vec::new();
        check_time("bake", self.bake, &mut errors);
        check_time("cooldown", Some(self.cooldown), &mut errors);
        check_time("drain_timeout", self.drain_timeout, &mut errors);
        for (position, guard) in self.guards.iter().enumerate() {
            errors.extend(guard.check().err().map(|e| FieldError::new(format!("guards[{position}]"), e.to_string())));
        }
        for (position, query) in self.queries.iter().enumerate() {
            errors.extend(query.check().err().map(|e| FieldError::new(format!("queries[{position}]"), e)));
        }
        let steps = match steps(self.strategy, self.steps, self.rolling, endpoints) {
            Ok(steps) if errors.is_empty() => steps,
            Ok(_) => return Err(errors),
            Err(more) => return Err(errors.into_iter().chain(more).collect()),
        };
        Ok(DeploymentSpec {
            fingerprint,
            version: self.version,
            strategy: self.strategy,
            steps,
            bake: self.bake.unwrap_or(default_bake(self.strategy)),
            guards: self.guards,
            queries: self.queries,
            // Health checks come from the file alone: of the agent, see `order`.
            health: Vec::new(),
            on_breach: self.on_breach,
            cooldown: self.cooldown,
            drain_timeout: self.drain_timeout,
            audience: self.audience,
        })
    }
}

pub fn default_bake(strategy: Strategy) -> Duration {
    if strategy == Strategy::Immediate { Duration::ZERO } else { 10 * MINUTE }
}

/// Those that were asked for, or the strategy's own.
pub fn steps(
    strategy: Strategy,
    given: Option<Vec<Step>>,
    rolling: Option<Rolling>,
    endpoints: usize,
) -> Result<Vec<Step>, Vec<FieldError>> {
    let mut errors = Vec::new();
    if let Some(rolling) = rolling {
        check_rolling(strategy, rolling, given.is_some(), &mut errors);
    }
    if let (Some(_), true) = (&given, strategy.moves_all_at_once()) {
        let remedy = "remove `steps`, or use `strategy: canary`";
        let message = format!("`{}` has no steps, it moves all traffic at once; {remedy}", strategy.as_str());
        errors.push(FieldError::new("steps", message));
    } else if let Some(given) = &given {
        check_steps(given, &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(given.unwrap_or_else(|| default_steps(strategy, rolling.unwrap_or_default(), endpoints)))
}

fn check_rolling(strategy: Strategy, rolling: Rolling, has_steps: bool, errors: &mut Vec<FieldError>) {
    if strategy != Strategy::Rolling {
        let message = format!("only strategy `rolling` takes it, and the strategy is `{}`", strategy.as_str());
        errors.push(FieldError::new("rolling", message));
    } else if has_steps {
        errors.push(FieldError::new("rolling", "`steps` say the shares already; remove one of the two"));
    }
    if let Some(shares) = rolling.shares.filter(|shares| !(1..=MAX_STEPS as u32).contains(shares)) {
        errors.push(FieldError::new("rolling.shares", format!("{shares} is out of range; expected 1 to {MAX_STEPS}")));
    }
    check_time("rolling.hold", rolling.hold, errors);
}

fn check_steps(steps: &[Step], errors: &mut Vec<FieldError>) {
    if steps.is_empty() || steps.len() > MAX_STEPS {
        let message = format!("{} steps; expected 1 to {MAX_STEPS}, or no `steps` for the default", steps.len());
        return errors.push(FieldError::new("steps", message));
    }
    for (position, step) in steps.iter().enumerate() {
        check_time(&format!("steps[{position}].hold"), step.hold, errors);
    }
    check_growth(steps, errors);
}

/// Each share above the one before it, the last all of it.
fn check_growth(steps: &[Step], errors: &mut Vec<FieldError>) {
    let field = |position: usize| format!("steps[{position}].weight");
    let (mut before, found) = (Weight::ZERO, errors.len());
    for (position, &Step { weight, .. }) in steps.iter().enumerate() {
        if weight <= before {
            let expected = "expected shares that grow from step to step";
            let message = format!("{weight} is not above the {before} before it; {expected}");
            errors.push(FieldError::new(field(position), message));
        }
        before = weight;
    }
    if errors.len() == found && before != Weight::FULL {
        let message = format!("the last step has {before}; expected 100%, so that the deployment can end");
        errors.push(FieldError::new(field(steps.len() - 1), message));
    }
}

fn check_time(field: &str, time: Option<Duration>, errors: &mut Vec<FieldError>) {
    if time.is_some_and(|time| time > MAX_TIME) {
        errors.push(FieldError::new(field, "is out of range; expected at most 365d"));
    }
}

fn default_steps(strategy: Strategy, rolling: Rolling, endpoints: usize) -> Vec<Step> {
    let step = |percent: u32, minutes: Option<u32>| {
        let weight = Weight::new(percent * (BUCKETS / 100)).unwrap_or(Weight::FULL);
        Step { weight, hold: minutes.map(|minutes| minutes * MINUTE) }
    };
    match strategy {
        Strategy::Immediate | Strategy::BlueGreen => vec![step(100, None)],
        Strategy::Canary => vec![step(1, Some(10)), step(5, Some(30)), step(25, Some(60)), step(100, None)],
        Strategy::Rolling => {
            // One endpoint's share at a time, in few enough steps to end in a bearable time.
            let shares = rolling.shares.unwrap_or(endpoints.clamp(2, 10) as u32);
            let hold = Some(rolling.hold.unwrap_or(MINUTE));
            let weight = |share: u32| Weight::new(BUCKETS * share / shares);
            (1..=shares).map(|share| Step { weight: weight(share).unwrap_or(Weight::FULL), hold }).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rolling: Rolling, endpoints: usize) -> Vec<String> {
        let steps = steps(Strategy::Rolling, None, Some(rolling), endpoints).expect("good");
        steps.iter().map(|s| format!("{} {}s", s.weight, s.hold.expect("held").as_secs())).collect()
    }

    #[test]
    fn rolling_goes_by_endpoint_or_by_equal_shares() {
        assert_eq!(of(Rolling::default(), 3), ["33.333% 60s", "66.666% 60s", "100% 60s"]);
        let shares = Rolling { shares: Some(4), hold: Some(Duration::from_secs(300)) };
        assert_eq!(of(shares, 1), ["25% 300s", "50% 300s", "75% 300s", "100% 300s"]);
        for shares in 1..=MAX_STEPS as u32 {
            let rolling = Rolling { shares: Some(shares), hold: None };
            let made = steps(Strategy::Rolling, None, Some(rolling), 1).expect("good");
            let mut errors = Vec::new();
            check_growth(&made, &mut errors);
            assert!(errors.is_empty() && made.len() == shares as usize, "{shares}: {errors:?}");
        }
    }

    #[test]
    fn every_error_is_reported_with_its_field() {
        let mut request = DeploymentRequest::new(VersionId::new("1.5.0"));
        request.bake = Some(MAX_TIME * 2);
        request.rolling = Some(Rolling { shares: Some(0), hold: None });
        request.steps = Some(vec![Step { weight: Weight::ZERO, hold: None }]);
        let errors = request.spec("x".into(), 1).expect_err("is wrong");
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["bake", "rolling", "rolling.shares", "steps[0].weight"]);
    }
}
