//! What a follower of `/api/v1/events` sees.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ActorView, percent, time};
use crate::control::feed::{Event, Missed};

/// One change of an agent's state. `id` and `event` of the stream say which it is, too.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    pub at: String,
    pub environment: String,
    pub agent: String,
    /// Such as `advanced`, `rolled_back`, `stable_changed`, `migration_completed`, `drained`.
    pub what: &'static str,
    pub deployment: Option<String>,
    pub migration: Option<String>,
    /// The deployment's, the stable one, the one that conversations move to, or the one that is drained.
    pub version: String,
    /// The version's share from then on.
    pub weight_percent: f64,
    pub by: ActorView,
    /// An operator's reason, or what a guard found.
    pub why: Option<String>,
    pub revision: u64,
    /// Of the routing table that has it.
    pub epoch: u64,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            at: time(&event.at),
            environment: event.key.environment.to_string(),
            agent: event.key.agent.to_string(),
            what: event.kind.as_str(),
            deployment: event.deployment.as_ref().map(ToString::to_string),
            migration: event.migration.as_ref().map(ToString::to_string),
            version: event.version.to_string(),
            weight_percent: percent(event.weight),
            by: ActorView::from(&event.by),
            why: event.why.clone(),
            revision: event.revision,
            epoch: event.epoch,
        }
    }
}

/// Events that a follower asked for are gone: read the state anew; what comes next follows without a gap.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissedView {
    pub what: &'static str,
    pub detail: String,
}

impl MissedView {
    pub fn fell_behind(missed: Missed) -> Self {
        Self { what: "missed", detail: missed.to_string() }
    }

    pub fn of_another_run() -> Self {
        let detail = "the last event's id is not of this run of the instance: read the state anew".into();
        Self { what: "missed", detail }
    }
}
