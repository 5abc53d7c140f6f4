//! What one asks the table to be: validated specs, the input of [`super::compile`].
//!
//! These are facts as an author (the YAML file, later the API) states them. They hold no counters,
//! no indexes and no compiled form; `compile` turns them into a [`super::table::RoutingTable`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use super::conversation::{ConversationSpec, PinPolicy, ResponseId, TokenPlace};
pub use super::endpoint::EjectionSpec;
pub use super::endpoint_tls::{EndpointTls, PairFiles, Roots};
use super::ids::{AgentId, EnvironmentId, SegmentId, VersionId, Weight};
pub use super::resilience::Resilience;

pub use super::rate::RateLimitSpec;
pub use super::streams::{Dialect, Encoded, Prices, StreamSpec};

/// Everything that a routing table is made of.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Shown by the API and in `pointsman_config_info`, so that one sees which file is live.
    pub config_hash: Arc<str>,
    pub agents: Vec<DesiredAgent>,
}

/// An agent as it should be served now: its spec, and how far its rollout has come.
#[derive(Clone, Debug)]
pub struct DesiredAgent {
    pub spec: Arc<AgentSpec>,
    /// Versions that must not serve whatever a rule or split says: rolled back ones, and those that wait.
    pub barred: Vec<VersionId>,
    /// Versions that conversations leave, where they leave at a rollback: also those of earlier deployments.
    pub left: Vec<VersionId>,
    /// The live deployment's share; `None` when none is live (then `spec.split` or stable serves).
    pub canary: Option<CanaryShare>,
    pub notes: Notes,
}

/// What the control plane has to say of an agent, in words for explanations. They decide nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Who made stable what it is.
    pub stable: Option<Arc<str>>,
    /// Whose deployment gives a version its share, or how it came to have none.
    pub deployment: Option<Arc<str>>,
}

/// A deployment's version and the share of eligible traffic that it gets just now.
#[derive(Clone, Debug, PartialEq)]
pub struct CanaryShare {
    pub version: VersionId,
    pub weight: Weight,
    pub audience: Audience,
}

/// One agent as its author wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSpec {
    pub id: AgentId,
    pub environment: EnvironmentId,
    /// Empty: every request.
    pub routes: Vec<RouteSpec>,
    pub bucketing: BucketingSpec,
    pub versions: BTreeMap<VersionId, VersionSpec>,
    pub stable: VersionId,
    /// Named rule sets, used by `rules`, `split.audience` and the deployment's audience.
    pub segments: BTreeMap<SegmentId, SegmentSpec>,
    /// First match wins; before any split.
    pub rules: Vec<RuleSpec>,
    /// A standing split without a deployment; `None`: all to stable.
    pub split: Option<SplitSpec>,
    pub exchange: ExchangeSpec,
    pub streams: StreamSpec,
    /// `None`: every request is decided by itself.
    pub conversations: Option<ConversationSpec>,
    /// Its own, in the author's order, then those of its environment.
    pub rate_limits: Vec<Arc<RateLimitSpec>>,
}

/// All present parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteSpec {
    /// Lower case, without port; `*.example.com` takes any depth of subdomain.
    pub host: Option<String>,
    /// Matches whole segments: `/v1` and `/v1/` both take `/v1/x`; `/v1` also takes `/v1`, never `/v10`.
    pub path_prefix: Option<String>,
    /// Exact values, sorted by name.
    pub headers: Vec<(http::HeaderName, String)>,
    /// `None`: as the agent says.
    pub max_request_body_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BucketingSpec {
    /// Tried in order; the first that is present (and not empty) is the key.
    pub key: Vec<Attribute>,
    pub salt: Arc<str>,
    pub scheme: Scheme,
    /// LaunchDarkly's `seed`: replaces `flag.salt`. Only with that scheme.
    pub seed: Option<i64>,
    /// How much of a JSON body may be read for a `json:` key; a larger body has no key.
    pub json_limit_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Sha1,
    Sha1Js,
    LaunchDarkly,
    Murmur3,
    Md5,
}

/// Where a value is taken from. `json` and `request` serve as keys only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    Header(http::HeaderName),
    Cookie(String),
    Query(String),
    /// A JSON pointer (RFC 6901) into the request body.
    Json(String),
    /// A claim of the bearer token, dots for depth. Read, not verified: the agent verifies.
    Jwt(String),
    ClientIp,
    /// Of the client's verified certificate.
    Tls(TlsAttribute),
    /// `x-request-id`, or a fresh random value: not sticky.
    Request,
    Path,
    Method,
    Host,
}

/// What a client's verified certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsAttribute {
    /// The distinguished name, as RFC 2253 writes it.
    Subject,
    /// The first URI among the subject's alternative names; without one, the first DNS name.
    San,
    /// SHA-256 of the whole certificate, in hexadecimal.
    Fingerprint,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VersionSpec {
    /// May be empty: then a request for it gets 503.
    pub endpoints: Vec<EndpointAddress>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// `http://host:port`; the port is explicit here even where the author left out `:80`. The host is a
    /// name or an address as a resolver takes it: an IPv6 address stands here without its brackets.
    Http { host: String, port: u16 },
    /// `https://host:port`: the same with TLS.
    Https { host: String, port: u16 },
    /// `unix:/path`
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct SegmentSpec {
    /// Every one must hold.
    pub all: Vec<Condition>,
    /// If not empty, at least one must hold.
    pub any: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub attribute: Attribute,
    pub test: Test,
}

/// `eq ne-style` operators compare text; `gt..lte` compare numbers, and SemVer or text where either
/// side is no number. A missing attribute fails every test but `NotEq`, `NotIn` and `Exists(false)`.
#[derive(Clone, Debug)]
pub enum Test {
    Eq(String),
    NotEq(String),
    Gt(String),
    Gte(String),
    Lt(String),
    Lte(String),
    /// For `ClientIp`, CIDR blocks are understood here and in `NotIn`, `Eq`, `NotEq`.
    In(Vec<String>),
    NotIn(Vec<String>),
    Contains(String),
    StartsWith(String),
    /// An unanchored regular expression (RE2 syntax, linear time).
    Matches(regex::Regex),
    Exists(bool),
}

impl PartialEq for Test {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Eq(a), Self::Eq(b))
            | (Self::NotEq(a), Self::NotEq(b))
            | (Self::Gt(a), Self::Gt(b))
            | (Self::Gte(a), Self::Gte(b))
            | (Self::Lt(a), Self::Lt(b))
            | (Self::Lte(a), Self::Lte(b))
            | (Self::Contains(a), Self::Contains(b))
            | (Self::StartsWith(a), Self::StartsWith(b)) => a == b,
            (Self::In(a), Self::In(b)) | (Self::NotIn(a), Self::NotIn(b)) => a == b,
            // `Regex` has no equality of its own; its text is its pattern.
            (Self::Matches(a), Self::Matches(b)) => a.as_str() == b.as_str(),
            (Self::Exists(a), Self::Exists(b)) => a == b,
            _ => false,
        }
    }
}

/// Requests of this segment go to this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    pub segment: SegmentId,
    pub version: VersionId,
}

/// Who takes part in a split. Those who do not get stable.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Audience {
    /// If not empty, the request must be in at least one.
    pub include: Vec<SegmentId>,
    /// The request must be in none.
    pub exclude: Vec<SegmentId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SplitSpec {
    /// In the author's order; weights add up to 100 %.
    pub arms: Vec<(VersionId, Weight)>,
    pub audience: Audience,
}

/// How exchanges with this agent's endpoints are carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeSpec {
    pub protocol: Protocol,
    pub host: HostPolicy,
    pub connect_timeout: Duration,
    /// From the request sent to the response head; `None`: no limit.
    pub response_timeout: Option<Duration>,
    /// No byte in either direction for this long ends the exchange.
    pub idle_timeout: Duration,
    /// From the request head to the end of the answer, or of what streams, to its head; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// How long an idle upstream connection is kept: below the upstream's own limit.
    pub pool_idle: Duration,
    pub max_request_body_bytes: u64,
    pub resilience: Resilience,
    pub ejection: EjectionSpec,
    /// With those of its endpoints that are `https`.
    pub tls: Arc<EndpointTls>,
}

impl Default for ExchangeSpec {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http1,
            host: HostPolicy::Pass,
            connect_timeout: Duration::from_secs(1),
            response_timeout: None,
            idle_timeout: Duration::from_secs(300),
            request_timeout: None,
            pool_idle: Duration::from_secs(3),
            max_request_body_bytes: 64 << 20,
            resilience: Resilience::default(),
            ejection: EjectionSpec::default(),
            tls: Arc::default(),
        }
    }
}

/// What is spoken with the agent's endpoints, whatever its clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// In cleartext without being asked for (prior knowledge); with TLS by ALPN.
    Http2,
}

/// What the agent sees as `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// What the client sent.
    Pass,
    /// The endpoint's own authority.
    Endpoint,
    /// A fixed name.
    Fixed(String),
}
