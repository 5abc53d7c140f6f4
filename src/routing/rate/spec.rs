//! What an author says of one limit.

use std::sync::Arc;

use super::pace::Pace;
use crate::routing::ids::SegmentId;
use crate::routing::spec::Attribute;

#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitSpec {
    pub name: Arc<str>,
    /// For all agents of the environment together, and not for one.
    pub of_environment: bool,
    /// The first that is present tells the caller; those that have none are one caller. Empty: all are.
    pub key: Vec<Attribute>,
    /// Only requests of this segment.
    pub segment: Option<SegmentId>,
    pub requests: Option<Pace>,
    pub tokens: Option<TokenPace>,
    /// At a time.
    pub concurrent: Option<u32>,
    /// More callers share one bucket.
    pub max_keys: usize,
    /// Whether answers tell how it stands.
    pub fields: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenPace {
    pub pace: Pace,
    /// What an answer is taken to cost whose caller is not known yet; at most the burst.
    pub estimate: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Requests,
    Tokens,
    Concurrent,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Concurrent];

    /// The label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrent => "concurrent",
        }
    }
}
