//! Rate limits: each limits something, and has a name of its own.

use std::sync::Arc;

use super::super::errors::{shown, suggestion};
use super::super::file::RateLimit;
use super::super::scalar::{Text, Whole};
use super::agent::Checked;
use super::scope::Scope;
use crate::routing::ids::EnvironmentId;
use crate::routing::rate::{PER_MINUTE_MAX, Pace, RateLimitSpec, TokenPace};
use crate::routing::spec::{Attribute, Dialect};

const PATH: &str = "rate_limits";
const MAX_LIMITS: usize = 16;
const MAX_SOURCES: usize = 16;
const MAX_NAME_BYTES: usize = 64;
const MAX_CONCURRENT: u64 = 1_000_000;
const MAX_KEYS: u64 = 10_000_000;
const DEFAULT_KEYS: u64 = 100_000;
const DEFAULT_ESTIMATE: u64 = 1_000;

/// A limit at the top of the file; `environment`: `None` for every one.
pub(super) struct OfEnvironments {
    environment: Option<EnvironmentId>,
    /// Where it stands in the file.
    at: String,
    spec: Arc<RateLimitSpec>,
}

pub(super) fn of_file(given: Option<Vec<RateLimit>>, scope: &mut Scope<'_, '_>) -> Vec<OfEnvironments> {
    let given = given.unwrap_or_default();
    let mut places = Vec::with_capacity(given.len());
    for (at, limit) in positioned(&given, scope) {
        if limit.segment.is_some() {
            let message = "segments are an agent's; move the limit to the agent, or leave `segment` out";
            scope.error(&format!("{at}.segment"), message);
        }
        places.push((at, limit.environment.as_ref().map(|Text(environment)| environment.clone())));
    }
    let specs = places.into_iter().zip(list(given, true, scope));
    specs.map(|((at, environment), spec)| OfEnvironments { environment, at, spec }).collect()
}

/// Those of one agent.
pub(super) fn of_agent(given: Option<Vec<RateLimit>>, scope: &mut Scope<'_, '_>) -> Vec<Arc<RateLimitSpec>> {
    let given = given.unwrap_or_default();
    for (at, _) in positioned(&given, scope).into_iter().filter(|(_, limit)| limit.environment.is_some()) {
        let message = "the agent has an environment; leave it out, or move the limit to the top of the file";
        scope.error(&format!("{at}.environment"), message);
    }
    let specs = list(given, false, scope);
    // With one missing, the others would have wrong numbers in what is said of them later.
    if scope.is_damaged(PATH) { Vec::new() } else { specs }
}

/// Gives each agent what is limited for its environment.
pub(super) fn join(agents: &mut [Checked], limits: &[OfEnvironments], scope: &mut Scope<'_, '_>) {
    for limit in limits {
        let Some(environment) = &limit.environment else { continue };
        let known = agents.iter().map(|agent| agent.intent.spec.environment.as_str());
        if !known.clone().any(|known| known == environment.as_str()) && !scope.is_damaged("agents") {
            let meant = suggestion(environment.as_str(), known);
            let message = format!("no agent is of the environment `{environment}`{meant}");
            scope.error(&format!("{}.environment", limit.at), message);
        }
    }
    for agent in agents {
        let spec = Arc::make_mut(&mut agent.intent.spec);
        for (index, own) in spec.rate_limits.iter().enumerate() {
            if limits.iter().any(|limit| limit.spec.name == own.name) {
                let message = "is the name of a limit at the top of the file as well; expected each once";
                scope.error(&format!("agents.{}.{PATH}[{index}].name", spec.id), message);
            }
            if own.tokens.is_some() && spec.streams.dialect == Dialect::Off {
                let message = "`streams: { dialect: off }` leaves answers unread, and so tells no tokens";
                scope.error(&format!("agents.{}.{PATH}[{index}].tokens_per_minute", spec.id), message);
            }
        }
        let is_for = |limit: &&OfEnvironments| limit.environment.as_ref().is_none_or(|e| *e == spec.environment);
        let joined: Vec<_> = limits.iter().filter(is_for).map(|limit| limit.spec.clone()).collect();
        spec.rate_limits.extend(joined);
    }
}

/// Each with where it stands.
fn positioned<'a>(given: &'a [RateLimit], scope: &Scope<'_, '_>) -> Vec<(String, &'a RateLimit)> {
    let positions = scope.positions(PATH).1;
    positions.into_iter().zip(given).map(|(position, limit)| (format!("{PATH}[{position}]"), limit)).collect()
}

fn list(given: Vec<RateLimit>, of_environment: bool, scope: &mut Scope<'_, '_>) -> Vec<Arc<RateLimitSpec>> {
    if given.len() > MAX_LIMITS {
        scope.error(PATH, format!("{} limits; expected at most {MAX_LIMITS}", given.len()));
    }
    let positions = scope.positions(PATH).1;
    let mut specs: Vec<Arc<RateLimitSpec>> = Vec::with_capacity(given.len());
    for (position, limit) in positions.into_iter().zip(given) {
        let spec = one(limit, of_environment, &format!("{PATH}[{position}]"), scope);
        if specs.iter().any(|other| other.name == spec.name) {
            scope.error(&format!("{PATH}[{position}].name"), "is the name of another limit; expected each once");
        }
        specs.push(Arc::new(spec));
    }
    specs
}

fn one(given: RateLimit, of_environment: bool, at: &str, scope: &mut Scope<'_, '_>) -> RateLimitSpec {
    check_name(&given.name.0, at, scope);
    check_companions(&given, at, scope);
    let key = key(given.key, at, scope);
    let mut count = |name: &str, given: Option<Whole>, default: u64, range| {
        scope.count(&format!("{at}.{name}"), given, default, range)
    };
    let requests = given.requests_per_minute.map(|given_rate| {
        let per_minute = count("requests_per_minute", Some(given_rate), 1, 1..=PER_MINUTE_MAX);
        let burst = count("request_burst", given.request_burst, (per_minute / 6).max(1), 1..=PER_MINUTE_MAX);
        Pace { per_minute, burst }
    });
    let tokens = given.tokens_per_minute.map(|given_rate| {
        let per_minute = count("tokens_per_minute", Some(given_rate), 1, 1..=PER_MINUTE_MAX);
        let burst = count("token_burst", given.token_burst, per_minute, 1..=PER_MINUTE_MAX);
        let default = DEFAULT_ESTIMATE.min(burst);
        let estimate = count("token_estimate", given.token_estimate, default, 0..=burst.max(1));
        TokenPace { pace: Pace { per_minute, burst }, estimate }
    });
    let concurrent = given.concurrent.map(|given| count("concurrent", Some(given), 1, 1..=MAX_CONCURRENT) as u32);
    RateLimitSpec {
        max_keys: count("max_keys", given.max_keys, DEFAULT_KEYS, 1..=MAX_KEYS) as usize,
        name: given.name.0.into(),
        of_environment,
        key,
        segment: given.segment.map(|Text(segment)| segment).filter(|_| !of_environment),
        requests,
        tokens,
        concurrent,
        fields: given.fields.unwrap_or(true),
    }
}

fn check_name(name: &str, at: &str, scope: &mut Scope<'_, '_>) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_plain) {
        let expected = format!("expected up to {MAX_NAME_BYTES} letters, digits, `-` and `_`");
        scope.error(&format!("{at}.name"), format!("`{}` is no name for a limit; {expected}", shown(name)));
    }
}

/// What only means something together with something else.
fn check_companions(given: &RateLimit, at: &str, scope: &mut Scope<'_, '_>) {
    let limits = [given.requests_per_minute.is_some(), given.tokens_per_minute.is_some(), given.concurrent.is_some()];
    if limits == [false; 3] && !scope.is_damaged(at) {
        scope.error(at, "limits nothing; expected `requests_per_minute`, `tokens_per_minute` or `concurrent`");
    }
    let companions = [
        ("request_burst", given.request_burst.is_some(), "requests_per_minute", limits[0]),
        ("token_burst", given.token_burst.is_some(), "tokens_per_minute", limits[1]),
        ("token_estimate", given.token_estimate.is_some(), "tokens_per_minute", limits[1]),
        ("max_keys", given.max_keys.is_some(), "key", given.key.is_some()),
    ];
    for (name, _, needed, _) in companions.into_iter().filter(|(_, given, _, needed)| *given && !needed) {
        if !scope.is_damaged(&format!("{at}.{needed}")) {
            scope.error(&format!("{at}.{name}"), format!("says nothing without `{needed}`; expected both or neither"));
        }
    }
}

fn key(given: Option<Vec<Text<Attribute>>>, at: &str, scope: &mut Scope<'_, '_>) -> Vec<Attribute> {
    let path = format!("{at}.key");
    let is_given = given.is_some();
    let key: Vec<_> = given.into_iter().flatten().map(|Text(source)| source).collect();
    if is_given && key.is_empty() && !scope.is_damaged(&path) {
        scope.error(&path, "is empty; leave it out for one allowance that all share");
    }
    if key.len() > MAX_SOURCES {
        scope.error(&path, format!("{} sources; expected at most {MAX_SOURCES}", key.len()));
    }
    for (position, source) in scope.positions(&path).1.into_iter().zip(&key) {
        let why = match source {
            Attribute::Json(_) => "a body is not read before it is known whether the request may go on",
            Attribute::Request => "each request is another",
            _ => continue,
        };
        let message =
            format!("`{source}` tells no callers apart: {why}; expected header, cookie, query, jwt or client_ip");
        scope.error(&format!("{path}[{position}]"), message);
    }
    key
}
