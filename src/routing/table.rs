//! The immutable routing table and the cell it is swapped in.
//!
//! Everything that a request needs is here ready-made: compiled matchers, bucket ranges, counters
//! and header values. A request takes one snapshot and never looks anything up by name.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method};

use super::bucket::Bucketer;
use super::endpoint::{EndpointHealth, Endpoints};
use super::ids::{AgentId, EnvironmentId, SegmentId, VersionId, Weight};
use super::matcher::{Matcher, Place};
use super::pin::{Pins, Seat};
use super::rate::{self, Rates};
use super::segment::Segment;
use super::spec::{AgentSpec, Attribute, CanaryShare, ConversationSpec, EndpointAddress, Notes};
use super::split::Split;
use crate::telemetry::stats::{AgentStats, VersionStats};

/// Where the control plane publishes and the workers read.
pub type SharedTable = Arc<ArcSwap<RoutingTable>>;

/// One published state of all agents.
pub struct RoutingTable {
    /// Grows by one with each table published; never reused within a process.
    pub epoch: u64,
    pub config_hash: Arc<str>,
    /// Sorted by environment, then agent; `matcher` answers with indexes into it.
    pub agents: Vec<Arc<Agent>>,
    /// Shared with the next table when no route changes.
    pub(super) matcher: Arc<Matcher>,
}

/// One agent, ready to decide.
pub struct Agent {
    pub spec: Arc<AgentSpec>,
    /// With `spec` all that this was compiled from: the next table takes it over when none of it changes.
    pub barred: Vec<VersionId>,
    pub left: Vec<VersionId>,
    pub canary: Option<CanaryShare>,
    pub notes: Notes,
    pub stats: Arc<AgentStats>,
    pub versions: Vec<Version>,
    /// Index into `versions`.
    pub stable: usize,
    pub bucketer: Bucketer,
    pub key: Vec<Attribute>,
    /// Whether some key source needs the JSON body.
    pub key_wants_json: bool,
    pub rules: Vec<Rule>,
    /// Whom the split is for, and its bucket ranges over `versions`.
    pub include: Vec<usize>,
    pub exclude: Vec<usize>,
    pub split: Split,
    pub segments: Vec<(SegmentId, Segment)>,
    /// Where its conversations sit; made at the first one, for compiling knows no pins.
    pub(super) seat: OnceLock<Seat>,
    /// Its rate limits, with what they have counted; made at its first request.
    pub(super) rates: OnceLock<Box<[rate::Seat]>>,
}

impl Agent {
    pub fn id(&self) -> &AgentId {
        &self.spec.id
    }
    pub fn environment(&self) -> &EnvironmentId {
        &self.spec.environment
    }

    /// How large a request's body may be that this route took; `None`: the agent has no routes.
    pub fn max_request_body_bytes(&self, route: Option<usize>) -> u64 {
        let route = route.and_then(|route| self.spec.routes.get(route));
        route.and_then(|route| route.max_request_body_bytes).unwrap_or(self.spec.exchange.max_request_body_bytes)
    }

    /// Whether a new request may be decided for the version.
    pub fn may_choose(&self, version: usize) -> bool {
        version == self.stable
            || self.split.weight(version) > Weight::ZERO
            || self.rules.iter().any(|rule| rule.version == Some(version))
    }

    /// The endpoints of a version, by index, and the rule that they are under.
    pub fn endpoints(&self, version: usize) -> Endpoints<'_> {
        Endpoints { all: &self.versions[version].endpoints, rule: &self.spec.exchange.ejection }
    }

    /// What it says of conversations, and where they sit. `None` where it has none.
    pub fn conversations(&self, pins: &Pins) -> Option<(&ConversationSpec, &Seat)> {
        let spec = self.spec.conversations.as_ref()?;
        Some((spec, self.seat.get_or_init(|| Seat::new(pins, self, spec))))
    }

    /// Its rate limits. `None` where it has none.
    pub fn rates(&self, rates: &Rates) -> Option<&[rate::Seat]> {
        let has_any = !self.spec.rate_limits.is_empty();
        has_any.then(|| &**self.rates.get_or_init(|| rate::Seat::of(self, rates)))
    }
}

pub struct Version {
    pub id: VersionId,
    pub endpoints: Vec<Endpoint>,
    pub stats: Arc<VersionStats>,
    /// The ready value of `x-pointsman-version`.
    pub header: HeaderValue,
}

pub struct Endpoint {
    pub address: EndpointAddress,
    /// Stable name of the address for per-worker pools: the same address, with the same TLS, has the same id in every
    /// table.
    pub id: u64,
    /// What `Host` says under `HostPolicy::Endpoint`.
    pub authority: HeaderValue,
    /// The same in every table in which the version has the address.
    pub health: Arc<EndpointHealth>,
}

/// A segment rule with its indexes resolved.
pub struct Rule {
    pub segment: usize,
    /// `None` when the version is barred: the rule is passed over.
    pub version: Option<usize>,
}

/// What a decision may look at. Borrowed from the request; nothing is copied.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a Method,
    /// Without port, as sent.
    pub host: &'a str,
    /// In its normal form.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub client: IpAddr,
    /// The client's, where it has shown one that we trust.
    pub certificate: Option<&'a ClientCertificate>,
    /// The parsed body, where the agent's key wants it and it could be had.
    pub json: Option<&'a serde_json::Value>,
    /// The caller's randomness, for the `request` key.
    pub nonce: u64,
}

/// What is known of a client by its verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub subject: String,
    pub san: Option<String>,
    pub fingerprint: String,
}

impl Decision {
    /// What was fixed before anything was decided.
    pub fn fixed(version: usize, reason: Reason) -> Self {
        Self { version, bucket: None, reason }
    }
}

/// Which version answers, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Index into `Agent::versions`.
    pub version: usize,
    /// `None` where no key was needed or found.
    pub bucket: Option<u32>,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A signed word of an operator.
    Override,
    /// The version that its conversation began on.
    Pin,
    /// Index into `Agent::rules`.
    Rule(usize),
    /// The bucket's arm of the split.
    Split,
    /// The split is not for this request's segments.
    NotInAudience,
    /// No key source was present: stable, never the canary.
    NoKey,
    /// Nothing but stable to choose.
    Stable,
}

impl Reason {
    /// The stable code of logs, metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Pin => "pin",
            Self::Rule(_) => "rule",
            Self::Split => "split",
            Self::NotInAudience => "not_in_audience",
            Self::NoKey => "no_key",
            Self::Stable => "stable",
        }
    }
}

impl RoutingTable {
    /// The index in `agents` of the agent for a request that came in on a listener of `environment`.
    pub fn route(&self, environment: &EnvironmentId, head: &Head<'_>) -> Option<usize> {
        self.place(environment, head).map(|place| place.agent)
    }

    /// The same, with the route that took it.
    pub fn place(&self, environment: &EnvironmentId, head: &Head<'_>) -> Option<Place> {
        self.matcher.find(environment, head)
    }

    pub fn agent(&self, environment: &str, agent: &str) -> Option<&Arc<Agent>> {
        let name = |a: &Arc<Agent>| (a.environment().as_str(), a.id().as_str()).cmp(&(environment, agent));
        self.agents.binary_search_by(name).ok().and_then(|index| self.agents.get(index))
    }
}
