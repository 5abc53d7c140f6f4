//! The deployment block of an agent → [`DeploymentSpec`]: the strategies' defaults and their rules.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use sha1::{Digest, Sha1};

use super::super::file::{self, OnBreach};
use super::super::hex;
use super::super::node::{Kind, Node, Tone};
use super::super::scalar::Text;
use super::DEFAULT_ENVIRONMENT;
use super::agent::audience;
use super::guard;
use super::health::check as check_health;
use super::scope::Scope;
use crate::control::health::HealthCheck;
use crate::control::model::{self, DeploymentSpec, Step, Strategy};
use crate::control::request::{self, Rolling};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId, Weight};
use crate::routing::spec::{CanaryShare, VersionSpec};

const TIMES: RangeInclusive<Duration> = Duration::ZERO..=request::MAX_TIME;

/// The deployment, unless its steps are wrong; and the share of it that the routing table is asked about.
pub(super) fn check(
    given: file::Deployment,
    agent: &AgentId,
    environment: Option<&EnvironmentId>,
    versions: &BTreeMap<VersionId, VersionSpec>,
    stable: Option<&VersionId>,
    health: &[HealthCheck],
    scope: &mut Scope<'_, '_>,
) -> (Option<DeploymentSpec>, CanaryShare) {
    let Text(version) = given.version;
    if stable == Some(&version) && !scope.is_damaged("stable") {
        let remedy = "remove `deployment`, or name another version";
        let message = format!("{version} is already `stable`, so there is nothing to deploy; {remedy}");
        scope.error("deployment.version", message);
    }
    let strategy = given.strategy.map_or_else(Strategy::default, strategy);
    let endpoints = versions.get(&version).map_or(0, |spec| spec.endpoints.len());
    let steps = steps(given.steps, given.rolling, strategy, endpoints, scope);
    let bake = request::default_bake(strategy);
    let bake = scope.duration("deployment.bake", given.bake, bake, TIMES);
    let cooldown = scope.duration("deployment.cooldown", given.cooldown, Duration::ZERO, TIMES);
    let drain_timeout = given.drain_timeout;
    let drain_timeout =
        drain_timeout.map(|time| scope.duration("deployment.drain_timeout", Some(time), Duration::ZERO, TIMES));
    let (guards, queries) = guard::check(given.guards.unwrap_or_default(), scope);
    let own = given.health.map(|checks| check_health(checks, "deployment.health", scope));
    let on_breach = match given.on_breach {
        None | Some(OnBreach::Rollback) => model::OnBreach::Rollback,
        Some(OnBreach::Pause) => model::OnBreach::Pause,
    };
    let audience = audience(given.include, given.exclude);
    let first = steps.as_ref().and_then(|steps| steps.first()).map_or(Weight::FULL, |step| step.weight);
    let share = CanaryShare { version: version.clone(), weight: first, audience: audience.clone() };
    let block = scope.node().entry("deployment").map(|entry| &entry.value);
    let fingerprint = fingerprint(agent, environment, block);
    let spec = steps.map(|steps| DeploymentSpec {
        fingerprint,
        version,
        strategy,
        steps,
        bake,
        guards,
        queries,
        health: own.unwrap_or_else(|| health.to_vec()),
        on_breach,
        cooldown,
        drain_timeout,
        audience,
    });
    (spec, share)
}

fn strategy(given: file::Strategy) -> Strategy {
    match given {
        file::Strategy::Immediate => Strategy::Immediate,
        file::Strategy::Canary => Strategy::Canary,
        file::Strategy::BlueGreen => Strategy::BlueGreen,
        file::Strategy::Rolling => Strategy::Rolling,
    }
}

/// Those of the file, or the strategy's own. `None`: something is wrong with them.
fn steps(
    given: Option<Vec<file::Step>>,
    rolling: Option<file::Rolling>,
    strategy: Strategy,
    endpoints: usize,
    scope: &mut Scope<'_, '_>,
) -> Option<Vec<Step>> {
    if scope.is_damaged("deployment.steps") || scope.is_damaged("deployment.rolling") {
        return None;
    }
    let step = |(position, step): (usize, file::Step)| {
        let path = format!("deployment.steps[{position}].hold");
        let hold = step.hold.map(|hold| scope.duration(&path, Some(hold), Duration::ZERO, TIMES));
        Step { weight: step.weight.0, hold }
    };
    let given = given.map(|given| given.into_iter().enumerate().map(step).collect());
    let rolling = rolling.map(|rolling| Rolling {
        // Out of every range where it does not fit: the rules of the request say so.
        shares: rolling.shares.map(|shares| u32::try_from(shares.0).unwrap_or(0)),
        hold: rolling.hold.map(|hold| scope.duration("deployment.rolling.hold", Some(hold), Duration::ZERO, TIMES)),
    });
    match request::steps(strategy, given, rolling, endpoints) {
        Ok(steps) => Some(steps),
        Err(errors) => {
            for error in errors.into_iter().filter(|error| !error.field.ends_with(".hold")) {
                scope.error(&format!("deployment.{}", error.field), error.message);
            }
            None
        }
    }
}

/// SHA-1 over the block as its author wrote it, comments, order of keys and quotes aside; with the agent
/// and environment that it is for. Values from the environment count as written.
fn fingerprint(agent: &AgentId, environment: Option<&EnvironmentId>, block: Option<&Node>) -> String {
    let environment = environment.map_or(DEFAULT_ENVIRONMENT, EnvironmentId::as_str);
    let mut text = serde_json::json!([environment, agent.as_str()]).to_string();
    if let Some(block) = block {
        text.push_str(&canonical(block).to_string());
    }
    hex(&Sha1::digest(text))
}

/// JSON with sorted keys (as serde_json's map has them), every scalar by its spelling.
fn canonical(node: &Node) -> serde_json::Value {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.tone == Tone::Null => serde_json::Value::Null,
        Kind::Scalar(scalar) => scalar.text.as_str().into(),
        Kind::Seq(items) => items.iter().map(canonical).collect(),
        Kind::Map(entries) => {
            // Through a sorted map of our own: serde_json's keeps another order if some feature says so.
            let sorted: BTreeMap<&str, serde_json::Value> =
                entries.iter().map(|entry| (entry.key.text(), canonical(&entry.value))).collect();
            sorted.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
        }
        Kind::Tagged(tag) => tag.as_str().into(),
    }
}
