//! Versions that an agent can return to.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ActorView, time};
use crate::control::agent::RollbackPoint;

/// A version that was stable, and can be again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RollbackPointView {
    pub id: String,
    pub version: String,
    /// When it became stable, and by whom.
    pub at: String,
    pub by: ActorView,
    /// The deployment that made it so, if one did.
    pub deployment: Option<String>,
    /// Until when it was stable.
    pub until: String,
}

impl From<&RollbackPoint> for RollbackPointView {
    fn from(point: &RollbackPoint) -> Self {
        Self {
            id: point.id.clone(),
            version: point.stable.version.to_string(),
            at: time(&point.stable.at),
            by: ActorView::from(&point.stable.by),
            deployment: point.stable.deployment.as_ref().map(ToString::to_string),
            until: time(&point.until),
        }
    }
}
