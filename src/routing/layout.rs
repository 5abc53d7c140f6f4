//! An agent's bucket ranges by the names of its versions: what outlives a process, so that the next one (or
//! another replica) moves no caller that it need not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{AgentId, EnvironmentId, VersionId};
use super::spec::{AgentSpec, BucketingSpec};
use super::split::Split;
use super::table::Agent;

/// What an earlier process left, of each agent that had more than one version in its split.
pub type Layouts = BTreeMap<(EnvironmentId, AgentId), Layout>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// What puts a key into its bucket. Under another bucketing the ranges mean nothing.
    scheme: String,
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    /// In bucket order: where each range ends (exclusive), and whose it is.
    ranges: Vec<(u32, String)>,
}

impl Layout {
    /// `None` where one version has every bucket: there is nothing to keep.
    pub fn of(agent: &Agent) -> Option<Self> {
        if agent.split.sole().is_some() {
            return None;
        }
        let BucketingSpec { scheme, salt, seed, .. } = &agent.spec.bucketing;
        let named = |index: usize| agent.versions.get(index).map_or_else(String::new, |v| v.id.to_string());
        let ranges = agent.split.ranges().map(|(range, index)| (range.end() + 1, named(index)));
        Some(Self { scheme: scheme.to_string(), salt: salt.to_string(), seed: *seed, ranges: ranges.collect() })
    }

    /// The split over the versions of `spec`; versions that are gone get numbers after the last. `None` where the
    /// keys fall into other buckets now, or the ranges are none.
    pub(super) fn split(&self, spec: &AgentSpec) -> Option<Split> {
        let BucketingSpec { scheme, salt, seed, .. } = &spec.bucketing;
        if (self.scheme.as_str(), self.salt.as_str(), self.seed) != (scheme.as_str(), &**salt, *seed) {
            return None;
        }
        let number = |(position, (end, version)): (usize, &(u32, String))| {
            let known = spec.versions.keys().position(|id: &VersionId| id.as_str() == version);
            (*end, known.unwrap_or(spec.versions.len() + position))
        };
        Split::from_ends(self.ranges.iter().enumerate().map(number))
    }
}
