//! Health checks as their author writes them.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A question to each endpoint of a version, asked again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    pub kind: CheckKind,
    /// From the end of one try to the begin of the next.
    pub interval: Duration,
    /// A try that takes longer has failed.
    pub timeout: Duration,
    /// How many tries may fail after the first that did, before the endpoint counts as unhealthy.
    pub retries: u32,
    /// How many tries in a row must succeed before an unhealthy endpoint is healthy again.
    #[serde(default = "one")]
    pub successes: u32,
}

/// What earlier releases, which did not write it down, meant.
fn one() -> u32 {
    1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckKind {
    Http(HttpCheck),
    /// It accepts a connection.
    Tcp,
    /// A program and its arguments, with `{{endpoint}}` and the like in them, that ends with exit code 0.
    Command(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    pub method: String,
    /// With its query.
    pub path: String,
    pub status: StatusRange,
    /// `None`: the endpoint's own.
    pub host: Option<String>,
    pub headers: Vec<(String, String)>,
}

/// The statuses that are as they should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange(RangeInclusive<u16>);

impl StatusRange {
    /// `None` unless 100 ≤ low ≤ high ≤ 599.
    pub fn new(low: u16, high: u16) -> Option<Self> {
        (100 <= low && low <= high && high <= 599).then_some(Self(low..=high))
    }

    pub fn contains(&self, status: http::StatusCode) -> bool {
        self.0.contains(&status.as_u16())
    }
}

impl Default for StatusRange {
    fn default() -> Self {
        Self(200..=299)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.0.start(), self.0.end());
        if low == high { write!(f, "{low}") } else { write!(f, "{low}-{high}") }
    }
}

/// What it asks, in few words: `GET /healthz`, `tcp`, or the command's name.
impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(http) => write!(f, "{} {}", http.method, http.path),
            Self::Tcp => f.write_str("tcp"),
            Self::Command(argv) => {
                let program = argv.first().map_or("", String::as_str);
                write!(f, "command {}", program.rsplit('/').next().unwrap_or(program))
            }
        }
    }
}
