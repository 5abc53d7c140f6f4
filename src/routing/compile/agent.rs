//! One agent: what it should be → ready to decide, or everything that is wrong with it.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use sha1::{Digest, Sha1};

use super::Rejection;
use crate::routing::bucket::Bucketer;
use crate::routing::endpoint::EndpointHealth;
use crate::routing::ids::{SegmentId, VersionId, Weight};
use crate::routing::matcher;
use crate::routing::parse::nearest;
use crate::routing::segment::Segment;
use crate::routing::spec::{
    AgentSpec, Attribute, Audience, CanaryShare, DesiredAgent, EndpointAddress, EndpointTls, Scheme, SplitSpec,
    VersionSpec,
};
use crate::routing::split::{Arm, Split, check_sum};
use crate::routing::table::{Agent, Endpoint, Rule, Version};
use crate::telemetry::stats::{StatsRegistry, VersionLabels};

/// A message lists at most so many right names.
const NAMES_SHOWN_MAX: usize = 8;

pub(super) fn compile(
    desired: &DesiredAgent,
    known: Option<&Agent>,
    live: Option<Split>,
    registry: &StatsRegistry,
) -> Result<Agent, Vec<Rejection>> {
    let spec = &*desired.spec;
    let mut draft = Draft::new(spec, &desired.barred, known);
    draft.check_routes();
    draft.check_bucketing();
    let versions = draft.versions();
    let stable = draft.stable();
    let segments = draft.segments();
    let rules = draft.rules();
    draft.check_rate_limits();
    let share = draft.share(desired.canary.as_ref(), stable.unwrap_or_default());
    let (Some(stable), Some(share), true) = (stable, share, draft.rejections.is_empty()) else {
        return Err(draft.rejections);
    };
    let split = split(spec, &share.arms, live).map_err(|message| vec![Rejection::new(spec, "split", message)])?;
    let bucketing = &spec.bucketing;
    Ok(Agent {
        stats: registry.agent(spec.environment.shared(), spec.id.shared()),
        versions: versions.into_iter().map(|version| version.counted(spec, registry)).collect(),
        stable,
        bucketer: Bucketer::new(bucketing.scheme, spec.id.as_str(), &bucketing.salt, bucketing.seed),
        key: bucketing.key.clone(),
        key_wants_json: bucketing.key.iter().any(|source| matches!(source, Attribute::Json(_))),
        rules,
        include: share.include,
        exclude: share.exclude,
        split,
        segments,
        spec: desired.spec.clone(),
        barred: desired.barred.clone(),
        left: desired.left.clone(),
        canary: desired.canary.clone(),
        notes: desired.notes.clone(),
        seat: OnceLock::new(),
        rates: OnceLock::new(),
    })
}

/// The split of the arms: evolved from the live one, else laid out anew.
fn split(spec: &AgentSpec, arms: &[Arm], live: Option<Split>) -> Result<Split, String> {
    let scheme = spec.bucketing.scheme;
    let evolved = match live {
        // LaunchDarkly's own SDKs know the canonical layout only.
        Some(live) if scheme != Scheme::LaunchDarkly => live.evolve(arms),
        _ => Split::canonical(scheme, arms),
    };
    evolved.map_err(|error| error.to_string())
}

/// The live split in the new numbering, while keys fall into the same buckets as before; versions that are gone
/// get numbers after the last.
pub(super) fn live_split(agent: &Agent, spec: &AgentSpec) -> Option<Split> {
    let (old, new) = (&agent.spec.bucketing, &spec.bucketing);
    if (old.scheme, &old.salt, old.seed) != (new.scheme, &new.salt, new.seed) {
        return None;
    }
    let renumber = |old: usize| {
        let id = agent.versions.get(old).map(|version| &version.id);
        id.and_then(|id| index_of(spec, id)).unwrap_or(spec.versions.len() + old)
    };
    Some(agent.split.renumbered(renumber))
}

fn index_of(spec: &AgentSpec, version: &VersionId) -> Option<usize> {
    spec.versions.keys().position(|id| id == version)
}

/// Who shares the traffic, and whose traffic.
struct Share {
    arms: Vec<Arm>,
    include: Vec<usize>,
    exclude: Vec<usize>,
}

/// A version without its counters: those are made when nothing can be rejected any more.
struct Uncounted {
    id: VersionId,
    endpoints: Vec<Endpoint>,
    header: HeaderValue,
}

impl Uncounted {
    fn counted(self, spec: &AgentSpec, registry: &StatsRegistry) -> Version {
        let (environment, agent) = (spec.environment.shared(), spec.id.shared());
        let stats = registry.version(VersionLabels { environment, agent, version: self.id.shared() });
        Version { id: self.id, endpoints: self.endpoints, stats, header: self.header }
    }
}

/// An agent under way, and what has been found wrong so far.
struct Draft<'a> {
    spec: &'a AgentSpec,
    barred: &'a [VersionId],
    /// The agent as it was.
    known: Option<&'a Agent>,
    rejections: Vec<Rejection>,
}

impl<'a> Draft<'a> {
    fn new(spec: &'a AgentSpec, barred: &'a [VersionId], known: Option<&'a Agent>) -> Self {
        Self { spec, barred, known, rejections: Vec::new() }
    }

    fn reject(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.rejections.push(Rejection::new(self.spec, field, message));
    }

    /// The index of a version by name; an unknown one is rejected.
    fn version(&mut self, field: &str, version: &VersionId) -> Option<usize> {
        let index = index_of(self.spec, version);
        if index.is_none() {
            let defined = self.spec.versions.keys().map(VersionId::as_str);
            self.reject(field, unknown("version", version.as_str(), defined));
        }
        index
    }

    fn segment(&mut self, field: String, segment: &SegmentId) -> Option<usize> {
        let index = self.spec.segments.keys().position(|id| id == segment);
        if index.is_none() {
            let defined = self.spec.segments.keys().map(SegmentId::as_str);
            self.reject(field, unknown("segment", segment.as_str(), defined));
        }
        index
    }

    fn is_barred(&self, version: &VersionId) -> bool {
        self.barred.contains(version)
    }

    fn check_routes(&mut self) {
        for (index, route) in self.spec.routes.iter().enumerate() {
            for fault in matcher::check(route) {
                self.reject(format!("match[{index}]"), fault);
            }
        }
    }

    fn check_bucketing(&mut self) {
        let bucketing = &self.spec.bucketing;
        if bucketing.key.is_empty() {
            let message = "is empty: without a key every request gets stable; leave it out for the default sources";
            self.reject("bucketing.key", message);
        }
        if bucketing.seed.is_some() && bucketing.scheme != Scheme::LaunchDarkly {
            let message = format!("only scheme `launchdarkly` has a seed, and the scheme is `{}`", bucketing.scheme);
            self.reject("bucketing.seed", message);
        }
    }

    fn versions(&mut self) -> Vec<Uncounted> {
        let versions = &self.spec.versions;
        versions.iter().filter_map(|(id, version)| self.one_version(id, version)).collect()
    }

    fn one_version(&mut self, id: &VersionId, version: &VersionSpec) -> Option<Uncounted> {
        let mut endpoints = Vec::with_capacity(version.endpoints.len());
        for (index, address) in version.endpoints.iter().enumerate() {
            let shown = address.to_string();
            match HeaderValue::from_str(&address.authority()) {
                Ok(authority) => {
                    let health = self.health(id, address);
                    let id = endpoint_id(address, &self.spec.exchange.tls);
                    endpoints.push(Endpoint { address: address.clone(), id, authority, health });
                }
                Err(_) => self.reject(format!("versions.{id}.endpoints[{index}]"), format!("`{shown}` is no address")),
            }
        }
        let Ok(header) = HeaderValue::from_str(id.as_str()) else {
            self.reject(
                format!("versions.{id}"),
                "cannot stand in a header; expected letters, digits, `.`, `-` and `+`",
            );
            return None;
        };
        Some(Uncounted { id: id.clone(), endpoints, header })
    }

    /// What is known of the version's endpoint: a new table forgets nothing.
    fn health(&self, id: &VersionId, address: &EndpointAddress) -> Arc<EndpointHealth> {
        let versions = self.known.map_or(&[][..], |agent| &agent.versions);
        let version = versions.binary_search_by(|version| version.id.cmp(id)).ok().map(|index| &versions[index]);
        let endpoint = version.and_then(|version| version.endpoints.iter().find(|known| known.address == *address));
        endpoint.map(|known| known.health.clone()).unwrap_or_default()
    }

    fn stable(&mut self) -> Option<usize> {
        let stable = &self.spec.stable;
        let index = self.version("stable", stable)?;
        if self.is_barred(stable) {
            self.reject("stable", format!("version {stable} was rolled back; it may not serve until it is retried"));
        }
        Some(index)
    }

    fn segments(&mut self) -> Vec<(SegmentId, Segment)> {
        let mut segments = Vec::with_capacity(self.spec.segments.len());
        for (id, segment) in &self.spec.segments {
            match Segment::compile(segment) {
                Ok(segment) => segments.push((id.clone(), segment)),
                Err(faults) => {
                    for fault in faults {
                        self.reject(format!("segments.{id}.{}", fault.field), fault.message);
                    }
                }
            }
        }
        segments
    }

    fn rules(&mut self) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(self.spec.rules.len());
        for (index, rule) in self.spec.rules.iter().enumerate() {
            let segment = self.segment(format!("rules[{index}].segment"), &rule.segment);
            let version = self.version(&format!("rules[{index}].version"), &rule.version);
            if let Some(segment) = segment {
                rules.push(Rule { segment, version: version.filter(|_| !self.is_barred(&rule.version)) });
            }
        }
        rules
    }

    fn check_rate_limits(&mut self) {
        let limits = self.spec.rate_limits.iter().enumerate();
        for (index, segment) in limits.filter_map(|(index, limit)| Some((index, limit.segment.as_ref()?))) {
            self.segment(format!("rate_limits[{index}].segment"), segment);
        }
    }

    /// The live deployment's share, else the standing split, else all to stable.
    fn share(&mut self, canary: Option<&CanaryShare>, stable: usize) -> Option<Share> {
        match (canary, &self.spec.split) {
            (Some(_), Some(_)) => {
                self.reject("split", "an agent has either a deployment or a standing split; remove one of the two");
                None
            }
            (Some(canary), None) => {
                let arms = self.canary_arms(canary, stable);
                self.for_audience("deployment", &canary.audience, arms?)
            }
            (None, Some(split)) => {
                let arms = self.split_arms(split, stable);
                self.for_audience("split", &split.audience, arms?)
            }
            (None, None) => Some(Share { arms: vec![(stable, Weight::FULL)], include: vec![], exclude: vec![] }),
        }
    }

    /// The canary is listed first: it has the low buckets, and keeps them as it grows.
    fn canary_arms(&mut self, canary: &CanaryShare, stable: usize) -> Option<Vec<Arm>> {
        let index = self.version("deployment.version", &canary.version)?;
        if self.is_barred(&canary.version) || index == stable {
            return Some(vec![(stable, Weight::FULL)]);
        }
        Some(vec![(index, canary.weight), (stable, canary.weight.rest())])
    }

    /// The author's arms; what a barred version had goes to stable.
    fn split_arms(&mut self, split: &SplitSpec, stable: usize) -> Option<Vec<Arm>> {
        let found = self.rejections.len();
        // Before arms are dropped for other reasons, which would make the sum wrong as well.
        if let Err(error) = check_sum(&split.arms) {
            self.reject("split", error.to_string());
        }
        let (mut arms, mut left_over) = (Vec::<Arm>::new(), 0);
        for (version, weight) in &split.arms {
            let field = format!("split.{version}");
            let Some(index) = self.version(&field, version) else { continue };
            if self.is_barred(version) {
                left_over += weight.get();
            } else if arms.iter().any(|(arm, _)| *arm == index) {
                self.reject(field, "is listed twice");
            } else {
                arms.push((index, *weight));
            }
        }
        if self.rejections.len() > found {
            return None;
        }
        give(&mut arms, stable, left_over);
        Some(arms)
    }

    fn for_audience(&mut self, field: &str, audience: &Audience, arms: Vec<Arm>) -> Option<Share> {
        let mut indexes = |list: &str, segments: &[SegmentId]| {
            let index = |(i, segment)| self.segment(format!("{field}.{list}[{i}]"), segment);
            segments.iter().enumerate().filter_map(index).collect::<Vec<_>>()
        };
        let include = indexes("include", &audience.include);
        let exclude = indexes("exclude", &audience.exclude);
        Some(Share { arms, include, exclude })
    }
}

/// Adds to a version's arm, which may be a new one. The sum stays at most 100 %, as it was before.
fn give(arms: &mut Vec<Arm>, version: usize, buckets: u32) {
    let more = |weight: Weight| Weight::new(weight.get() + buckets).unwrap_or(Weight::FULL);
    match arms.iter_mut().find(|(arm, _)| *arm == version) {
        Some((_, weight)) => *weight = more(*weight),
        None if buckets > 0 => arms.push((version, more(Weight::ZERO))),
        None => {}
    }
}

fn unknown<'a>(kind: &str, name: &str, defined: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(nearest) = nearest(name, defined.clone()) {
        return format!("no {kind} `{name}` is defined; did you mean `{nearest}`?");
    }
    let mut names: Vec<_> = defined.clone().take(NAMES_SHOWN_MAX).collect();
    if defined.count() > NAMES_SHOWN_MAX {
        names.push("…");
    }
    match names.as_slice() {
        [] => format!("no {kind} `{name}` is defined, nor any other"),
        names => format!("no {kind} `{name}` is defined; expected one of {}", names.join(", ")),
    }
}

/// Connections are pooled by it: what was made for one agent with its certificate and its roots must not serve
/// another agent that has others.
fn endpoint_id(address: &EndpointAddress, tls: &EndpointTls) -> u64 {
    match address {
        EndpointAddress::Https { .. } => stable_id(&format!("{address} {tls:?}")),
        _ => stable_id(&address.to_string()),
    }
}

/// The same for the same name in every table and process.
fn stable_id(address: &str) -> u64 {
    Sha1::digest(address).iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}
