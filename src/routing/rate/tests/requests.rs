//! Limits of compiled agents.

use http::HeaderMap;

use super::*;
use crate::routing::fixture::{agent_with, head};
use crate::routing::spec::{Attribute, Condition, SegmentSpec, Test};
use crate::routing::table::Agent;

const TOKENS: TokenPace = TokenPace { pace: Pace { per_minute: 600, burst: 1_000 }, estimate: 100 };

fn limit(name: &str) -> RateLimitSpec {
    RateLimitSpec {
        name: name.into(),
        of_environment: false,
        key: vec!["header:x-user-id".parse().unwrap(), Attribute::ClientIp],
        segment: None,
        requests: None,
        tokens: None,
        concurrent: None,
        max_keys: 100,
        fields: true,
    }
}

fn with(limits: impl IntoIterator<Item = RateLimitSpec>) -> Arc<Agent> {
    let paid = Condition { attribute: "header:x-plan".parse().unwrap(), test: Test::Eq("paid".into()) };
    let limits: Vec<_> = limits.into_iter().map(Arc::new).collect();
    let change = |spec: &mut crate::routing::spec::AgentSpec| {
        spec.segments.insert(crate::routing::ids::SegmentId::new("paid"), SegmentSpec { all: vec![paid], any: vec![] });
        spec.rate_limits = limits;
    };
    agent_with(change, &[])
}

fn rates() -> SharedRates {
    Rates::new([3; 32], Instant::now())
}

fn fields(text: &[(&'static str, &str)]) -> HeaderMap {
    text.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn ask(agent: &Agent, rates: &Rates, headers: &HeaderMap, now: Nanos) -> Result<Admitted, Refused> {
    admit(agent.rates(rates).unwrap(), agent, &head(headers), now)
}

fn count(agent: &Agent, rates: &Rates, user: &str, now: Nanos) -> usize {
    let headers = fields(&[("x-user-id", user)]);
    (0..100).filter(|_| ask(agent, rates, &headers, now).is_ok()).count()
}

#[test]
fn an_agent_without_limits_asks_nobody() {
    assert!(with([]).rates(&rates()).is_none());
}

#[test]
fn callers_are_told_apart_by_the_first_source_that_is_there() {
    let (agent, rates) = (with([RateLimitSpec { requests: Some(PACE), ..limit("a") }]), rates());
    assert_eq!(["ann", "bob", "ann"].map(|user| count(&agent, &rates, user, 0)), [5, 5, 0]);
    // Without the header it is the address; the address in the header is not that.
    let nobody = fields(&[]);
    assert_eq!((0..9).filter(|_| ask(&agent, &rates, &nobody, 0).is_ok()).count(), 5);
    assert_eq!(count(&agent, &rates, "127.0.0.1", 0), 5);
    assert_eq!(rates.stats()[0].keys.keys, 4);
    assert_eq!(rates.stats()[0].refused[Kind::Requests as usize], 3 * 95 + 100 + 4);
}

#[test]
fn those_without_any_key_are_one_caller() {
    let key = vec!["header:x-user-id".parse().unwrap(), "cookie:sid".parse().unwrap()];
    let (agent, rates) = (with([RateLimitSpec { requests: Some(PACE), key, ..limit("a") }]), rates());
    let let_in = |headers: &HeaderMap| (0..9).filter(|_| ask(&agent, &rates, headers, 0).is_ok()).count();
    assert_eq!([let_in(&fields(&[])), let_in(&fields(&[("x-other", "b")]))], [5, 0]);
    assert_eq!(let_in(&fields(&[("cookie", "sid=1")])), 5);
}

#[test]
fn what_one_limit_refuses_takes_nothing_from_the_others() {
    let wide = RateLimitSpec {
        requests: Some(Pace { per_minute: 1, burst: 50 }),
        tokens: Some(TokenPace { pace: Pace { per_minute: 1, burst: 5_000 }, estimate: 100 }),
        concurrent: Some(50),
        key: vec![],
        ..limit("wide")
    };
    let narrow = RateLimitSpec { requests: Some(Pace { per_minute: 1, burst: 2 }), ..limit("narrow") };
    let (agent, rates) = (with([wide, narrow]), rates());
    assert_eq!([count(&agent, &rates, "ann", 0), count(&agent, &rates, "bob", 0)], [2, 2]);
    // Of fifty, four are gone, though two hundred have asked.
    let users = (0..100).map(|n| format!("user-{n}"));
    assert_eq!(users.map(|user| count(&agent, &rates, &user, 0)).sum::<usize>(), 46);
}

#[test]
fn places_come_back_however_a_request_ends() {
    let (agent, rates) = (with([RateLimitSpec { concurrent: Some(2), ..limit("a") }]), rates());
    let headers = fields(&[("x-user-id", "ann")]);
    let ask = || ask(&agent, &rates, &headers, 0);
    let (one, two) = (ask().unwrap(), ask().unwrap());
    let left = |admitted: &Admitted| admitted.left(0).map(|(_, kind, left)| (kind, left.units)).collect::<Vec<_>>();
    assert_eq!([left(&one), left(&two)], [[(Kind::Concurrent, 1)], [(Kind::Concurrent, 0)]]);
    assert_eq!(ask().err(), Some(Refused { seat: 0, kind: Kind::Concurrent, wait: SECOND }));
    drop(one);
    let three = ask().unwrap();
    assert!(ask().is_err());
    two.end(Spent::Unknown, 0);
    three.end(Spent::Exactly(9), 0);
    assert_eq!((ask().is_ok(), ask().is_ok()), (true, true));
}

#[test]
fn tokens_are_reserved_before_and_settled_after() {
    let (agent, rates) = (with([RateLimitSpec { tokens: Some(TOKENS), ..limit("a") }]), rates());
    let headers = fields(&[("x-user-id", "ann")]);
    let ask = |now| ask(&agent, &rates, &headers, now);
    let left = |admitted: &Admitted| admitted.left(0).next().unwrap().2.units;
    let first = ask(0).unwrap();
    assert_eq!(left(&first), 900, "the estimate is reserved");
    first.end(Spent::Exactly(300), 0);
    let second = ask(0).unwrap();
    assert_eq!(left(&second), 400, "300 are gone, and 300 reserved: what her answers cost");
    second.end(Spent::AtLeast(10), 0);
    let third = ask(0).unwrap();
    assert_eq!(left(&third), 100, "an answer that broke off costs no less than was reserved");
    third.end(Spent::Unknown, 0);
    // 600 a minute are ten a second; 100 are there, 300 needed.
    assert_eq!(ask(0).err().unwrap().wait, 20 * SECOND);
    assert!(ask(20 * SECOND).is_ok());
}

#[test]
fn a_great_answer_leaves_a_debt_and_does_not_lock_its_caller_out() {
    let (agent, rates) = (with([RateLimitSpec { tokens: Some(TOKENS), ..limit("a") }]), rates());
    let headers = fields(&[("x-user-id", "ann")]);
    ask(&agent, &rates, &headers, 0).unwrap().end(Spent::Exactly(1_600), 0);
    let refused = ask(&agent, &rates, &headers, 0).err().unwrap();
    // 600 are owed, and 1,000 reserved for the next: no more than there can be.
    assert_eq!((refused.kind, refused.wait), (Kind::Tokens, 160 * SECOND));
    assert!(ask(&agent, &rates, &headers, 160 * SECOND).is_ok());
    assert!(ask(&agent, &rates, &fields(&[("x-user-id", "bob")]), 0).is_ok(), "another caller");
}

#[test]
fn an_answer_that_costs_nothing_gives_back_what_was_reserved() {
    let (agent, rates) = (with([RateLimitSpec { tokens: Some(TOKENS), ..limit("a") }]), rates());
    let headers = fields(&[("x-user-id", "ann")]);
    for _ in 0..1_000 {
        ask(&agent, &rates, &headers, 0).unwrap().end(Spent::Exactly(0), 0);
    }
}

#[test]
fn a_request_that_nobody_was_asked_costs_no_tokens() {
    let (agent, rates) = (with([RateLimitSpec { tokens: Some(TOKENS), ..limit("t") }]), rates());
    assert_eq!(count(&agent, &rates, "u", SECOND), 100, "each was dropped before it was sent");
}

#[test]
fn a_limit_of_a_segment_is_for_its_requests_only() {
    let segment = Some(crate::routing::ids::SegmentId::new("paid"));
    let (agent, rates) = (with([RateLimitSpec { requests: Some(PACE), segment, ..limit("a") }]), rates());
    let free = fields(&[("x-user-id", "ann")]);
    assert_eq!((0..100).filter(|_| ask(&agent, &rates, &free, 0).is_ok()).count(), 100);
    let paid = fields(&[("x-user-id", "ann"), ("x-plan", "paid")]);
    assert_eq!((0..100).filter(|_| ask(&agent, &rates, &paid, 0).is_ok()).count(), 5);
}

#[test]
fn the_next_table_goes_on_from_what_was_used_and_a_new_rate_holds_at_once() {
    let slow = |burst| RateLimitSpec { requests: Some(Pace { per_minute: 60, burst }), ..limit("a") };
    let rates = rates();
    let before = with([slow(5)]);
    assert_eq!(count(&before, &rates, "ann", 0), 5);
    let after = with([slow(5), RateLimitSpec { concurrent: Some(9), ..limit("another") }]);
    drop(before);
    rates.sweep(0);
    assert_eq!(count(&after, &rates, "ann", 0), 0, "her five are gone in this table too");
    let wider = with([slow(8)]);
    assert_eq!(count(&wider, &rates, "ann", 0), 3);
    assert_eq!(count(&with([slow(5)]), &rates, "ann", 0), 0);
}

#[test]
fn a_limit_that_no_table_has_is_forgotten_when_it_has_nothing_to_remember() {
    let rates = rates();
    let agent = with([RateLimitSpec { requests: Some(PACE), ..limit("a") }]);
    assert_eq!(count(&agent, &rates, "ann", 0), 5);
    drop(agent);
    let sweep = |now| (0..17).for_each(|_| rates.sweep(now));
    sweep(0);
    assert_eq!(rates.stats().len(), 1);
    sweep(3_600 * SECOND);
    assert_eq!(rates.stats().len(), 0);
}

#[test]
fn a_limit_of_the_environment_is_shared_by_its_agents() {
    let everything = RateLimitSpec { of_environment: true, requests: Some(PACE), key: vec![], ..limit("all") };
    let rates = rates();
    let one = with([everything.clone()]);
    let change = |spec: &mut crate::routing::spec::AgentSpec| {
        spec.id = crate::routing::ids::AgentId::new("other");
        spec.rate_limits = vec![Arc::new(everything.clone())];
    };
    let other = agent_with(change, &[]);
    assert_eq!([count(&one, &rates, "ann", 0), count(&other, &rates, "bob", 0)], [5, 0]);
}

#[test]
fn fields_say_what_is_limited_and_how() {
    let all = RateLimitSpec {
        requests: Some(Pace { per_minute: 600, burst: 100 }),
        tokens: Some(TOKENS),
        concurrent: Some(4),
        ..limit("per-caller")
    };
    let rates = rates();
    let agent = with([all.clone(), RateLimitSpec { name: "hidden".into(), fields: false, ..all }]);
    let seats = agent.rates(&rates).unwrap();
    let shown =
        |seat: &Seat| Kind::ALL.map(|kind| seat.policy(kind).map(|policy| policy.field.to_str().unwrap().to_owned()));
    let expected = [
        r#""per-caller";q=100;w=10"#,
        r#""per-caller.tokens";q=1000;qu="tokens";w=100"#,
        r#""per-caller.concurrent";q=4;qu="concurrent-requests""#,
    ];
    assert_eq!(shown(&seats[0]), expected.map(|field| Some(field.to_owned())));
    assert_eq!(shown(&seats[1]), [None, None, None]);
}
