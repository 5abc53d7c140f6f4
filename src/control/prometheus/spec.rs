//! Query guards as their author writes them, and the server that they ask.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::control::template;
use crate::routing::spec::{EndpointAddress, EndpointTls};

/// The names that may stand as `{{name}}` in a query.
pub const NAMES: [&str; 5] = ["agent", "version", "stable", "environment", "interval"];
pub const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
pub const FAILURES: RangeInclusive<u32> = 1..=1000;
/// In characters: longer names are refused, longer queries cut off where they are shown.
const LONGEST_LABEL: usize = 80;

/// Where queries are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusServer {
    pub address: EndpointAddress,
    /// Of `/api/v1/query`: what comes before it in the URL, without a slash at its end.
    pub prefix: String,
    /// Marked as sensitive, so that nothing prints it.
    pub authorization: Option<HeaderValue>,
    /// For a whole query.
    pub timeout: Duration,
    /// Where it is `https`.
    pub tls: Arc<EndpointTls>,
}

/// A condition on what a query gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryGuard {
    /// What people call it.
    pub name: Option<String>,
    /// PromQL, with `{{agent}}` and the like in it.
    pub query: String,
    pub limit: QueryLimit,
    #[serde(rename = "intervalSeconds", with = "seconds")]
    #[schemars(with = "f64")]
    pub interval: Duration,
    /// So many bad values in a row are a breach; at least 1.
    pub failures: u32,
}

/// In the query's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum QueryLimit {
    /// A value above is bad.
    Above(f64),
    /// A value below is bad.
    Below(f64),
}

impl QueryLimit {
    pub fn is_broken_by(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::Below(limit) => value < limit,
        }
    }

    pub fn value(self) -> f64 {
        match self {
            Self::Above(limit) | Self::Below(limit) => limit,
        }
    }
}

impl QueryGuard {
    /// What is wrong with one that comes from outside, if anything is.
    pub fn check(&self) -> Result<(), String> {
        if self.query.trim().is_empty() {
            return Err("there is no query; expected PromQL that gives one number".into());
        }
        template::check(&self.query, &NAMES)?;
        if self.name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().count() > LONGEST_LABEL) {
            return Err(format!("the name is too short or too long; expected 1 to {LONGEST_LABEL} characters"));
        }
        if !self.limit.value().is_finite() {
            return Err("the limit is no number that a value can be compared with".into());
        }
        if !INTERVALS.contains(&self.interval) {
            return Err("the interval is out of range; expected 1s to 1d".into());
        }
        if !FAILURES.contains(&self.failures) {
            return Err(format!("failures: {} is out of range; expected 1 to 1000", self.failures));
        }
        Ok(())
    }

    /// The name, or as much of the query as fits a label.
    pub fn label(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let query = self.query.split_whitespace().collect::<Vec<_>>().join(" ");
        match query.char_indices().nth(LONGEST_LABEL) {
            Some((end, _)) => format!("{}…", &query[..end]),
            None => query,
        }
    }
}

/// The condition in words: `slow answers above 0.05`.
impl fmt::Display for QueryGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            QueryLimit::Above(limit) => write!(f, "{} above {limit}", self.label()),
            QueryLimit::Below(limit) => write!(f, "{} below {limit}", self.label()),
        }
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
