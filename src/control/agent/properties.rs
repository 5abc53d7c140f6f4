//! What holds in every history of looks, orders and reloads.

use std::time::{Duration, Instant, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::control::command::{Command, Order, RollbackTarget};
use crate::control::fixture::{a_breach, an_agent, guard, step};
use crate::control::model::{OnBreach, Stage, Strategy as Way};
use crate::control::request::DeploymentRequest;
use crate::control::rollout::{Health, Judgement};
use crate::routing::compile::compile;
use crate::routing::ids::Weight;
use crate::routing::spec::Desired;
use crate::telemetry::stats::StatsRegistry;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happens {
    Look(Judgement, Health),
    Order(Command),
    /// Stable, and the name of a block.
    File(&'static str, Option<&'static str>),
}

fn health() -> impl Strategy<Value = Health> {
    let unhealthy = Health::Unhealthy { why: "refused".into() };
    prop_oneof![Just(Health::NotAsked), Just(Health::Unknown), Just(Health::Healthy), Just(unhealthy)]
}

fn order() -> impl Strategy<Value = Command> {
    let version = || prop::sample::select(vec!["1.4.2", "1.5.0", "1.6.0"]).prop_map(VersionId::new);
    let weight = (0..=100u32).prop_map(|percent| Weight::new(percent * 1000).expect("a share"));
    prop_oneof![
        Just(Command::Pause),
        Just(Command::Resume),
        Just(Command::Advance),
        weight.prop_map(Command::SetWeight),
        Just(Command::Abort),
        Just(Command::Retry),
        Just(Command::Promote),
        Just(Command::Rollback { to: None }),
        version().prop_map(|v| Command::Rollback { to: Some(RollbackTarget::Version(v)) }),
        version().prop_map(|v| Command::Create(Box::new(DeploymentRequest::new(v)))),
    ]
}

fn happens() -> impl Strategy<Value = Happens> {
    let judgement = prop_oneof![
        3 => Just(Judgement::Pass),
        2 => Just(Judgement::Silent),
        1 => Just(Judgement::Breach(a_breach())),
    ];
    let stable = prop::sample::select(vec!["1.4.2", "1.6.0"]);
    let block = prop::option::of(prop::sample::select(vec!["a", "b"]));
    prop_oneof![
        5 => (judgement, health()).prop_map(|(judgement, health)| Happens::Look(judgement, health)),
        3 => order().prop_map(Happens::Order),
        1 => (stable, block).prop_map(|(stable, block)| Happens::File(stable, block)),
    ]
}

fn a_block(name: &str, pauses: bool, guarded: bool) -> DeploymentSpec {
    DeploymentSpec {
        fingerprint: name.into(),
        strategy: Way::Canary,
        steps: vec![step(1_000, Some(600)), step(5_000, None), step(20_000, Some(60)), step(100_000, None)],
        guards: if guarded { vec![guard()] } else { vec![] },
        on_breach: if pauses { OnBreach::Pause } else { OnBreach::Rollback },
        ..crate::control::fixture::a_spec()
    }
}

fn ada() -> Order {
    Order::by(Actor::new("ada", "api"))
}

fn file(rollout: Option<&AgentRollout>, stable: &str, block: Option<DeploymentSpec>, now: Moment) -> AgentRollout {
    let mut spec = an_agent();
    spec.stable = VersionId::new(stable);
    let intent = AgentIntent { spec: Arc::new(spec), health: [].into(), checks: [].into(), deployment: block };
    AgentRollout::adopt(rollout.map(|r| &r.state), &intent, &Actor::file("cafe"), now)
}

/// Whatever the weights are, they add up, and no bucket is nobody's.
fn traffic_is_whole(rollout: &AgentRollout) -> Result<(), TestCaseError> {
    let desired = Desired { config_hash: "".into(), agents: vec![rollout.desired()] };
    let table = compile(&desired, None, &StatsRegistry::new(0), 1);
    let table = table.map_err(|rejections| TestCaseError::fail(format!("{rejections:?}")))?;
    let agent = &table.agents[0];
    let sum: u32 = (0..agent.versions.len()).map(|version| agent.split.weight(version).get()).sum();
    prop_assert_eq!(sum, Weight::FULL.get());
    Ok(())
}

fn rollback_is_in_reach(rollout: &AgentRollout, now: Moment) -> Result<(), TestCaseError> {
    let Some(live) = rollout.deployment().filter(|d| d.state.is_live()) else { return Ok(()) };
    let seen = Observation::none();
    let outcome = rollout.order(None, &Command::Rollback { to: None }, &ada(), (&seen, Cost::default()), now);
    let after = outcome.map_err(|error| TestCaseError::fail(error.to_string()))?.after;
    prop_assert_eq!(after.deployment().map(|d| (d.id.clone(), d.weight())), Some((live.id.clone(), Weight::ZERO)));
    prop_assert_eq!(&after.desired().canary, &None);
    let in_order = live.spec.version == rollout.spec.stable || after.desired().barred == [live.spec.version.clone()];
    prop_assert!(in_order, "{:?}", after.desired().barred);
    Ok(())
}

proptest! {
    #[test]
    fn no_history_breaks_the_rules(
        pauses: bool, guarded: bool, history in vec((0u64..2000, happens()), 1..60)
    ) {
        let mut now = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let mut rollout = file(None, "1.4.2", Some(a_block("a", pauses, guarded)), now);
        let mut ended = std::collections::BTreeSet::new();
        for (seconds, happens) in history {
            now = now.checked_add(Duration::from_secs(seconds)).expect("near");
            let before = rollout.clone();
            match &happens {
                Happens::Look(judgement, health) => {
                    let seen = Observation { judgement: judgement.clone(), health: health.clone() };
                    for action in rollout.plan(&seen, now) {
                        rollout.act(&action, Cost::default(), now);
                    }
                    silence_moves_nothing(&before, &rollout, &seen)?;
                }
                Happens::Order(command) => {
                    let seen = Observation::none();
                    if let Ok(outcome) = rollout.order(None, command, &ada(), (&seen, Cost::default()), now) {
                        rollout = outcome.after;
                    }
                }
                Happens::File(stable, block) => {
                    rollout = file(Some(&rollout), stable, block.map(|name| a_block(name, pauses, guarded)), now);
                }
            }
            traffic_is_whole(&rollout)?;
            rollback_is_in_reach(&rollout, now)?;
            // What has ended in blame never opens again; only a retry opens its like, under another id.
            for deployment in rollout.deployments() {
                prop_assert!(!deployment.state.is_live() || !ended.contains(&deployment.id), "{happens:?}");
                if deployment.state.is_barred() {
                    ended.insert(deployment.id.clone());
                }
            }
            latched(&before, &rollout, &happens)?;
            prop_assert!(rollout.state.history.len() <= DEPLOYMENTS_REMEMBERED);
            prop_assert!(rollout.state.points.len() <= POINTS_KEPT);
        }
    }
}

/// With guards, time and silence alone take no step, and end no bake.
fn silence_moves_nothing(before: &AgentRollout, after: &AgentRollout, seen: &Observation) -> Result<(), TestCaseError> {
    let (Some(old), Some(new)) = (before.deployment(), after.deployment()) else { return Ok(()) };
    if seen.judgement != Judgement::Silent || old.spec.guards.is_empty() || !old.state.on_trial() {
        return Ok(());
    }
    let last = |stage| stage == Stage::Step(old.spec.steps.len() - 1);
    let moved = new.weight() > old.weight() || new.state.as_str() == "completed";
    prop_assert!(!moved || old.state.stage().is_some_and(last), "{:?} → {:?}", old.state, new.state);
    Ok(())
}

/// A block that was rolled back or aborted opens by nothing but an operator.
fn latched(before: &AgentRollout, after: &AgentRollout, happens: &Happens) -> Result<(), TestCaseError> {
    let Some(new) = after.deployment().filter(|d| d.state.is_live()) else { return Ok(()) };
    let newest = before.deployments().find(|d| d.spec.fingerprint == new.spec.fingerprint);
    let was_barred = newest.is_some_and(|d| d.state.is_barred());
    prop_assert!(!was_barred || matches!(happens, Happens::Order(Command::Retry)), "{happens:?} opened {new:?}");
    Ok(())
}
