//! The shape of the YAML file, as it is written. Unknown keys are errors; what is left out stays
//! `None` here and gets its default in [`super::check`]. The JSON Schema comes from these types, so
//! that their comments are what an editor shows.

use std::fmt;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::scalar::{Amount, Bytes, Fraction, ModelName, Number, Ordered, Text, Whole};
use crate::routing::ids::{AgentId, EnvironmentId, SegmentId, VersionId, Weight};
use crate::routing::spec::{Attribute, EndpointAddress, HostPolicy, Protocol, Scheme};

mod conversations;
mod ejection;
mod endpoint_tls;
mod limits;
mod outside;
mod rates;
mod resilience;
mod streams;
mod tls;

pub(super) use conversations::{Conversations, Key, Overrides, Pins, Policy, Token};
pub(super) use ejection::{Ejection, Rule as EjectionRule};
pub(super) use endpoint_tls::EndpointTls;
pub(super) use limits::{EncodedSlash, ForwardPath, Limits, Paths};
pub(super) use outside::{HealthCheck, HttpCheck, Prometheus};
pub(super) use rates::RateLimit;
pub(super) use resilience::{Backoff, Budget, CircuitBreaker, LoadShedding, Priority, Retries};
pub(super) use streams::{Dialect, Encoded, Price, Streams};
pub(super) use tls::{Certificate as TlsCertificate, ClientAuth, ClientAuthMode, Tls};

type Duration = Text<std::time::Duration>;

/// Configuration of Pointsman. `${NAME}` and `${NAME:-default}` stand for environment variables in any value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `agents`")]
#[schemars(title = "pointsman.yaml")]
pub(super) struct File {
    /// Where requests come in. Default: one on 127.0.0.1:8080 for `production`.
    pub(super) listeners: Option<Vec<Listener>>,
    /// The operator's port: probes, metrics, API.
    pub(super) admin: Option<Admin>,
    /// Directory of the embedded store; `none`: keep nothing beyond the process. Default: `./state`.
    pub(super) state_dir: Option<Text<String>>,
    /// Data-plane threads. Default: one per core.
    #[schemars(range(min = 1, max = 256))]
    pub(super) workers: Option<Whole>,
    /// Whether responses carry `x-pointsman-version`. Default: true.
    pub(super) version_header: Option<bool>,
    /// What a client connection may use.
    pub(super) limits: Option<Limits>,
    /// Addresses and blocks of the proxies before this one, such as `10.0.0.0/8`: only what they say in
    /// `X-Forwarded-*` and `Forwarded` is passed on, and the client is whom they name. Default: none.
    pub(super) trusted_proxies: Option<Vec<Text<String>>>,
    /// In which form paths are matched and forwarded.
    pub(super) paths: Option<Paths>,
    /// When requests are refused because there is too much to do.
    pub(super) load_shedding: Option<LoadShedding>,
    /// Write a line of JSON per request. Default: none is written.
    pub(super) access_log: Option<AccessLog>,
    /// The server that guards with a `query` ask.
    pub(super) prometheus: Option<Prometheus>,
    /// What a million tokens cost, by the model's name as answers tell it; `gpt-5*` is for all that begin so, and
    /// `default` for all others. The exact name counts first, then the longest that fits.
    pub(super) prices: Option<Ordered<ModelName, Price>>,
    /// The table of conversations that keep their version, and the keys of their tokens.
    pub(super) pins: Option<Pins>,
    /// Signed requests for a version. Default: none is honoured.
    pub(super) overrides: Option<Overrides>,
    /// What all agents of an environment may get together, or each caller from all of them.
    pub(super) rate_limits: Option<Vec<RateLimit>>,
    /// The agents by name.
    #[schemars(required)]
    pub(super) agents: Option<Ordered<AgentId, Agent>>,
}

/// An address to accept requests on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a listener: a map with `address`")]
pub(super) struct Listener {
    /// IP address and port.
    pub(super) address: Text<std::net::SocketAddr>,
    /// Only agents of this environment answer here. Default: `production`.
    pub(super) environment: Option<Text<EnvironmentId>>,
    /// Whether clients may speak HTTP/2 beside HTTP/1.1: with prior knowledge, or agreed on in the TLS handshake
    /// (ALPN). Default: true.
    pub(super) http2: Option<bool>,
    /// Clients speak TLS here, and nothing else. Default: they speak in clear.
    pub(super) tls: Option<Tls>,
}

/// The operator's port.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `address`, `token` and `tls`")]
pub(super) struct Admin {
    /// Default: 127.0.0.1:9901. Any address that is not loopback needs a token.
    pub(super) address: Option<Text<std::net::SocketAddr>>,
    /// Bearer token that every API request must carry; best as `${POINTSMAN_ADMIN_TOKEN}`.
    pub(super) token: Option<Text<String>>,
    /// It speaks TLS, and nothing else. Default: it speaks in clear.
    pub(super) tls: Option<Tls>,
}

/// A line of JSON per request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `path` and `sample`")]
pub(super) struct AccessLog {
    /// `stdout` or a file. Default: stdout.
    pub(super) path: Option<Text<String>>,
    /// The share of requests that is logged, chosen at random; errors always are. Default: 100%.
    pub(super) sample: Option<Text<Fraction>>,
}

/// A named service that has versions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an agent: a map with `versions` and `stable`")]
pub(super) struct Agent {
    /// The environment whose listeners serve it. Default: `production`.
    pub(super) environment: Option<Text<EnvironmentId>>,
    /// The requests that are for this agent: those that fit any of these. None: every request.
    #[serde(rename = "match")]
    pub(super) routes: Option<Vec<Route>>,
    /// What makes a caller sticky.
    pub(super) bucketing: Option<Bucketing>,
    /// The versions by SemVer name.
    #[schemars(required)]
    pub(super) versions: Option<Ordered<VersionId, Version>>,
    /// The version that serves by default.
    #[schemars(required)]
    pub(super) stable: Option<Text<VersionId>>,
    /// Named sets of conditions.
    pub(super) segments: Option<Ordered<SegmentId, Segment>>,
    /// Segments that go to a fixed version, before any split. The first that fits wins.
    pub(super) rules: Option<Vec<Rule>>,
    /// A standing split between versions. Not together with `deployment`.
    pub(super) split: Option<Split>,
    /// A version to bring in, and how.
    pub(super) deployment: Option<Deployment>,
    /// The `health` of deployments that do not have their own: those of the API never do.
    pub(super) health: Option<Vec<HealthCheck>>,
    /// Asked of every endpoint of the versions that serve, for as long as they do: one that fails gets no requests
    /// until it passes. Default: none.
    pub(super) checks: Option<Vec<HealthCheck>>,
    /// When an endpoint that fails requests gets none for a while. Default: after 5 failures in a row.
    pub(super) ejection: Option<Ejection>,
    /// What its endpoints speak: `http1` or `http2` (in cleartext with prior knowledge, in TLS by ALPN). Default: http1.
    pub(super) protocol: Option<Text<Protocol>>,
    /// How its `https` endpoints prove who they are, and we to them. Default: by the system's authorities and the
    /// endpoint's host; nothing is shown.
    pub(super) tls: Option<EndpointTls>,
    /// What the agent sees as `Host`. Default: pass.
    pub(super) host: Option<Text<HostPolicy>>,
    /// How long the phases of an exchange with the agent may take.
    pub(super) timeouts: Option<Timeouts>,
    /// When a request is sent again.
    pub(super) retries: Option<Retries>,
    /// When a version gets no more requests for a while. Default: never.
    pub(super) circuit_breaker: Option<CircuitBreaker>,
    /// Who is refused first when there is too much to do. Default: normal.
    pub(super) priority: Option<Priority>,
    /// How its answers are read as they pass.
    pub(super) streams: Option<Streams>,
    /// A larger request body gets 413. Default: 64MiB.
    pub(super) max_request_body: Option<Text<Bytes>>,
    /// How a conversation keeps the version that it began on. Default: each request is decided by itself.
    pub(super) conversations: Option<Conversations>,
    /// What this agent may get; beside those at the top of the file, which hold as well.
    pub(super) rate_limits: Option<Vec<RateLimit>>,
}

/// Which requests are for an agent: all that is given must fit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a route: a map with `host`, `path_prefix` or `headers`")]
pub(super) struct Route {
    /// Without port; `*.example.com` takes any subdomain.
    pub(super) host: Option<Text<String>>,
    /// By whole segments: `/v1` takes `/v1/x` and never `/v10`.
    pub(super) path_prefix: Option<Text<String>>,
    /// Exact values by header name.
    pub(super) headers: Option<Ordered<HeaderName, Text<String>>>,
    /// A larger request body gets 413. Default: the agent's `max_request_body`.
    pub(super) max_request_body: Option<Text<Bytes>>,
}

/// What makes a caller sticky.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `key`, `salt` or `scheme`")]
pub(super) struct Bucketing {
    /// Tried in order; the first that a request has is its key. Default: header:x-user-id, header:x-session-id, client_ip.
    pub(super) key: Option<Vec<Text<Attribute>>>,
    /// Changing it deals the buckets anew. Default: empty.
    pub(super) salt: Option<Text<String>>,
    /// Default: sha1.
    pub(super) scheme: Option<Text<Scheme>>,
    /// LaunchDarkly's seed; only with that scheme.
    pub(super) seed: Option<Whole>,
    /// How large a body may be to be searched for a `json:` key. Default: 64KiB.
    pub(super) json_limit: Option<Text<Bytes>>,
}

/// One release of an agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a version: a map with `endpoints`")]
pub(super) struct Version {
    /// Addresses that serve it. With none, its requests get 503.
    pub(super) endpoints: Vec<Text<EndpointAddress>>,
}

/// A named set of conditions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a segment: a map with `all` or `any`")]
pub(super) struct Segment {
    /// Every one must hold.
    pub(super) all: Option<Vec<Condition>>,
    /// At least one must hold.
    pub(super) any: Option<Vec<Condition>>,
}

/// A test of one attribute of a request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a condition: a map with `attribute`, `op` and `value`")]
pub(super) struct Condition {
    pub(super) attribute: Text<Attribute>,
    pub(super) op: Op,
    /// What to compare with; for `exists` true (the default) or false.
    pub(super) value: Option<Text<String>>,
    /// For `in` and `not_in`.
    pub(super) values: Option<Vec<Text<String>>>,
}

/// How to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    NotIn,
    Contains,
    StartsWith,
    Matches,
    Exists,
}

/// Requests of a segment go to a version.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a rule: a map with `segment` and `version`")]
pub(super) struct Rule {
    pub(super) segment: Text<SegmentId>,
    pub(super) version: Text<VersionId>,
}

/// Versions with their shares, such as `{ 1.4.2: 95%, 1.5.0: 5% }`, and whom the split is for.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) arms: Vec<(VersionId, Weight)>,
    pub(super) include: Option<Vec<Text<SegmentId>>>,
    pub(super) exclude: Option<Vec<Text<SegmentId>>>,
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SplitVisitor)
    }
}

struct SplitVisitor;

impl<'de> Visitor<'de> for SplitVisitor {
    type Value = Split;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a split: a map of versions and shares, such as { 1.4.2: 95%, 1.5.0: 5% }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Split, A::Error> {
        let mut split = Split::default();
        while let Some(key) = map.next_key::<SplitKey>()? {
            match key {
                SplitKey::Include => split.include = map.next_value()?,
                SplitKey::Exclude => split.exclude = map.next_value()?,
                SplitKey::Version(version) => split.arms.push((version, map.next_value::<Text<Weight>>()?.0)),
            }
        }
        Ok(split)
    }
}

enum SplitKey {
    Include,
    Exclude,
    Version(VersionId),
}

impl<'de> Deserialize<'de> for SplitKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(key) = Text::<String>::deserialize(deserializer)?;
        match key.as_str() {
            "include" => Ok(Self::Include),
            "exclude" => Ok(Self::Exclude),
            // A version begins with a digit, or with the `v` that people put before it.
            _ if key.contains(|c: char| c.is_ascii_digit()) => {
                super::scalar::FromText::from_text(&key).map(Self::Version).map_err(D::Error::custom)
            }
            _ => Err(D::Error::unknown_field(&key, &["include", "exclude", "a version"])),
        }
    }
}

impl JsonSchema for Split {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Split".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let share = generator.subschema_for::<Text<Weight>>();
        let segments = generator.subschema_for::<Option<Vec<Text<SegmentId>>>>();
        schemars::json_schema!({
            "type": "object",
            "description": "Versions with their shares, which add up to 100%, and whom the split is for.",
            "properties": { "include": segments, "exclude": segments },
            "patternProperties": { "[0-9$]": share },
            "additionalProperties": false,
        })
    }
}

/// A version to bring in, and how. Changing anything in this block starts a new deployment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a deployment: a map with `version`")]
pub(super) struct Deployment {
    /// One of the agent's versions, other than `stable`.
    pub(super) version: Text<VersionId>,
    /// Default: canary.
    pub(super) strategy: Option<Strategy>,
    /// Default for canary: 1% for 10m, 5% for 30m, 25% for 60m, 100%; for rolling see
    /// there. The others have one step of 100%.
    pub(super) steps: Option<Vec<Step>>,
    /// How `rolling` goes. Not together with `steps`.
    pub(super) rolling: Option<Rolling>,
    /// How long the guards must hold after the last step. Default: 10m; for immediate 0s.
    pub(super) bake: Option<Duration>,
    /// Conditions that must hold.
    pub(super) guards: Option<Vec<Guard>>,
    /// What each endpoint of the version is asked before its first request and during its ramp. Default: the agent's
    /// `health`; an empty list: nothing.
    pub(super) health: Option<Vec<HealthCheck>>,
    /// What to do when a guard breaks. Default: rollback.
    pub(super) on_breach: Option<OnBreach>,
    /// How long after a rollback no deployment of this agent starts. Default: 0s.
    pub(super) cooldown: Option<Duration>,
    /// How long after its end the version that it replaced keeps its conversations; then they move to the new version,
    /// each when no response of it is in flight. Default: until they end.
    pub(super) drain_timeout: Option<Duration>,
    /// Only requests of these segments take part; the others get stable.
    pub(super) include: Option<Vec<Text<SegmentId>>>,
    /// Requests of these segments get stable.
    pub(super) exclude: Option<Vec<Text<SegmentId>>>,
}

/// How traffic moves to the new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Strategy {
    /// All at once.
    Immediate,
    /// By growing shares.
    Canary,
    /// All at once, while the old version stays ready.
    BlueGreen,
    /// By equal shares.
    Rolling,
}

/// What happens when a guard breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnBreach {
    /// The new version leaves the table at once.
    Rollback,
    /// The share stays as it is. With a `cooldown` it goes on by itself once the guards hold again for as long.
    Pause,
}

/// A share, and how long it is held.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a step: a map with `weight` and `hold`")]
pub(super) struct Step {
    pub(super) weight: Text<Weight>,
    /// None: it stays at this step (the last step needs none).
    pub(super) hold: Option<Duration>,
}

/// How the shares of strategy `rolling` grow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `shares` and `hold`")]
pub(super) struct Rolling {
    /// In so many equal shares. Default: one per endpoint of the new version, 2 to 10.
    #[schemars(range(min = 1, max = 100))]
    pub(super) shares: Option<Whole>,
    /// How long each share is held. Default: 1m.
    pub(super) hold: Option<Duration>,
}

/// A condition on the new version: on its live figures with `metric`, on what a Prometheus server says with `query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a guard: a map with `metric` or `query`, and a limit")]
pub(super) struct Guard {
    pub(super) metric: Option<Metric>,
    /// PromQL that gives one number; `{{agent}}`, `{{version}}`, `{{stable}}`, `{{environment}}` and `{{interval}}`
    /// are filled in.
    pub(super) query: Option<Text<String>>,
    /// Breach above this: a share for error rates, a duration for times, a number for means and for a `query`.
    pub(super) above: Option<Text<Amount>>,
    /// Breach below this. Only with `query`.
    pub(super) below: Option<Text<Amount>>,
    /// What people call a `query`. Default: the query itself.
    pub(super) name: Option<Text<String>>,
    /// How often a `query` is asked. Default: 30s.
    pub(super) interval: Option<Duration>,
    /// How many bad answers to a `query` in a row are a breach. Default: 1.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) failures: Option<Whole>,
    /// Over how long the figure is taken. Default: 5m. Not together with `confidence`.
    pub(super) window: Option<Duration>,
    /// Fewer requests in the window say nothing. Default: 50. Not together with `confidence`.
    #[schemars(range(min = 1))]
    pub(super) min_requests: Option<Whole>,
    /// Breach when the rate is above stable's by more than this share, or the mean by more than this number. Needs
    /// `confidence`.
    pub(super) worse_than_stable_by: Option<Text<Amount>>,
    /// For a latency metric compared with stable: what counts as slow.
    pub(super) slower_than: Option<Duration>,
    /// For a mean with `confidence`: the most that one request counts. Default: four times `above`.
    pub(super) cap: Option<Text<Number>>,
    /// Judge after every request; the chance of ever blaming a good version stays below the rest to 100%.
    pub(super) confidence: Option<Text<Fraction>>,
}

/// What a guard looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Metric {
    /// Share of the requests that the version failed.
    ErrorRate,
    LatencyP50,
    LatencyP90,
    LatencyP95,
    LatencyP99,
    /// Time to the first byte.
    TtfbP95,
    /// Time to the first event of a stream that has content.
    TtftP95,
    /// Time between one such event and the next. Takes no `confidence`.
    InterTokenP95,
    /// Tokens of the answers that tell them.
    OutputTokensMean,
    /// In the currency of `prices`, of the answers whose model has a price there.
    CostPerRequestMean,
    /// Share of the streams that failed: an error within, cut short or stalled.
    StreamErrorRate,
}

/// How long the phases of an exchange with the agent may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of timeouts")]
pub(super) struct Timeouts {
    /// To a connection. Default: 1s.
    pub(super) connect: Option<Duration>,
    /// From the request sent to the response head. Default: no limit.
    pub(super) response: Option<Duration>,
    /// Without a byte in either direction. Default: 5m.
    pub(super) idle: Option<Duration>,
    /// From the request head to the end of the answer; of event streams, gRPC calls and tunnels, to the head of the
    /// answer. Default: no limit.
    pub(super) request: Option<Duration>,
    /// How long an unused connection is kept: stay below the agent's own limit. Default: 3s.
    pub(super) pool_idle: Option<Duration>,
}
