//! What the API answers, as far as people are shown of it.
//!
//! Not the server's own types: this program also meets servers that are older or newer than itself. So every
//! field may be missing, whatever is not known here is passed over, and `--json` shows the answer as it came.

use serde::{Deserialize, Deserializer};

/// A list, or a part of one.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Table {
    pub epoch: u64,
    pub config_hash: String,
    pub agents: Vec<Agent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Agent {
    pub agent: String,
    pub environment: String,
    pub stable: String,
    pub versions: Vec<Version>,
    pub stable_by: Option<Cause>,
    pub deployment: Option<Deployment>,
    pub draining: Vec<Draining>,
    pub rate_limits: Vec<RateLimit>,
    pub checks: Vec<StandingCheck>,
    pub revision: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RateLimit {
    pub name: String,
    pub of_environment: bool,
    pub key: Vec<String>,
    pub segment: Option<String>,
    pub requests_per_minute: Option<u64>,
    pub request_burst: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    pub token_burst: Option<u64>,
    pub concurrent: Option<u64>,
}

/// A version that gets no more new traffic and still has something to do.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Draining {
    pub version: String,
    pub conversations: u64,
    pub in_flight: u64,
    pub since: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Version {
    pub version: String,
    pub weight_percent: f64,
    pub bucket_ranges: Vec<Buckets>,
    pub endpoints: Vec<String>,
    pub endpoint_states: Vec<Endpoint>,
    pub circuit_breaker: Option<Breaker>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Breaker {
    pub state: String,
    pub opened: u64,
    pub concurrent: u64,
}

/// One endpoint, as requests and its standing checks have found it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    pub endpoint: String,
    pub state: String,
    pub ejected_for_seconds: Option<f64>,
    pub reason: Option<String>,
    pub failures_in_a_row: u64,
    pub ejections_in_a_row: u64,
}

/// What a standing check says of one endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StandingCheck {
    pub version: String,
    #[serde(flatten)]
    pub reading: CheckReading,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Buckets {
    pub start: u32,
    pub end: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Deployment {
    pub id: String,
    pub agent: String,
    pub environment: String,
    pub version: String,
    pub strategy: String,
    pub state: String,
    pub weight_percent: f64,
    pub step: Option<usize>,
    pub steps: Vec<Step>,
    pub bake_seconds: f64,
    #[serde(deserialize_with = "name")]
    pub by: String,
    pub started_at: String,
    pub since: String,
    pub until: Option<String>,
    pub requests: u64,
    pub errors: u64,
    pub streams: u64,
    pub stream_errors: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost: f64,
    #[serde(flatten)]
    pub readings: Readings,
    pub pause: Option<Cause>,
    pub rollback: Option<Rollback>,
    pub ended: Option<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Step {
    pub weight_percent: f64,
    pub hold_seconds: Option<f64>,
}

/// What everything says that looks at a deployment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Readings {
    pub guards: Vec<Reading>,
    pub queries: Vec<QueryReading>,
    pub health: Vec<CheckReading>,
}

/// What a guard that asks Prometheus says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueryReading {
    pub verdict: String,
    pub value: Option<f64>,
    pub bad_in_a_row: u64,
    pub evidence: f64,
    pub explanation: String,
}

/// What a health check says of one endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CheckReading {
    pub check: String,
    pub endpoint: String,
    pub healthy: Option<bool>,
    pub failures_in_a_row: u64,
    pub failure: Option<String>,
}

/// What a guard says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Reading {
    pub verdict: String,
    pub unit: String,
    pub canary: Figures,
    pub stable: Option<Figures>,
    pub limit: Option<f64>,
    pub evidence: f64,
    pub bad_to_breach: Option<u64>,
    pub explanation: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Figures {
    pub requests: u64,
    pub estimate: Option<f64>,
    pub interval: Option<(f64, f64)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rollback {
    pub at: String,
    pub weight_percent: f64,
    #[serde(flatten)]
    pub cause: Cause,
}

/// Who or what stopped a deployment, and why.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// `guard`, `health` or `operator`.
    pub cause: String,
    #[serde(deserialize_with = "name")]
    pub by: String,
    pub reason: Option<String>,
}

/// Somebody: a name, or an object that has one.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Somebody {
        Name(String),
        Actor {
            name: String,
            #[serde(default)]
            source: String,
        },
        Nobody,
    }
    Ok(match Somebody::deserialize(deserializer)? {
        Somebody::Name(name) => name,
        Somebody::Actor { name, source } if source.is_empty() || source == name => name,
        Somebody::Actor { name, source } if source == "file" => format!("the file {name}"),
        Somebody::Actor { name, source } => format!("{name} ({source})"),
        Somebody::Nobody => String::new(),
    })
}

/// What a command came to, or would come to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Done {
    pub deployment: Option<Deployment>,
    pub changes: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RollbackPoint {
    pub id: String,
    pub version: String,
    pub at: String,
    #[serde(deserialize_with = "name")]
    pub by: String,
    pub until: String,
}

/// One entry of the audit trail.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Record {
    pub sequence: u64,
    pub at: String,
    #[serde(deserialize_with = "name")]
    pub actor: String,
    pub environment: String,
    pub agent: String,
    pub command: String,
    pub reason: Option<String>,
}

/// A state change.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Event {
    pub at: String,
    pub environment: String,
    pub agent: String,
    pub what: String,
    pub version: String,
    pub weight_percent: f64,
    #[serde(deserialize_with = "name")]
    pub by: String,
    pub why: Option<String>,
    /// Of what is no state change.
    pub detail: Option<String>,
}

impl Event {
    /// Of whatever came: what is not an event of ours shows as nothing.
    pub fn of(data: &serde_json::Value) -> Self {
        Self::deserialize(data).unwrap_or_default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Explanation {
    pub environment: String,
    pub agent: String,
    pub key_source: Option<String>,
    pub key: Option<String>,
    pub bucket: Option<u32>,
    pub version: String,
    pub reason: String,
    pub because: String,
    pub stable_by: Option<String>,
    pub deployment: Option<String>,
    pub ranges: Vec<Range>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Range {
    pub start: u32,
    pub end: u32,
    pub version: String,
}

/// How many conversations an agent's versions have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conversations {
    pub versions: Vec<VersionConversations>,
    pub draining: Vec<Draining>,
    pub pins: u64,
    pub capacity: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VersionConversations {
    pub version: String,
    pub conversations: u64,
    pub in_flight: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Conversation {
    pub agent: String,
    pub environment: String,
    pub version: String,
    pub created_at: String,
    pub last_used_at: String,
    pub in_flight: u64,
}

/// Conversations on their way to another version.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Migration {
    pub id: String,
    pub agent: String,
    pub environment: String,
    pub from: String,
    pub to: String,
    pub mode: String,
    pub per_second: Option<u64>,
    pub share_percent: Option<f64>,
    pub every_seconds: Option<f64>,
    pub state: String,
    #[serde(deserialize_with = "name")]
    pub by: String,
    pub total: u64,
    pub moved: u64,
    pub remaining: u64,
    pub busy: u64,
    pub started_at: String,
    pub estimated_end: Option<String>,
    pub ended_at: Option<String>,
    pub because: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MigrationDone {
    pub changes: Vec<String>,
    pub migration: Migration,
}
