//! (agent, request head) → Decision.
//!
//! [`decide`] is what the proxy calls; [`explain`] calls the same code and says in words what it did.
//! Pure: the same agent, head and key give the same version, at any time and in any process.

use serde::Serialize;

use super::ids::{AgentId, EnvironmentId, VersionId};
use super::key::{self, Value};
use super::table::{Agent, Decision, Head, Reason};

/// Picks the version. No lock; no allocation but for a key that stands escaped in the request (a
/// percent-encoded query field, a long claim of a token).
pub fn decide(agent: &Agent, head: &Head<'_>) -> Decision {
    decide_by_key(agent, head, || key::find(&agent.key, head).map(|(_, key)| key))
}

/// The order of precedence. What [`super::standing`] finds comes before all of it; experiments will come after the
/// rules.
fn decide_by_key<'a>(agent: &Agent, head: &Head<'_>, key: impl FnOnce() -> Option<Value<'a>>) -> Decision {
    if let Some((rule, version)) = matching_rule(agent, head) {
        return Decision { version, bucket: None, reason: Reason::Rule(rule) };
    }
    let stable = |reason| Decision { version: agent.stable, bucket: None, reason };
    // The most usual case of all: no rollout is on, and no hash is needed.
    if agent.split.sole() == Some(agent.stable) {
        return stable(Reason::Stable);
    }
    if !in_audience(agent, head) {
        return stable(Reason::NotInAudience);
    }
    let Some(key) = key() else {
        return stable(Reason::NoKey);
    };
    let bucketed = agent.bucketer.bucket(key.as_bytes());
    Decision { version: agent.split.pick(bucketed), bucket: Some(bucketed.bucket), reason: Reason::Split }
}

/// The first rule whose segment holds, passing over those of barred versions.
fn matching_rule(agent: &Agent, head: &Head<'_>) -> Option<(usize, usize)> {
    let mut open =
        agent.rules.iter().enumerate().filter_map(|(index, rule)| Some((index, rule.segment, rule.version?)));
    open.find(|(_, segment, _)| holds(agent, *segment, head)).map(|(index, _, version)| (index, version))
}

fn in_audience(agent: &Agent, head: &Head<'_>) -> bool {
    let included = agent.include.is_empty() || agent.include.iter().any(|segment| holds(agent, *segment, head));
    included && !agent.exclude.iter().any(|segment| holds(agent, *segment, head))
}

fn holds(agent: &Agent, segment: usize, head: &Head<'_>) -> bool {
    agent.segments.get(segment).is_some_and(|(_, segment)| segment.holds(head))
}

/// What a request would get, and why.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub environment: EnvironmentId,
    pub agent: AgentId,
    /// Of the table that was asked.
    pub epoch: u64,
    /// The key's source as configuration writes it (`header:x-user-id`), or `given`.
    pub key_source: Option<String>,
    /// Shown with replacement characters where it is not UTF-8.
    pub key: Option<String>,
    /// The key's bucket, also where the decision did not depend on it.
    pub bucket: Option<u32>,
    /// Under `launchdarkly`, what its arms are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    pub version: VersionId,
    /// One of the codes of [`Reason::as_str`].
    pub reason: &'static str,
    /// The reason as a sentence.
    pub because: String,
    /// Whose act made stable what it is, where the control plane says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_by: Option<String>,
    /// Whose deployment gives a version its share, or how it came to have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// What its override, its conversation's id and its token came to, where it has any: a sentence for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub standing: Vec<String>,
    pub ranges: Vec<BucketRange>,
}

/// Buckets of one version; both ends are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketRange {
    pub start: u32,
    pub end: u32,
    pub version: VersionId,
}

/// Explains what [`decide`] does with this request.
pub fn explain(agent: &Agent, head: &Head<'_>, epoch: u64) -> Explanation {
    let found = key::find(&agent.key, head);
    let found = found.and_then(|(source, key)| Some((agent.key.get(source)?.to_string(), key)));
    explain_by_key(agent, head, epoch, found)
}

/// The same for a caller whose key is known, wherever a request would carry it.
pub fn explain_key(agent: &Agent, head: &Head<'_>, epoch: u64, key: &str) -> Explanation {
    let given = (!key.is_empty()).then(|| ("given".to_owned(), Value::Borrowed(key.as_bytes())));
    explain_by_key(agent, head, epoch, given)
}

fn explain_by_key(agent: &Agent, head: &Head<'_>, epoch: u64, key: Option<(String, Value<'_>)>) -> Explanation {
    let decision = decide_by_key(agent, head, || key.as_ref().map(|(_, key)| key.clone()));
    let bucketed = key.as_ref().map(|(_, key)| agent.bucketer.bucket(key.as_bytes()));
    let (key_source, key) = key.unzip();
    Explanation {
        environment: agent.environment().clone(),
        agent: agent.id().clone(),
        epoch,
        key_source,
        key: key.map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()),
        bucket: bucketed.map(|b| b.bucket),
        fraction: bucketed.and_then(|b| b.fraction),
        version: version_name(agent, decision.version),
        reason: decision.reason.as_str(),
        because: because(agent, &decision),
        stable_by: agent.notes.stable.as_deref().map(str::to_owned),
        deployment: agent.notes.deployment.as_deref().map(str::to_owned),
        standing: Vec::new(),
        ranges: bucket_ranges(agent),
    }
}

impl Explanation {
    /// Puts what was fixed in the place of what would have been decided; key and bucket stay as they are.
    pub(super) fn fix(&mut self, agent: &Agent, decision: &Decision) {
        self.version = version_name(agent, decision.version);
        self.reason = decision.reason.as_str();
        self.because = because(agent, decision);
    }
}

/// The split as it is live, in bucket order.
pub fn bucket_ranges(agent: &Agent) -> Vec<BucketRange> {
    let range = |(range, version): (std::ops::RangeInclusive<u32>, usize)| BucketRange {
        start: *range.start(),
        end: *range.end(),
        version: version_name(agent, version),
    };
    agent.split.ranges().map(range).collect()
}

/// Indexes come from the agent itself; stable stands in for one that does not, so that nothing can panic.
fn version_name(agent: &Agent, index: usize) -> VersionId {
    agent.versions.get(index).map_or_else(|| agent.spec.stable.clone(), |version| version.id.clone())
}

fn because(agent: &Agent, decision: &Decision) -> String {
    let version = version_name(agent, decision.version);
    match decision.reason {
        Reason::Override => format!("a signed override sends it to {version}"),
        Reason::Pin => format!("its conversation is held to {version}"),
        Reason::Rule(index) => {
            let rule = agent.rules.get(index).and_then(|rule| agent.segments.get(rule.segment));
            let segment = rule.map_or("", |(id, _)| id.as_str());
            format!("the request is in segment `{segment}`, which rules[{index}] sends to {version}")
        }
        Reason::Split => {
            let bucket = decision.bucket.unwrap_or_default();
            let weight = agent.split.weight(decision.version);
            format!("bucket {bucket} belongs to {version}, which has {weight} of the split")
        }
        Reason::NotInAudience => {
            format!("the split is not for this request's segments, so stable {version} answers")
        }
        Reason::NoKey => {
            let sources: Vec<_> = agent.key.iter().map(ToString::to_string).collect();
            format!("no bucketing key is present ({}), so stable {version} answers", sources.join(", "))
        }
        Reason::Stable => match &agent.notes.deployment {
            Some(why) => format!("stable {version} has all of the traffic: {why}"),
            None => format!("stable {version} has all of the traffic"),
        },
    }
}

#[cfg(test)]
mod tests;
