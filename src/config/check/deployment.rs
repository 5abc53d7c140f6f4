//! The deployment block of an agent → [`DeploymentSpec`]: the strategies' defaults and their rules.

use std::collections::BTreeMap;
use std::time::Duration;

use sha1::{Digest, Sha1};

use super::super::file::{self, OnBreach, Strategy};
use super::super::hex;
use super::super::node::{Kind, Node, Tone};
use super::super::scalar::Text;
use super::DEFAULT_ENVIRONMENT;
use super::agent::audience;
use super::guard;
use super::health::check as check_health;
use super::scope::Scope;
use crate::control::health::HealthCheck;
use crate::control::model::{self, DeploymentSpec, Step};
use crate::routing::ids::{AgentId, BUCKETS, EnvironmentId, VersionId, Weight};
use crate::routing::spec::{CanaryShare, VersionSpec};

const MAX_STEPS: usize = 100;
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

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
    let strategy = strategy(given.strategy.unwrap_or(Strategy::Canary));
    let endpoints = versions.get(&version).map_or(0, |spec| spec.endpoints.len());
    let steps = steps(given.steps, strategy, endpoints, scope);
    let bake = if strategy == model::Strategy::Immediate { Duration::ZERO } else { 10 * MINUTE };
    let bake = scope.duration("deployment.bake", given.bake, bake, Duration::ZERO..=YEAR);
    let cooldown = scope.duration("deployment.cooldown", given.cooldown, Duration::ZERO, Duration::ZERO..=YEAR);
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
        audience,
    });
    (spec, share)
}

fn strategy(given: Strategy) -> model::Strategy {
    match given {
        Strategy::Immediate => model::Strategy::Immediate,
        Strategy::Canary => model::Strategy::Canary,
        Strategy::BlueGreen => model::Strategy::BlueGreen,
        Strategy::Rolling => model::Strategy::Rolling,
    }
}

/// Those of the file, or the strategy's own. `None`: something is wrong with them.
fn steps(
    given: Option<Vec<file::Step>>,
    strategy: model::Strategy,
    endpoints: usize,
    scope: &mut Scope<'_, '_>,
) -> Option<Vec<Step>> {
    let Some(given) = given else { return Some(default_steps(strategy, endpoints)) };
    if let model::Strategy::Immediate | model::Strategy::BlueGreen = strategy {
        let name = if strategy == model::Strategy::Immediate { "immediate" } else { "blue-green" };
        let message =
            format!("`{name}` has no steps, it moves all traffic at once; remove `steps`, or use `strategy: canary`");
        scope.error("deployment.steps", message);
        return None;
    }
    if scope.is_damaged("deployment.steps") {
        return None;
    }
    if given.is_empty() || given.len() > MAX_STEPS {
        scope.error(
            "deployment.steps",
            format!("{} steps; expected 1 to {MAX_STEPS}, or no `steps` for the default", given.len()),
        );
        return None;
    }
    let holds = |(position, hold): (usize, Option<Text<Duration>>)| {
        let path = format!("deployment.steps[{position}].hold");
        hold.map(|hold| scope.duration(&path, Some(hold), Duration::ZERO, Duration::ZERO..=YEAR))
    };
    let (weights, given): (Vec<_>, Vec<_>) = given.into_iter().map(|step| (step.weight.0, step.hold)).unzip();
    let holds: Vec<_> = given.into_iter().enumerate().map(holds).collect();
    let grow = check_growth(&weights, scope);
    grow.then(|| weights.into_iter().zip(holds).map(|(weight, hold)| Step { weight, hold }).collect())
}

/// Each share above the one before it, the last all of it.
fn check_growth(weights: &[Weight], scope: &mut Scope<'_, '_>) -> bool {
    let mut before = Weight::ZERO;
    let mut grow = true;
    for (position, &weight) in weights.iter().enumerate() {
        if weight <= before {
            let message =
                format!("{weight} is not above the {before} before it; expected shares that grow from step to step");
            scope.error(&format!("deployment.steps[{position}].weight"), message);
            grow = false;
        }
        before = weight;
    }
    let last = weights.len() - 1;
    if grow && weights[last] != Weight::FULL {
        let message = format!("the last step has {}; expected 100%, so that the deployment can end", weights[last]);
        scope.error(&format!("deployment.steps[{last}].weight"), message);
        grow = false;
    }
    grow
}

fn default_steps(strategy: model::Strategy, endpoints: usize) -> Vec<Step> {
    let step = |percent: u32, minutes: Option<u32>| {
        let weight = Weight::new(percent * (BUCKETS / 100)).unwrap_or(Weight::FULL);
        Step { weight, hold: minutes.map(|minutes| minutes * MINUTE) }
    };
    match strategy {
        model::Strategy::Immediate | model::Strategy::BlueGreen => vec![step(100, None)],
        model::Strategy::Canary => vec![step(1, Some(10)), step(5, Some(30)), step(25, Some(60)), step(100, None)],
        model::Strategy::Rolling => {
            // One endpoint's share at a time, in few enough steps to end in a bearable time.
            let count = endpoints.clamp(2, 10) as u32;
            let weight = |step: u32| Weight::new(BUCKETS * step / count).unwrap_or(Weight::FULL);
            (1..=count).map(|step| Step { weight: weight(step), hold: Some(MINUTE) }).collect()
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
