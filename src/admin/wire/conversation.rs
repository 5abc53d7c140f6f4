//! Conversations that are held to a version, and versions that still have some.

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use super::{time, wall_time};
use crate::control::drain::Draining;
use crate::control::model::AgentKey;
use crate::control::service::{Conversation, VersionConversations};
use crate::routing::pin::{PinStats, Second};

/// How many conversations an agent's versions have.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationsView {
    pub agent: String,
    pub environment: String,
    /// Those that have or have had conversations since this process began.
    pub versions: Vec<VersionConversationsView>,
    /// Versions that get no more new traffic and still have something to do.
    pub draining: Vec<DrainingView>,
    /// In the whole table, of all agents.
    pub pins: usize,
    /// The most that it holds; the longest unused go first.
    pub capacity: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionConversationsView {
    pub version: String,
    pub conversations: u64,
    /// Responses in flight that belong to one of them.
    pub in_flight: u64,
}

/// A version that gets no more new traffic. It may be stopped when both figures are zero; then it is no longer listed,
/// and the event `drained` says so.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainingView {
    pub version: String,
    /// Held to it.
    pub conversations: u64,
    /// Responses, of conversations or not, whose last byte has not been sent.
    pub in_flight: u64,
    /// When it got its last share of new traffic, as far as this process knows.
    pub since: String,
}

/// One conversation.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationView {
    pub agent: String,
    pub environment: String,
    pub version: String,
    pub created_at: String,
    pub last_used_at: String,
    /// Responses.
    pub in_flight: u32,
}

impl ConversationsView {
    pub fn new(key: &AgentKey, versions: &[VersionConversations], draining: &[Draining], pins: &PinStats) -> Self {
        let version = |counts: &VersionConversations| VersionConversationsView {
            version: counts.version.to_string(),
            conversations: counts.conversations,
            in_flight: counts.in_flight,
        };
        Self {
            agent: key.agent.to_string(),
            environment: key.environment.to_string(),
            versions: versions.iter().map(version).collect(),
            draining: DrainingView::all(draining),
            pins: pins.pins,
            capacity: pins.max,
        }
    }
}

impl DrainingView {
    pub fn all(draining: &[Draining]) -> Vec<Self> {
        let one = |draining: &Draining| Self {
            version: draining.version.to_string(),
            conversations: draining.load.conversations,
            in_flight: draining.load.in_flight,
            since: time(&draining.since),
        };
        draining.iter().map(one).collect()
    }
}

impl ConversationView {
    pub fn new(key: &AgentKey, conversation: &Conversation) -> Self {
        Self {
            agent: key.agent.to_string(),
            environment: key.environment.to_string(),
            version: conversation.version.to_string(),
            created_at: at(conversation.created),
            last_used_at: at(conversation.last_used),
            in_flight: conversation.in_flight,
        }
    }
}

fn at(second: Second) -> String {
    wall_time(SystemTime::UNIX_EPOCH + Duration::from_secs(second.into()))
}
