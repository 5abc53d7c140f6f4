//! An agent's rate limits, as they were written.

use schemars::JsonSchema;
use serde::Serialize;

use crate::routing::spec::{AgentSpec, RateLimitSpec};

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitView {
    pub name: String,
    /// Shared by all agents of the environment.
    pub of_environment: bool,
    /// What tells callers apart; empty: all share it.
    pub key: Vec<String>,
    /// Only requests of this segment count.
    pub segment: Option<String>,
    pub requests_per_minute: Option<u64>,
    pub request_burst: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    pub token_burst: Option<u64>,
    /// Requests at a time.
    pub concurrent: Option<u32>,
}

impl RateLimitView {
    pub fn all(spec: &AgentSpec) -> Vec<Self> {
        spec.rate_limits.iter().map(|limit| Self::from(&**limit)).collect()
    }
}

impl From<&RateLimitSpec> for RateLimitView {
    fn from(spec: &RateLimitSpec) -> Self {
        let tokens = spec.tokens.map(|tokens| tokens.pace);
        Self {
            name: spec.name.to_string(),
            of_environment: spec.of_environment,
            key: spec.key.iter().map(ToString::to_string).collect(),
            segment: spec.segment.as_ref().map(ToString::to_string),
            requests_per_minute: spec.requests.map(|pace| pace.per_minute),
            request_burst: spec.requests.map(|pace| pace.burst),
            tokens_per_minute: tokens.map(|pace| pace.per_minute),
            token_burst: tokens.map(|pace| pace.burst),
            concurrent: spec.concurrent,
        }
    }
}
