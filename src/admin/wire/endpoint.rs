//! How endpoints stand.

use schemars::JsonSchema;
use serde::Serialize;

use crate::control::health::{CheckReading, StandingReading};
use crate::routing::endpoint::{EjectionSpec, Tick};
use crate::routing::table::Endpoint;

/// One endpoint of a version, as requests and its standing checks have found it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    pub endpoint: String,
    /// `in_service`, `kept` (it fails, but too many others are out), `ejected` or `unhealthy` (its checks fail).
    pub state: &'static str,
    /// What is left of its ejection; 0: the next request is a probe.
    pub ejected_for_seconds: Option<f64>,
    /// What was wrong when it was last ejected; none after it has been good for long enough.
    pub reason: Option<&'static str>,
    pub failures_in_a_row: u32,
    pub ejections_in_a_row: u32,
}

impl EndpointStatus {
    pub fn new(endpoint: &Endpoint, rule: &EjectionSpec, now: Tick) -> Self {
        let view = endpoint.health.view(rule, now);
        Self {
            endpoint: endpoint.address.to_string(),
            state: view.state.as_str(),
            ejected_for_seconds: view.ejected_for.map(|left| left.as_secs_f64()),
            reason: view.reason.map(|reason| reason.as_str()),
            failures_in_a_row: view.failures_in_a_row,
            ejections_in_a_row: view.ejections_in_a_row,
        }
    }
}

/// What a standing check says of one endpoint.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StandingCheck {
    pub version: String,
    #[serde(flatten)]
    pub reading: CheckReading,
}

impl From<StandingReading> for StandingCheck {
    fn from(StandingReading { version, reading }: StandingReading) -> Self {
        Self { version: version.to_string(), reading }
    }
}
