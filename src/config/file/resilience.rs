//! Shapes of what is done when endpoints fail, when a version is too slow, and when there is too much to do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Fraction, Text, Whole};
use super::Duration;

/// When a request is sent again that an endpoint may have acted on: only of an idempotent method or with an
/// `idempotency-key`, never after a byte of the answer, and to another endpoint where there is one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of how requests are tried again")]
pub(in crate::config) struct Retries {
    /// Attempts after the first; 0: none. Default: 2.
    #[schemars(range(min = 0, max = 10))]
    pub(in crate::config) attempts: Option<Whole>,
    /// Answers that are as good as none. Default: 502, 503, 504.
    pub(in crate::config) statuses: Option<Vec<Whole>>,
    /// How long an attempt may take to the head of its answer while another may follow it. Default: no limit of its own.
    pub(in crate::config) per_try_timeout: Option<Duration>,
    /// How long to wait before an attempt.
    pub(in crate::config) backoff: Option<Backoff>,
    /// How many of a version's requests may be sent again. What is beyond gets the failure.
    pub(in crate::config) budget: Option<Budget>,
}

/// Anything up to `base`, which doubles with each attempt, up to `max`. A `Retry-After` of the endpoint's is heeded up
/// to `max`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `base` and `max`")]
pub(in crate::config) struct Backoff {
    /// Default: 25ms.
    pub(in crate::config) base: Option<Duration>,
    /// Default: 250ms.
    pub(in crate::config) max: Option<Duration>,
}

/// Both add up. What is not used is saved for ten seconds of `per_second`, and at least ten retries.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `ratio` and `per_second`")]
pub(in crate::config) struct Budget {
    /// Of the version's requests. Default: 20%.
    pub(in crate::config) ratio: Option<Text<Fraction>>,
    /// Default: 10.
    #[schemars(range(min = 0, max = 100_000))]
    pub(in crate::config) per_second: Option<Whole>,
}

/// When a version gets no more requests for a while: they get 503, and count as its errors. It opens at
/// `consecutive_failures` or `error_share`; `max_concurrent` and `max_pending` refuse what is beyond them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of what a version may bear")]
pub(in crate::config) struct CircuitBreaker {
    /// Requests with the version at a time. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) max_concurrent: Option<Whole>,
    /// Those of them that wait for a connection or for their next attempt. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) max_pending: Option<Whole>,
    /// Opens after so many failures one after the other. Default: never.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) consecutive_failures: Option<Whole>,
    /// Opens at this share of failures in the `window`. Default: never.
    pub(in crate::config) error_share: Option<Text<Fraction>>,
    /// Default: 10s.
    pub(in crate::config) window: Option<Duration>,
    /// Fewer requests in the window say nothing. Default: 20.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) min_requests: Option<Whole>,
    /// How long it is open before a few requests are let through to see. Default: 5s.
    pub(in crate::config) open_for: Option<Duration>,
    /// How many those are. They must all go well. Default: 3.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) half_open_requests: Option<Whole>,
}

/// Who is refused first when there is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Priority {
    Low,
    Normal,
    /// Never refused for that.
    High,
}

/// When requests are refused with 503 because there is too much to do: first those of agents with `priority: low`, then
/// those with `normal`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `lateness`, `interval` or `requests_in_flight`")]
pub(in crate::config) struct LoadShedding {
    /// A worker that gets to what is ready so late, for as long as `interval`, refuses low priority; for twice as long,
    /// normal too. 0: never. Default: 500ms.
    pub(in crate::config) lateness: Option<Duration>,
    /// Default: 1s.
    pub(in crate::config) interval: Option<Duration>,
    /// Requests at a time, of which each worker has its share. Low priority is refused from 80% on. Default: no limit.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(in crate::config) requests_in_flight: Option<Whole>,
}
