//! What has happened, for those who follow: a ring of the newest [`EVENTS_KEPT`] events.
//!
//! A follower asks for what came after the last id that it has, and waits on [`Feed::newest`]. One who is too far
//! behind, or comes with an id that was never given out (the process was restarted), is told so and reads the
//! whole state anew. Nobody is waited for.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::migration::MigrationId;
use super::model::{Actor, AgentKey, DeploymentId, Moment};
use super::rollout::Action;
use crate::routing::ids::{VersionId, Weight};

/// Older events are gone.
pub const EVENTS_KEPT: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Created,
    Started,
    Advanced,
    WeightSet,
    Baking,
    Completed,
    Paused,
    Resumed,
    Superseded,
    Aborted,
    RolledBack,
    StableChanged,
    MigrationStarted,
    MigrationCompleted,
    MigrationCancelled,
    /// The last conversation and the last response of a version that gets no more traffic are over.
    Drained,
}

impl EventKind {
    /// `None` for an action that nobody need hear of.
    pub fn of(action: &Action) -> Option<Self> {
        Some(match action {
            Action::Start => Self::Started,
            Action::Advance(_) => Self::Advanced,
            Action::Set(_) => Self::WeightSet,
            Action::StartBake => Self::Baking,
            Action::Complete => Self::Completed,
            Action::Pause(_) => Self::Paused,
            Action::ExtendPause => return None,
            Action::Resume => Self::Resumed,
            Action::Supersede { .. } => Self::Superseded,
            Action::Abort { .. } => Self::Aborted,
            Action::Rollback(_) => Self::RolledBack,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Advanced => "advanced",
            Self::WeightSet => "weight_set",
            Self::Baking => "baking",
            Self::Completed => "completed",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Superseded => "superseded",
            Self::Aborted => "aborted",
            Self::RolledBack => "rolled_back",
            Self::StableChanged => "stable_changed",
            Self::MigrationStarted => "migration_started",
            Self::MigrationCompleted => "migration_completed",
            Self::MigrationCancelled => "migration_cancelled",
            Self::Drained => "drained",
        }
    }
}

/// One thing that happened to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Grows by one with each event.
    pub id: u64,
    pub at: Moment,
    #[serde(flatten)]
    pub key: AgentKey,
    pub kind: EventKind,
    pub deployment: Option<DeploymentId>,
    pub migration: Option<MigrationId>,
    /// The deployment's, the stable one, the one that conversations move to, or the one that is drained.
    pub version: VersionId,
    pub weight: Weight,
    pub by: Actor,
    /// Why, in one sentence: the operator's reason, or what the guard found.
    pub why: Option<String>,
    pub revision: u64,
    /// Of the table that has it.
    pub epoch: u64,
}

/// What a follower asked for is not all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "events after {after} are not all kept; there are {oldest} to {newest}: read the state, then follow from {newest}"
)]
pub struct Missed {
    pub after: u64,
    pub oldest: u64,
    pub newest: u64,
}

pub(super) struct Feed {
    ring: VecDeque<Event>,
    newest: watch::Sender<u64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { ring: VecDeque::new(), newest: watch::Sender::new(0) }
    }
}

impl Feed {
    /// Gives the event its id.
    pub fn push(&mut self, mut event: Event) {
        event.id = *self.newest.borrow() + 1;
        if self.ring.len() == EVENTS_KEPT {
            self.ring.pop_front();
        }
        self.newest.send_replace(event.id);
        self.ring.push_back(event);
    }

    /// The id of the newest event, as it grows.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub fn since(&self, after: u64) -> Result<Vec<Event>, Missed> {
        let newest = *self.newest.borrow();
        let oldest = self.ring.front().map_or(newest + 1, |event| event.id);
        if after > newest || after + 1 < oldest {
            return Err(Missed { after, oldest, newest });
        }
        Ok(self.ring.iter().filter(|event| event.id > after).cloned().collect())
    }
}
