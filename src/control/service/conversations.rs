//! Conversations as they are: how many, where one is held, which versions are draining; and to forget one.

use std::sync::Arc;

use super::Control;
use super::orders::confirmed;
use crate::control::command::{CommandError, Order};
use crate::control::drain::Draining;
use crate::control::model::{AgentKey, Moment};
use crate::control::persist;
use crate::control::writer::{Receipt, Write};
use crate::routing::ids::VersionId;
use crate::routing::pin::{PinKey, PinRecord, Place, Second, SharedPins};
use crate::telemetry::checkpoints::CheckpointFigures;

/// The conversations of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionConversations {
    pub version: VersionId,
    pub conversations: u64,
    /// Responses in flight that belong to one of them.
    pub in_flight: u64,
}

/// One conversation that is held to a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    pub version: VersionId,
    /// In seconds since 1970.
    pub created: Second,
    pub last_used: Second,
    pub in_flight: u32,
}

impl Control {
    pub fn pins(&self) -> &SharedPins {
        &self.0.pins
    }

    /// `None` where nothing is kept beyond the process.
    pub fn checkpoints(&self) -> Option<&CheckpointFigures> {
        self.0.book.checkpoints.as_ref()
    }

    pub(in crate::control) fn write_spare(&self, write: Write) -> Receipt {
        self.0.book.writer.spare(write)
    }

    /// Returns when there may be something for the keeper to do.
    pub(in crate::control) async fn keep_wanted(&self) {
        self.0.keep.notified().await;
    }

    /// How many conversations each version of an agent has; those with any, and those that are in its table.
    pub fn conversations(&self, key: &AgentKey) -> Vec<VersionConversations> {
        let places = self.0.pins.counts(&key.environment, &key.agent);
        let table = self.0.table.load();
        let agent = table.agent(key.environment.as_str(), key.agent.as_str());
        let serves = |version: &VersionId| agent.is_some_and(|agent| agent.versions.iter().any(|v| v.id == *version));
        // What had conversations once and is gone would be here for ever.
        let matters =
            |counts: &VersionConversations| counts.conversations > 0 || counts.in_flight > 0 || serves(&counts.version);
        let count = |place: &Arc<Place>| VersionConversations {
            version: place.version.clone(),
            conversations: place.conversations(),
            in_flight: place.in_flight(),
        };
        let mut counts: Vec<_> = places.iter().map(count).filter(matters).collect();
        counts.sort_by(|a, b| a.version.cmp(&b.version));
        counts
    }

    /// The versions of an agent that get no more new traffic, and what is left at them.
    pub fn draining(&self, key: &AgentKey) -> Vec<Draining> {
        let table = self.0.table.load();
        let Some(agent) = table.agent(key.environment.as_str(), key.agent.as_str()) else { return Vec::new() };
        self.0.drains().of(agent, |agent, version| self.load_of(agent, version))
    }

    /// The same of all agents.
    pub fn all_draining(&self) -> Vec<(AgentKey, Draining)> {
        let keys: Vec<_> = self.0.drains().agents().cloned().collect();
        let of = |key: AgentKey| self.draining(&key).into_iter().map(move |draining| (key.clone(), draining));
        keys.into_iter().flat_map(of).collect()
    }

    /// The version that a conversation is held to.
    pub fn conversation(&self, key: &AgentKey, id: &str) -> Result<Conversation, CommandError> {
        let pin = self.pin_key(key, id).and_then(|pin| self.0.pins.look(pin));
        let (PinRecord { place, created, last_used, .. }, in_flight) =
            pin.ok_or_else(|| CommandError::UnknownConversation(key.clone()))?;
        Ok(Conversation { version: place.version.clone(), created, last_used, in_flight })
    }

    /// Forgets which version a conversation is held to: its next turn is decided anew. A response in flight goes on.
    pub async fn unpin(&self, key: &AgentKey, id: &str, order: Order) -> Result<Conversation, CommandError> {
        let conversation = self.conversation(key, id)?;
        let Some(pin) = self.pin_key(key, id).filter(|_| !order.dry_run) else { return Ok(conversation) };
        self.0.pins.remove(pin);
        let record = persist::record_unpin(key, pin, &conversation.version, &order, Moment::now());
        confirmed(self.0.book.writer.insist(Write { records: vec![record], ..Write::default() })).await?;
        Ok(conversation)
    }

    fn pin_key(&self, key: &AgentKey, id: &str) -> Option<PinKey> {
        let places = self.0.pins.counts(&key.environment, &key.agent);
        places.first()?.agent.key(id.as_bytes())
    }

    pub(super) fn place(&self, key: &AgentKey, version: &VersionId) -> Arc<Place> {
        self.0.pins.place(&key.environment, &key.agent, version)
    }
}
