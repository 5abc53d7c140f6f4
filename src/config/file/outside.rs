//! What is asked of others: health checks, and the Prometheus server.

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Duration;
use crate::config::scalar::{Ordered, PrometheusUrl, Text, Whole};
use crate::control::health::StatusRange;

/// A question to each endpoint: one of `http`, `tcp` and `command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a health check: a map with `http`, `tcp` or `command`")]
pub(in crate::config) struct HealthCheck {
    /// A request that must be answered with a status.
    pub(in crate::config) http: Option<HttpCheck>,
    /// The endpoint must accept a connection; `tcp: {}`.
    pub(in crate::config) tcp: Option<TcpCheck>,
    /// A program and its arguments, run without a shell; exit code 0 is healthy. `{{endpoint}}`, `{{agent}}`,
    /// `{{version}}`, `{{stable}}` and `{{environment}}` are filled in.
    pub(in crate::config) command: Option<Vec<Text<String>>>,
    /// From the end of one try to the next. Default: 5s.
    pub(in crate::config) interval: Option<Duration>,
    /// A try that takes longer has failed. Default: 2s.
    pub(in crate::config) timeout: Option<Duration>,
    /// How many more tries in a row must fail after the first, before the endpoint counts as unhealthy. Default: 2.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) retries: Option<Whole>,
    /// How many tries in a row must succeed before an unhealthy endpoint is healthy again. Default: 1.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) successes: Option<Whole>,
}

/// A request that must be answered with a status.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `path` and `status`")]
pub(in crate::config) struct HttpCheck {
    /// With its query, if it has one. Default: `/`.
    pub(in crate::config) path: Option<Text<String>>,
    /// Default: GET.
    pub(in crate::config) method: Option<Text<String>>,
    /// One status or a range. Default: 200-299.
    pub(in crate::config) status: Option<Text<StatusRange>>,
    /// The `Host` it is asked with. Default: the endpoint's own.
    pub(in crate::config) host: Option<Text<String>>,
    /// Header fields to send.
    pub(in crate::config) headers: Option<Ordered<HeaderName, Text<String>>>,
}

/// The endpoint must accept a connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an empty map")]
pub(in crate::config) struct TcpCheck {}

/// The server that guards with a `query` ask.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `url`")]
pub(in crate::config) struct Prometheus {
    /// Where it is, such as `http://127.0.0.1:9090` or `https://prometheus.internal`; a path before `/api/v1` belongs
    /// to it.
    pub(in crate::config) url: Text<PrometheusUrl>,
    /// Bearer token to ask with; best as `${PROMETHEUS_TOKEN}`.
    pub(in crate::config) token: Option<Text<String>>,
    /// How an `https` server proves who it is, and we to it. Default: by the system's authorities and its host.
    pub(in crate::config) tls: Option<super::EndpointTls>,
    /// For a whole query. Default: 5s.
    pub(in crate::config) timeout: Option<Duration>,
}
