//! Query guards as their author writes them, and the server that they ask.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::routing::spec::EndpointAddress;

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
}

/// A condition on what a query gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryGuard {
    /// What people call it.
    pub name: Option<String>,
    /// PromQL, with `{{agent}}` and the like in it.
    pub query: String,
    pub limit: QueryLimit,
    #[serde(rename = "intervalSeconds", with = "seconds")]
    pub interval: Duration,
    /// So many bad values in a row are a breach; at least 1.
    pub failures: u32,
}

/// In the query's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The name, or as much of the query as fits a label.
    pub fn label(&self) -> String {
        const LONGEST: usize = 80;
        if let Some(name) = &self.name {
            return name.clone();
        }
        let query = self.query.split_whitespace().collect::<Vec<_>>().join(" ");
        match query.char_indices().nth(LONGEST) {
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
