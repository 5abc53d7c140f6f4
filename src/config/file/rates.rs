//! The shape of a rate limit.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::{Text, Whole};
use crate::routing::ids::{EnvironmentId, SegmentId};
use crate::routing::spec::Attribute;

/// How many requests and tokens a minute are let through, and how many requests at a time; more get 429.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a rate limit: a map with `name` and what it limits")]
pub(in crate::config) struct RateLimit {
    /// Stands in answers and metrics: letters, digits, `-` and `_`.
    pub(in crate::config) name: Text<String>,
    /// Of a limit at the top of the file: the environment whose agents share it. Default: each environment has one of
    /// its own.
    pub(in crate::config) environment: Option<Text<EnvironmentId>>,
    /// What tells callers apart, tried in order; each has an allowance of its own, and those with none of these share
    /// one. Default: all share one.
    pub(in crate::config) key: Option<Vec<Text<Attribute>>>,
    /// Of an agent's limit: only requests of this segment count.
    pub(in crate::config) segment: Option<Text<SegmentId>>,
    /// Requests come back evenly at this rate.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub(in crate::config) requests_per_minute: Option<Whole>,
    /// So many requests may come at once. Default: those of ten seconds.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub(in crate::config) request_burst: Option<Whole>,
    /// Tokens of requests and answers, as answers tell them, come back evenly at this rate.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub(in crate::config) tokens_per_minute: Option<Whole>,
    /// So many tokens may be used at once. Default: those of a minute.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub(in crate::config) token_burst: Option<Whole>,
    /// What a request is taken to cost before its answer tells; once a caller's answers have told, their average is.
    /// Default: 1000, or `token_burst` if that is less.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub(in crate::config) token_estimate: Option<Whole>,
    /// Requests at a time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) concurrent: Option<Whole>,
    /// Callers that are kept count of, at some 100 bytes each; more share one allowance. Default: 100000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(in crate::config) max_keys: Option<Whole>,
    /// Whether answers carry `RateLimit` and `RateLimit-Policy` for it. Default: true.
    pub(in crate::config) fields: Option<bool>,
}
