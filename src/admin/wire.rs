//! The shapes of requests and answers, apart from the model: renaming a field inside never changes the API.
//!
//! An explanation, a guard's reading and an audit record have their shape where they are made: they exist to be read.
//!
//! camelCase; shares in percent; durations in seconds; times as RFC 3339 in UTC.

mod breaker;
mod command;
mod config;
mod conversation;
mod deployment;
mod endpoint;
mod event;
mod migration;
mod points;
mod rates;
mod table;
mod token;

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use crate::control::model::{Actor, Moment};
use crate::routing::ids::Weight;
pub use command::{Done, EmergencyRequest, FromBody, ReasonRequest, RollbackRequest, WeightRequest};
pub use config::ConfigStatus;
pub use conversation::{ConversationView, ConversationsView, DrainingView, VersionConversationsView};
pub use deployment::{DeploymentStatus, Verdicts};
pub use endpoint::{EndpointStatus, StandingCheck};
pub use event::{EventView, MissedView};
pub use migration::{MigrationBody, MigrationDone, MigrationView};
pub use points::RollbackPointView;
pub use rates::RateLimitView;
pub use table::{AgentSummary, AgentView, TableAgent, TableView};
pub use token::TokenView;

/// Who acts, and from where.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ActorView {
    /// A token's name, `admin.token`, `local`; of a file, the hash of its content.
    pub name: String,
    /// `api` and an address, `file`, or `pointsman` for what it does by itself.
    pub source: String,
}

impl From<&Actor> for ActorView {
    fn from(actor: &Actor) -> Self {
        Self { name: actor.name.clone(), source: actor.source.clone() }
    }
}

/// Exact to the 0.001 % that weights are counted in.
fn percent(weight: Weight) -> f64 {
    f64::from(weight.get()) / 1000.0
}

pub fn time(moment: &Moment) -> String {
    wall_time(moment.wall)
}

/// A clock before 1970 or after 9999 shows as the nearest time that can be written.
fn wall_time(at: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(at.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}
