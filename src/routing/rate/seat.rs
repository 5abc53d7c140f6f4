//! One table's view of a limit: its figures ready-made, and what it has counted in this and earlier tables. Made once
//! for each compiled agent, at its first request.

use std::sync::Arc;

use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::bucket::Bucket;
use super::pace::{Nanos, SECOND};
use super::spec::{Kind, RateLimitSpec};
use super::{Buckets, Limit, LimitId, Rates};
use crate::routing::key;
use crate::routing::pin::siphash::SipKey;
use crate::routing::spec::Attribute;
use crate::routing::table::{Agent, Head};

pub struct Seat {
    pub(super) spec: Arc<RateLimitSpec>,
    pub(super) limit: Arc<Limit>,
    /// By the index of the attribute in the key.
    hashes: Vec<SipKey>,
    /// Index into the agent's segments.
    segment: Option<usize>,
    /// The names and ready fields of what it limits.
    policies: [Option<Policy>; Kind::ALL.len()],
}

/// How answers tell of a limit (draft-ietf-httpapi-ratelimit-headers-10).
pub struct Policy {
    /// As a structured field writes it, with its quotes.
    pub name: String,
    /// Of `RateLimit-Policy`.
    pub field: HeaderValue,
}

impl Seat {
    /// One for each limit of the agent.
    pub fn of(agent: &Agent, rates: &Rates) -> Box<[Self]> {
        agent.spec.rate_limits.iter().map(|spec| Self::new(agent, spec, rates)).collect()
    }

    fn new(agent: &Agent, spec: &Arc<RateLimitSpec>, rates: &Rates) -> Self {
        let id = LimitId {
            environment: agent.environment().clone(),
            agent: (!spec.of_environment).then(|| agent.id().clone()),
            name: spec.name.clone(),
            keyed: !spec.key.is_empty(),
        };
        let segment = |wanted| agent.segments.iter().position(|(id, _)| id == wanted);
        Self {
            limit: rates.limit(id),
            hashes: spec.key.iter().map(|attribute| hash_of(&rates.secret, attribute)).collect(),
            segment: spec.segment.as_ref().and_then(segment),
            policies: Kind::ALL.map(|kind| policy(spec, kind)),
            spec: spec.clone(),
        }
    }

    pub fn spec(&self) -> &RateLimitSpec {
        &self.spec
    }

    /// `None` where it has no such limit, or is not to tell of it.
    pub fn policy(&self, kind: Kind) -> Option<&Policy> {
        self.policies[kind as usize].as_ref()
    }

    pub(super) fn is_for(&self, agent: &Agent, head: &Head<'_>) -> bool {
        let segment = self.segment.and_then(|index| agent.segments.get(index));
        segment.is_none_or(|(_, segment)| segment.holds(head))
    }

    /// The caller's.
    pub(super) fn bucket(&self, head: &Head<'_>, now: Nanos) -> Arc<Bucket> {
        match &self.limit.buckets {
            Buckets::One(bucket) => bucket.clone(),
            Buckets::ByKey(keys) => {
                let found = key::find(&self.spec.key, head);
                // Who has no key is one caller: nobody gets away by leaving it out.
                let key = found.map_or(0, |(source, value)| self.hashes[source].hash(value.as_bytes()));
                keys.bucket(key, self.spec.max_keys, now)
            }
        }
    }
}

/// A hash of its own for each attribute: an address in a header is not that address.
fn hash_of(secret: &[u8; 32], attribute: &Attribute) -> SipKey {
    let derived = Sha256::new().chain_update(secret).chain_update(attribute.to_string()).finalize();
    SipKey::new(std::array::from_fn(|byte| derived[byte]))
}

fn policy(spec: &RateLimitSpec, kind: Kind) -> Option<Policy> {
    let paced = |pace: super::Pace| (pace.burst, Some(pace.window().div_ceil(SECOND)));
    let (quota, window) = match kind {
        Kind::Requests => paced(spec.requests?),
        Kind::Tokens => paced(spec.tokens?.pace),
        Kind::Concurrent => (u64::from(spec.concurrent?), None),
    };
    let (suffix, unit) = match kind {
        Kind::Requests => ("", ""),
        Kind::Tokens => (".tokens", ";qu=\"tokens\""),
        Kind::Concurrent => (".concurrent", ";qu=\"concurrent-requests\""),
    };
    let name = format!("\"{}{suffix}\"", spec.name);
    let window = window.map_or_else(String::new, |seconds| format!(";w={seconds}"));
    // The name is checked with the file: letters, digits, `-`, `_`.
    let field = HeaderValue::try_from(format!("{name};q={quota}{unit}{window}")).ok()?;
    spec.fields.then_some(Policy { name, field })
}
