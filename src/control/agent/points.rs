//! Which version is stable by whose act, and the ones that were before it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::AgentRollout;
use crate::control::model::{Actor, DeploymentId, Moment};
use crate::routing::ids::VersionId;

/// How many rollback points an agent keeps; the oldest goes first.
pub const POINTS_KEPT: usize = 10;

/// The version that serves by default, and whose act made it so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stable {
    pub version: VersionId,
    pub by: Actor,
    pub at: Moment,
    /// The deployment that made it so, if one did.
    pub deployment: Option<DeploymentId>,
}

/// A version that was stable, and can be again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RollbackPoint {
    /// Unique to the agent.
    pub id: String,
    pub stable: Stable,
    /// Until when it was stable.
    pub until: Moment,
}

impl AgentRollout {
    /// The newest act on stable wins. What was stable becomes a rollback point.
    pub(super) fn make_stable(&mut self, version: VersionId, by: Actor, deployment: Option<DeploymentId>, now: Moment) {
        let state = &mut self.state;
        if state.stable.version != version {
            let was = std::mem::replace(&mut state.stable, Stable { version, by, at: now, deployment });
            if state.points.len() == POINTS_KEPT {
                state.points.pop_front();
            }
            state.points_made += 1;
            state.points.push_back(RollbackPoint { id: state.points_made.to_string(), stable: was, until: now });
        }
        self.sync_stable();
    }

    /// Brings the spec in step with the stable version that is in effect.
    pub(super) fn sync_stable(&mut self) {
        if self.spec.stable != self.state.stable.version {
            Arc::make_mut(&mut self.spec).stable = self.state.stable.version.clone();
        }
    }
}
