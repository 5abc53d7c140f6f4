//! One agent of the file → what its author wants of it.
//!
//! A part that was damaged is filled in with something harmless, so that the routing table can still
//! be asked about all the others: the result is then only good for finding more errors.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::super::errors::shown;
use super::super::file::{self, Op};
use super::super::scalar::{FromText, Ordered, Text};
use super::DEFAULT_ENVIRONMENT;
use super::conversations;
use super::deployment;
use super::ejection;
use super::endpoint_tls;
use super::health;
use super::rates;
use super::resilience::resilience;
use super::scope::Scope;
use super::streams;
use crate::control::model::AgentIntent;
use crate::routing::ids::{AgentId, EnvironmentId, SegmentId, VersionId};
use crate::routing::spec::{
    AgentSpec, Attribute, Audience, BucketingSpec, CanaryShare, Condition, ExchangeSpec, HostPolicy, Prices, Protocol,
    RouteSpec, RuleSpec, Scheme, SegmentSpec, SplitSpec, Test, VersionSpec,
};

const MAX_VERSIONS: usize = 1_000;
const BODY_BYTES: RangeInclusive<u64> = 0..=1 << 40;

/// An agent, and the share of its deployment that the routing table is asked about.
pub(super) struct Checked {
    pub(super) intent: AgentIntent,
    pub(super) share: Option<CanaryShare>,
}

/// `None` where too little is left to say anything of the whole.
pub(super) fn check(
    id: AgentId,
    agent: file::Agent,
    prices: &Arc<Prices>,
    scope: &mut Scope<'_, '_>,
) -> Option<Checked> {
    let versions = versions(agent.versions, scope);
    let stable = stable(agent.stable, &versions, scope);
    let segments = segments(agent.segments, scope);
    let routes = routes(&id, agent.routes, scope);
    let bucketing = bucketing(agent.bucketing.unwrap_or_default(), scope);
    let environment = agent.environment.as_ref().map(|Text(environment)| environment);
    let health = health::check(agent.health.unwrap_or_default(), "health", scope);
    let deployment = agent.deployment;
    let deployment =
        deployment.map(|d| deployment::check(d, &id, environment, &versions, stable.as_ref(), &health, scope));
    let (deployment, share) = deployment.unzip();
    let streams = streams::streams(agent.streams.unwrap_or_default(), prices, scope);
    let protocol = agent.protocol.map(|Text(protocol)| protocol);
    let checks = health::check(agent.checks.unwrap_or_default(), "checks", scope);
    let ejection = ejection::check(agent.ejection, scope);
    let exchange = exchange(protocol, agent.host, agent.timeouts.unwrap_or_default(), agent.max_request_body, scope);
    let whole = exchange.response_timeout;
    let resilience = resilience(agent.retries, agent.circuit_breaker, agent.priority, whole, scope);
    let mut exchange = ExchangeSpec { ejection, resilience, ..exchange };
    let has_tls = agent.tls.is_some();
    if let Some(given) = agent.tls {
        exchange.tls = Arc::new(endpoint_tls::check(given, "tls", scope));
    }
    let spec = AgentSpec {
        id,
        environment: agent.environment.map_or_else(|| EnvironmentId::new(DEFAULT_ENVIRONMENT), |Text(e)| e),
        routes,
        bucketing,
        stable: stable?,
        versions,
        segments,
        rules: if scope.is_damaged("rules") { vec![] } else { rules(agent.rules.unwrap_or_default()) },
        split: agent.split.filter(|_| !scope.is_damaged("split")).map(split),
        exchange,
        streams,
        conversations: agent.conversations.map(|given| conversations::check(given, scope)),
        rate_limits: rates::of_agent(agent.rate_limits, scope),
    };
    endpoint_tls::check_endpoints(&spec, has_tls, scope);
    let (deployment, health, checks) = (deployment.flatten(), health.into(), checks.into());
    let intent = AgentIntent { spec: Arc::new(spec), deployment, health, checks };
    Some(Checked { intent, share })
}

fn versions(
    given: Option<Ordered<VersionId, file::Version>>,
    scope: &mut Scope<'_, '_>,
) -> BTreeMap<VersionId, VersionSpec> {
    let entry = scope.node().entry("versions");
    if entry.is_none() {
        if !scope.node().has_lost("versions") {
            scope.error("", "the key `versions` is missing");
        }
    } else if !scope.is_damaged("versions") && given.as_ref().is_none_or(|given| given.0.is_empty()) {
        scope.error(
            "versions",
            "there is no version; expected at least one, such as `1.0.0: { endpoints: [http://127.0.0.1:7001] }`",
        );
    }
    let given = given.map_or_else(Vec::new, |given| given.0);
    if given.len() > MAX_VERSIONS {
        scope.error("versions", format!("{} versions; expected at most {MAX_VERSIONS}", given.len()));
    }
    let spec =
        |version: file::Version| VersionSpec { endpoints: version.endpoints.into_iter().map(|Text(e)| e).collect() };
    let mut versions: BTreeMap<_, _> = given.into_iter().map(|(id, version)| (id, spec(version))).collect();
    for id in damaged_names::<VersionId>("versions", scope) {
        versions.entry(id).or_insert_with(|| VersionSpec { endpoints: vec![] });
    }
    versions
}

/// The well-formed names in the map at `path` whose values are not.
fn damaged_names<T: FromText>(path: &str, scope: &Scope<'_, '_>) -> Vec<T> {
    let entries = scope.node().entry(path).map_or(&[][..], |entry| entry.value.entries());
    entries.iter().filter(|entry| entry.value.removed).filter_map(|entry| T::from_text(entry.key.text()).ok()).collect()
}

fn stable(
    given: Option<Text<VersionId>>,
    versions: &BTreeMap<VersionId, VersionSpec>,
    scope: &mut Scope<'_, '_>,
) -> Option<VersionId> {
    if let Some(Text(stable)) = given {
        // With no version at all, that is what is reported.
        return (!versions.is_empty()).then_some(stable);
    }
    if !scope.node().has_lost("stable") {
        let example = versions.keys().next().map(|version| format!("; expected a version, such as {version}"));
        scope.error("", format!("the key `stable` is missing{}", example.unwrap_or_default()));
    }
    versions.keys().next().cloned()
}

fn segments(
    given: Option<Ordered<SegmentId, file::Segment>>,
    scope: &mut Scope<'_, '_>,
) -> BTreeMap<SegmentId, SegmentSpec> {
    let mut segments = BTreeMap::new();
    for (id, segment) in given.map_or_else(Vec::new, |given| given.0) {
        let path = format!("segments.{id}");
        let (all, any) = (segment.all.unwrap_or_default(), segment.any.unwrap_or_default());
        if all.is_empty() && any.is_empty() && !scope.is_damaged(&path) {
            scope.error(&path, "there is no condition; expected at least one under `all` or `any`");
        }
        let all = conditions(all, &format!("{path}.all"), scope);
        let any = conditions(any, &format!("{path}.any"), scope);
        segments.insert(id, SegmentSpec { all, any });
    }
    for id in damaged_names::<SegmentId>("segments", scope) {
        segments.entry(id).or_insert_with(|| SegmentSpec { all: vec![anything()], any: vec![] });
    }
    segments
}

/// One for each of the file's list, so that each keeps its number.
fn conditions(given: Vec<file::Condition>, path: &str, scope: &mut Scope<'_, '_>) -> Vec<Condition> {
    let (count, positions) = scope.positions(path);
    let mut conditions: Vec<Condition> = (0..count).map(|_| anything()).collect();
    for (position, condition) in positions.into_iter().zip(given) {
        let Text(attribute) = condition.attribute;
        match test(condition.op, condition.value, condition.values) {
            Ok(test) => conditions[position] = Condition { attribute, test },
            Err((key, message)) => scope.error(&format!("{path}[{position}]{key}"), message),
        }
    }
    conditions
}

/// In place of a condition that is not understood.
fn anything() -> Condition {
    Condition { attribute: Attribute::Path, test: Test::Exists(true) }
}

/// The test, or the key that is at fault and why.
fn test(
    op: Op,
    value: Option<Text<String>>,
    values: Option<Vec<Text<String>>>,
) -> Result<Test, (&'static str, String)> {
    if let Op::In | Op::NotIn = op {
        if value.is_some() {
            return Err((".value", "`in` and `not_in` compare with several values; expected `values: [...]`".into()));
        }
        let values: Vec<String> = values.into_iter().flatten().map(|Text(value)| value).collect();
        if values.is_empty() {
            return Err(("", "there is nothing to compare with; expected `values: [...]`".into()));
        }
        return Ok(if op == Op::In { Test::In(values) } else { Test::NotIn(values) });
    }
    if values.is_some() {
        return Err((".values", "only `in` and `not_in` compare with several values; expected `value: ...`".into()));
    }
    let value = value.map(|Text(value)| value);
    if op == Op::Exists {
        return match value.as_deref() {
            None | Some("true") => Ok(Test::Exists(true)),
            Some("false") => Ok(Test::Exists(false)),
            Some(other) => {
                Err((".value", format!("`{}` says nothing of existence; expected true or false", shown(other))))
            }
        };
    }
    let value = value.ok_or_else(|| ("", "there is nothing to compare with; expected `value: ...`".to_owned()))?;
    Ok(match op {
        Op::Eq => Test::Eq(value),
        Op::Neq => Test::NotEq(value),
        Op::Gt => Test::Gt(value),
        Op::Gte => Test::Gte(value),
        Op::Lt => Test::Lt(value),
        Op::Lte => Test::Lte(value),
        Op::Contains => Test::Contains(value),
        Op::StartsWith => Test::StartsWith(value),
        Op::Matches => Test::Matches(regular_expression(&value)?),
        Op::In | Op::NotIn | Op::Exists => Test::Exists(true),
    })
}

fn regular_expression(text: &str) -> Result<regex::Regex, (&'static str, String)> {
    // The bound on the compiled form also bounds the memory that one line of the file can take.
    const SIZE_LIMIT: usize = 1 << 20;
    regex::RegexBuilder::new(text).size_limit(SIZE_LIMIT).build().map_err(|error| {
        // The regex's own report draws the place over several lines; its last line says what is wrong.
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        (".value", format!("`{}` is no regular expression: {reason}", shown(text)))
    })
}

/// One for each of the file's list, so that each keeps its number.
fn routes(agent: &AgentId, given: Option<Vec<file::Route>>, scope: &mut Scope<'_, '_>) -> Vec<RouteSpec> {
    let (count, positions) = scope.positions("match");
    let count = if scope.is_damaged("match") { count.max(1) } else { count };
    // In place of a route that is not understood: one that clashes with no other.
    let nowhere = |position| RouteSpec { path_prefix: Some(format!("/~~/{agent}/{position}")), ..RouteSpec::default() };
    let mut routes: Vec<RouteSpec> = (0..count).map(nowhere).collect();
    for (position, route) in positions.into_iter().zip(given.into_iter().flatten()) {
        let path = format!("match[{position}]");
        if scope.is_damaged(&path) {
            continue;
        }
        if route.host.is_none() && route.path_prefix.is_none() && route.headers.as_ref().is_none_or(|h| h.0.is_empty())
        {
            let keys = "expected `host`, `path_prefix` or `headers`, or no `match` at all to take every request";
            scope.error(&path, format!("the route is empty; {keys}"));
            continue;
        }
        routes[position] = one_route(route, &path, scope);
    }
    routes
}

fn one_route(given: file::Route, path: &str, scope: &mut Scope<'_, '_>) -> RouteSpec {
    let headers = given.headers.map_or_else(Vec::new, |headers| headers.0);
    let mut headers: Vec<_> = headers.into_iter().map(|(name, Text(value))| (name, value)).collect();
    headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    let host = given.host.map(|Text(host)| host.to_ascii_lowercase());
    let body = given.max_request_body;
    let body = body.map(|size| scope.bytes(&format!("{path}.max_request_body"), Some(size), 0, BODY_BYTES));
    RouteSpec { host, path_prefix: given.path_prefix.map(|Text(path)| path), headers, max_request_body_bytes: body }
}

fn bucketing(given: file::Bucketing, scope: &mut Scope<'_, '_>) -> BucketingSpec {
    let default = || {
        let header = |name| Attribute::Header(http::HeaderName::from_static(name));
        vec![header("x-user-id"), header("x-session-id"), Attribute::ClientIp]
    };
    let key = given.key.filter(|_| !scope.is_damaged("bucketing.key"));
    BucketingSpec {
        key: key.map_or_else(default, |key| key.into_iter().map(|Text(source)| source).collect()),
        salt: given.salt.map_or_else(String::new, |Text(salt)| salt).into(),
        scheme: given.scheme.map_or(Scheme::Sha1, |Text(scheme)| scheme),
        seed: given.seed.map(|seed| seed.0),
        json_limit_bytes: scope.bytes("bucketing.json_limit", given.json_limit, 64 << 10, 1..=16 << 20) as usize,
    }
}

fn rules(given: Vec<file::Rule>) -> Vec<RuleSpec> {
    given.into_iter().map(|rule| RuleSpec { segment: rule.segment.0, version: rule.version.0 }).collect()
}

fn split(given: file::Split) -> SplitSpec {
    SplitSpec { arms: given.arms, audience: audience(given.include, given.exclude) }
}

pub(super) fn audience(include: Option<Vec<Text<SegmentId>>>, exclude: Option<Vec<Text<SegmentId>>>) -> Audience {
    let ids = |given: Option<Vec<Text<SegmentId>>>| given.into_iter().flatten().map(|Text(id)| id).collect();
    Audience { include: ids(include), exclude: ids(exclude) }
}

fn exchange(
    protocol: Option<Protocol>,
    host: Option<Text<HostPolicy>>,
    given: file::Timeouts,
    max_request_body: Option<Text<super::super::scalar::Bytes>>,
    scope: &mut Scope<'_, '_>,
) -> ExchangeSpec {
    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);
    const MINUTE: Duration = Duration::from_secs(60);
    let default = ExchangeSpec::default();
    let mut limit = |key: &str, given: Option<_>| given.map(|given| scope.duration(key, Some(given), DAY, MS..=DAY));
    let response = limit("timeouts.response", given.response);
    let request_timeout = limit("timeouts.request", given.request);
    ExchangeSpec {
        protocol: protocol.unwrap_or(default.protocol),
        host: host.map_or(default.host, |Text(host)| host),
        connect_timeout: scope.duration("timeouts.connect", given.connect, default.connect_timeout, MS..=5 * MINUTE),
        response_timeout: response,
        request_timeout,
        idle_timeout: scope.duration("timeouts.idle", given.idle, default.idle_timeout, 100 * MS..=DAY),
        pool_idle: scope.duration(
            "timeouts.pool_idle",
            given.pool_idle,
            default.pool_idle,
            Duration::ZERO..=10 * MINUTE,
        ),
        max_request_body_bytes: scope.bytes(
            "max_request_body",
            max_request_body,
            default.max_request_body_bytes,
            BODY_BYTES,
        ),
        ..default
    }
}
