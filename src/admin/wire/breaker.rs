//! How a version's circuit breaker stands.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::Serialize;

use crate::routing::table::Version;
use crate::telemetry::stats::BreakerPhase;

/// How a version's circuit breaker stands.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerView {
    pub state: BreakerStateView,
    /// Times that it opened.
    pub opened: u64,
    /// Requests with the version now.
    pub concurrent: u32,
    /// Those of them that wait for a connection or their next attempt.
    pub pending: u32,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerStateView {
    Closed,
    Open,
    HalfOpen,
}

impl BreakerView {
    pub(super) fn of(version: &Version) -> Self {
        let protection = &version.stats.protection;
        Self {
            state: match protection.breaker().phase {
                BreakerPhase::Closed => BreakerStateView::Closed,
                BreakerPhase::Open => BreakerStateView::Open,
                BreakerPhase::HalfOpen => BreakerStateView::HalfOpen,
            },
            opened: protection.opened.load(Ordering::Relaxed),
            concurrent: protection.concurrent.load(Ordering::Relaxed),
            pending: protection.pending.load(Ordering::Relaxed),
        }
    }
}
