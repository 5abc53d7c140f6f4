//! Orders over real tables: who is told what, and what the table then says.

use super::tests::{Bench, ada, key, percent};
use super::*;
use crate::control::command::{Command, CommandError, Done, Order, RollbackTarget};
use crate::control::feed::{EVENTS_KEPT, EventKind};
use crate::control::fixture::{a_spec, an_agent, intent, intent_of};
use crate::control::model::{DeploymentId, DeploymentSpec};
use crate::control::request::DeploymentRequest;
use crate::routing::ids::{AgentId, EnvironmentId, VersionId, Weight};

fn a_bench() -> Bench {
    Bench::new(intent(Some(DeploymentSpec { guards: vec![], ..a_spec() })))
}

fn create(version: &str) -> Command {
    Command::Create(Box::new(DeploymentRequest::new(VersionId::new(version))))
}

#[test]
fn an_order_says_what_it_changed() {
    let bench = a_bench();
    let done = bench.order(Command::Advance, bench.at(1)).expect("is running");
    let id = bench.view().deployment.id;
    assert_eq!(
        done.changes,
        [format!("deployment {id} of 1.5.0: running, step 1 of 3, 1% → running, step 2 of 3, 5%")]
    );
    assert_eq!((done.revision, done.epoch, bench.weight("1.5.0")), (2, 2, percent(5)));
    let done = bench.order(Command::Pause, bench.at(2)).expect("is running");
    assert_eq!((done.revision, done.epoch), (3, 2), "a pause moves no traffic");
    let done = bench.order(Command::Promote, bench.at(3));
    assert!(matches!(done, Ok(ref done) if done.changes[0] == "stable: 1.4.2 → 1.5.0"), "{done:?}");
    assert_eq!(bench.weight("1.5.0"), Weight::FULL);
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let bench = a_bench();
    for command in [Command::Advance, Command::Abort, Command::Promote, Command::Rollback { to: None }] {
        let before = (bench.epoch(), bench.view().revision, bench.state());
        let dry = Order { dry_run: true, ..Order::by(ada()) };
        let would = bench.control.order_at(&key(), None, &command, &dry, bench.at(9)).expect("could be done");
        assert_eq!((bench.epoch(), bench.view().revision, bench.state()), before);
        let sure = a_bench();
        let done = sure.control.order_at(&key(), None, &command, &Order::by(ada()), sure.at(9)).expect("can be done");
        let state = |done: &Done| done.view.as_ref().map(|view| view.deployment.state.as_str());
        assert_eq!((state(&would), would.changes.len()), (state(&done), done.changes.len()));
    }
}

#[test]
fn of_two_operators_at_once_the_second_is_told_what_the_first_did() {
    let bench = a_bench();
    let seen = bench.view().revision;
    let order = |name: &str| Order { expected_revision: Some(seen), ..Order::by(Actor::new(name, "api")) };
    let first = bench.control.order_at(&key(), None, &Command::Pause, &order("ada"), bench.at(1));
    first.expect("nobody was before");
    let second = bench.control.order_at(&key(), None, &Command::Promote, &order("bob"), bench.at(2));
    let Err(CommandError::Conflict(conflict)) = second else { panic!("{second:?}") };
    assert_eq!((conflict.expected, conflict.current), (seen, seen + 1));
    assert_eq!(conflict.changed.len(), 1);
    assert_eq!(conflict.changed[0].by, Actor::new("ada", "api"));
    assert!(conflict.to_string().contains("ada (api)") && conflict.to_string().contains("paused"), "{conflict}");
    assert_eq!(bench.state(), "paused");
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy_and_changes_nothing() {
    let bench = a_bench();
    let refused = |command, expected: &str| {
        let epoch = bench.epoch();
        let error = bench.order(command, bench.at(1)).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(bench.epoch(), epoch);
    };
    refused(Command::Resume, "only a paused one");
    refused(create("1.6.0"), "end it first");
    refused(Command::Rollback { to: Some(RollbackTarget::Version(VersionId::new("9.9.9"))) }, "9.9.9");
    refused(Command::Rollback { to: Some(RollbackTarget::Point("7".into())) }, "it has none");
    let other = DeploymentId::new("nowhere");
    let error = bench.control.order_at(&key(), Some(&other), &Command::Pause, &Order::by(ada()), bench.at(1));
    assert!(matches!(error, Err(CommandError::UnknownDeployment { .. })), "{error:?}");
    bench.order(Command::Abort, bench.at(2)).expect("is running");
    refused(create("9.9.9"), "9.9.9");
    assert!(bench.registry.versions().len() <= 3, "a refused deployment leaves no counters");
}

#[test]
fn an_emergency_rolls_back_all_of_an_environment_in_one_table() {
    let named = |name: &str, environment: &str| {
        let mut spec = an_agent();
        (spec.id, spec.environment) = (AgentId::new(name), EnvironmentId::new(environment));
        spec.routes =
            vec![crate::routing::spec::RouteSpec { path_prefix: Some(format!("/{name}")), ..Default::default() }];
        let deployment = Some(DeploymentSpec { fingerprint: name.into(), ..a_spec() });
        intent_of(spec, deployment).agents.remove(0)
    };
    let agents = vec![named("a", "production"), named("b", "production"), named("c", "staging")];
    let bench = Bench::new(Intent { config_hash: "cafe".into(), agents, prometheus: None });
    let environment = EnvironmentId::new("production");
    let dry = Order { dry_run: true, ..Order::by(ada()) };
    let would = bench.control.emergency_at(&environment, &dry, bench.at(1)).expect("two");
    assert_eq!((would.len(), bench.epoch()), (2, 1));
    let done = bench.control.emergency_at(&environment, &Order::by(ada()), bench.at(1)).expect("two");
    let agents: Vec<_> = done.iter().map(|done| (done.key.agent.as_str(), done.epoch, done.revision)).collect();
    assert_eq!(agents, [("a", 2, 2), ("b", 2, 2)]);
    let states: Vec<_> = bench.control.deployments().iter().map(|d| d.deployment.state.as_str()).collect();
    assert_eq!(states, ["rolled_back", "rolled_back", "running"]);
    let again = bench.control.emergency_at(&environment, &Order::by(ada()), bench.at(2)).expect("none left");
    assert!(again.is_empty() && bench.epoch() == 2);
    let would = bench.control.emergency_at(&EnvironmentId::new("staging"), &dry, bench.at(2)).expect("one");
    assert_eq!(would[0].revision, 1, "what that agent can be expected to have, whatever others came to");
    let nowhere = bench.control.emergency_at(&EnvironmentId::new("moon"), &Order::by(ada()), bench.at(3));
    assert!(matches!(nowhere, Err(CommandError::UnknownEnvironment(_))), "{nowhere:?}");
}

#[test]
fn an_explanation_names_the_rollback_and_who_made_what_stable() {
    use crate::routing::decide::explain_key;
    let bench = a_bench();
    let explain = || {
        let table = bench.control.table().load_full();
        let agent = table.agent("production", "support-bot").expect("is there");
        let headers = http::HeaderMap::new();
        let head = crate::routing::table::Head {
            method: &http::Method::GET,
            host: "",
            path: "/",
            query: None,
            headers: &headers,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            certificate: None,
            json: None,
            nonce: 0,
        };
        explain_key(agent, &head, table.epoch, "user-7")
    };
    assert!(explain().deployment.is_some_and(|d| d.contains("by the file cafe")), "{:?}", explain().deployment);
    bench.rollback(bench.at(60)).expect("is running");
    let because = explain().because;
    assert!(because.contains("1.5.0 was rolled back at 1970-01-01T00:01:00Z by ada (api): smells"), "{because}");
    bench
        .order(Command::Rollback { to: Some(RollbackTarget::Version(VersionId::new("1.6.0"))) }, bench.at(61))
        .expect("ok");
    let stable_by = explain().stable_by;
    assert!(stable_by.as_ref().is_some_and(|by| by.starts_with("1.6.0 is stable by ada (api)")), "{stable_by:?}");
}

#[test]
fn who_follows_sees_every_change_or_is_told_what_was_missed() {
    let bench = a_bench();
    let mut newest = bench.control.newest_event();
    newest.mark_unchanged();
    bench.order(Command::Pause, bench.at(1)).expect("is running");
    assert!(newest.has_changed().expect("the feed is there"));
    let events = bench.control.events_since(0).expect("all are kept");
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Created, EventKind::Paused]);
    assert_eq!(events[1].by, ada());
    let text = serde_json::to_string(&events[1]).expect("a document");
    assert!(text.contains(r#""kind":"paused""#) && text.contains(r#""agent":"support-bot""#), "{text}");
    assert_eq!(bench.control.events_since(2), Ok(vec![]));
    assert!(bench.control.events_since(3).is_err(), "no such id was ever given out");

    for round in 0..EVENTS_KEPT as u64 {
        let command = if round % 2 == 0 { Command::Resume } else { Command::Pause };
        bench.order(command, bench.at(2)).expect("paused and running by turns");
    }
    let missed = bench.control.events_since(1).expect_err("the second is gone");
    assert_eq!((missed.oldest, missed.newest), (3, 2 + EVENTS_KEPT as u64));
    assert_eq!(bench.control.events_since(2).map(|events| events.len()), Ok(EVENTS_KEPT));
}
