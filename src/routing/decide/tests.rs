use super::*;
use crate::routing::compile::compile;
use crate::routing::fixture::head;
use crate::routing::ids::{SegmentId, Weight};
use crate::routing::spec::*;
use crate::routing::table::RoutingTable;
use crate::telemetry::stats::StatsRegistry;
use http::{HeaderMap, HeaderValue};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Header names and values.
type Pairs<'a> = &'a [(&'static str, &'a str)];

fn version(name: &str) -> VersionId {
    VersionId::new(name)
}

/// Stable 1.4.2 and a 5 % canary 1.5.0 for everybody but segment `staff`; segment `beta` is sent to 1.6.0.
fn spec() -> (AgentSpec, CanaryShare) {
    let segment = |name: &str, header: &str| {
        let condition = Condition { attribute: header.parse().expect(header), test: Test::Exists(true) };
        (SegmentId::new(name), SegmentSpec { all: vec![condition], any: vec![] })
    };
    let versions = ["1.4.2", "1.5.0", "1.6.0"].map(|name| (version(name), VersionSpec { endpoints: vec![] }));
    let spec = AgentSpec {
        id: AgentId::new("support-bot"),
        environment: EnvironmentId::new("production"),
        routes: vec![],
        bucketing: BucketingSpec {
            key: ["header:x-user-id", "cookie:sid"].map(|source| source.parse().expect(source)).into(),
            salt: "2026-q1".into(),
            scheme: Scheme::Sha1,
            seed: None,
            json_limit_bytes: 0,
        },
        versions: versions.into(),
        stable: version("1.4.2"),
        segments: BTreeMap::from([segment("beta", "header:x-beta"), segment("staff", "header:x-staff")]),
        rules: vec![RuleSpec { segment: SegmentId::new("beta"), version: version("1.6.0") }],
        split: None,
        exchange: ExchangeSpec::default(),
        streams: StreamSpec::default(),
        conversations: None,
        rate_limits: vec![],
    };
    let audience = Audience { include: vec![], exclude: vec![SegmentId::new("staff")] };
    let weight = Weight::new(5_000).expect("a share");
    (spec, CanaryShare { version: version("1.5.0"), weight, audience })
}

fn table_of(spec: AgentSpec, canary: Option<CanaryShare>, barred: Vec<VersionId>) -> RoutingTable {
    let agents = vec![DesiredAgent { spec: Arc::new(spec), barred, left: vec![], canary, notes: Default::default() }];
    compile(&Desired { config_hash: "".into(), agents }, None, &StatsRegistry::new(1), 7).expect("a table")
}

fn table() -> RoutingTable {
    let (spec, canary) = spec();
    table_of(spec, Some(canary), vec![])
}

fn headers(pairs: Pairs<'_>) -> HeaderMap {
    pairs.iter().map(|(name, value)| ((*name).parse().expect("a name"), value.parse().expect("a value"))).collect()
}

/// The version, reason and bucket that a request with these headers gets.
fn decided(table: &RoutingTable, pairs: Pairs<'_>) -> (String, &'static str, Option<u32>) {
    let agent = &table.agents[0];
    let decision = decide(agent, &head(&headers(pairs)));
    (agent.versions[decision.version].id.to_string(), decision.reason.as_str(), decision.bucket)
}

#[test]
fn the_order_of_precedence() {
    let table = table();
    // Bucket 88,519 of `u1` too is by Python's hashlib.
    let cases: [(Pairs<'_>, &str, &str, Option<u32>); 9] = [
        (&[("x-user-id", "u1")], "1.4.2", "split", Some(88_519)),
        (&[("x-user-id", CANARY_USER.0)], "1.5.0", "split", Some(CANARY_USER.1)),
        (&[("cookie", "sid=u1")], "1.4.2", "split", Some(88_519)),
        (&[("x-user-id", "u1"), ("cookie", "sid=x")], "1.4.2", "split", Some(88_519)),
        (&[("x-user-id", ""), ("cookie", "sid=u1")], "1.4.2", "split", Some(88_519)),
        (&[], "1.4.2", "no_key", None),
        (&[("x-staff", "1"), ("x-user-id", CANARY_USER.0)], "1.4.2", "not_in_audience", None),
        (&[("x-beta", "1"), ("x-user-id", CANARY_USER.0)], "1.6.0", "rule", None),
        (&[("x-beta", "1"), ("x-staff", "1")], "1.6.0", "rule", None),
    ];
    for (request, version, reason, bucket) in cases {
        assert_eq!(decided(&table, request), (version.to_owned(), reason, bucket), "{request:?}");
    }
}

/// A key of the lowest 5 %, and its bucket by Python's hashlib.
const CANARY_USER: (&str, u32) = ("user-107", 4_140);

#[test]
fn with_nothing_but_stable_no_key_is_needed() {
    let (spec, canary) = spec();
    for canary in [None, Some(CanaryShare { weight: Weight::ZERO, ..canary.clone() })] {
        let table = table_of(spec.clone(), canary, vec![]);
        for request in [[].as_slice(), &[("x-user-id", "u1")], &[("x-staff", "1")]] {
            assert_eq!(decided(&table, request), ("1.4.2".to_owned(), "stable", None));
        }
    }
}

#[test]
fn without_a_key_it_is_stable_even_when_the_canary_has_everything() {
    let (spec, canary) = spec();
    let table = table_of(spec, Some(CanaryShare { weight: Weight::FULL, ..canary }), vec![]);
    assert_eq!(decided(&table, &[]), ("1.4.2".to_owned(), "no_key", None));
    assert_eq!(decided(&table, &[("x-user-id", "u1")]).0, "1.5.0");
}

#[test]
fn barred_versions_get_nothing() {
    let (spec, canary) = spec();
    let table = table_of(spec, Some(canary), vec![version("1.5.0"), version("1.6.0")]);
    for request in [[("x-user-id", CANARY_USER.0)], [("x-beta", "1")]] {
        assert_eq!(decided(&table, &request), ("1.4.2".to_owned(), "stable", None));
    }
}

#[test]
fn only_the_included_take_part() {
    let (spec, mut canary) = spec();
    canary.audience = Audience { include: vec![SegmentId::new("beta"), SegmentId::new("staff")], exclude: vec![] };
    let table = table_of(AgentSpec { rules: vec![], ..spec }, Some(canary), vec![]);
    let user = ("x-user-id", CANARY_USER.0);
    assert_eq!(decided(&table, &[user]).1, "not_in_audience");
    assert_eq!(decided(&table, &[user, ("x-staff", "1")]).0, "1.5.0");
    assert_eq!(decided(&table, &[user, ("x-beta", "1")]).0, "1.5.0");
}

#[test]
fn a_launchdarkly_split_goes_by_the_fraction() {
    let (mut spec, canary) = spec();
    spec.bucketing.scheme = Scheme::LaunchDarkly;
    let table = table_of(spec, Some(canary), vec![]);
    // 0.06879377740092645 by Node: 6,879 of 100,000, above 5 %.
    assert_eq!(decided(&table, &[("x-user-id", "user-4711")]), ("1.4.2".to_owned(), "split", Some(6_879)));
}

#[test]
fn an_explanation_agrees_with_the_decision_and_says_why() {
    let table = table();
    let agent = &table.agents[0];
    let cases: [(Pairs<'_>, &str, &str); 4] = [
        (&[("x-user-id", "u1")], "1.4.2", "bucket 88519 belongs to 1.4.2, which has 95% of the split"),
        (&[("x-beta", "1")], "1.6.0", "the request is in segment `beta`, which rules[0] sends to 1.6.0"),
        (&[("x-staff", "1")], "1.4.2", "the split is not for this request's segments, so stable 1.4.2 answers"),
        (&[], "1.4.2", "no bucketing key is present (header:x-user-id, cookie:sid), so stable 1.4.2 answers"),
    ];
    for (request, version, because) in cases {
        let headers = headers(request);
        let explanation = explain(agent, &head(&headers), table.epoch);
        let decision = decide(agent, &head(&headers));
        assert_eq!((explanation.version.as_str(), explanation.because.as_str()), (version, because));
        assert_eq!(explanation.version, agent.versions[decision.version].id);
        assert_eq!(explanation.reason, decision.reason.as_str());
        assert!(decision.bucket.is_none() || explanation.bucket == decision.bucket);
    }
}

#[test]
fn an_explanation_is_told_in_camel_case() {
    let table = table();
    let explanation = explain(&table.agents[0], &head(&headers(&[("cookie", "sid=u1")])), table.epoch);
    let json = serde_json::to_value(explanation).expect("JSON");
    let expected = serde_json::json!({
        "environment": "production", "agent": "support-bot", "epoch": 7, "keySource": "cookie:sid", "key": "u1",
        "bucket": 88519, "version": "1.4.2", "reason": "split",
        "because": "bucket 88519 belongs to 1.4.2, which has 95% of the split",
        "ranges": [
            {"start": 0, "end": 4999, "version": "1.5.0"}, {"start": 5000, "end": 99999, "version": "1.4.2"},
        ],
    });
    assert_eq!(json, expected);
}

#[test]
fn a_key_can_be_explained_without_a_request() {
    let table = table();
    let agent = &table.agents[0];
    let none = HeaderMap::new();
    let explanation = explain_key(agent, &head(&none), table.epoch, CANARY_USER.0);
    assert_eq!((explanation.version.as_str(), explanation.key_source.as_deref()), ("1.5.0", Some("given")));
    assert_eq!(explain_key(agent, &head(&none), table.epoch, "").reason, "no_key");
    // Also where the decision needs no key one wants to know the bucket.
    let (spec, _) = spec();
    let idle = table_of(spec, None, vec![]);
    let explanation = explain_key(&idle.agents[0], &head(&none), idle.epoch, "u1");
    assert_eq!((explanation.reason, explanation.bucket), ("stable", Some(88_519)));
    assert_eq!(explanation.because, "stable 1.4.2 has all of the traffic");
}

#[test]
fn keys_need_not_be_text() {
    let table = table();
    let mut headers = HeaderMap::new();
    headers.insert("x-user-id", HeaderValue::from_bytes(b"\xff\xfe").expect("opaque"));
    let explanation = explain(&table.agents[0], &head(&headers), 1);
    assert_eq!((explanation.key.as_deref(), explanation.reason), (Some("\u{fffd}\u{fffd}"), "split"));
}
