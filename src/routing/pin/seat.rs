//! One table's view of an agent's pins: which of its versions a pin's number stands for, and whether that one
//! may still serve. Made once for each compiled agent, at its first pinned request.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::place::{PinAgent, Place};
use super::{Lapse, Pin, PinKey, Pins, Second};
use crate::routing::conversation::{ConversationSpec, PinPolicy};
use crate::routing::table::{Agent, Version};

pub struct Seat {
    agent: Arc<PinAgent>,
    /// By index in the agent's versions.
    places: Vec<Arc<Place>>,
    /// For each of them, whether it may serve conversations.
    open: Vec<bool>,
    ttl: Second,
    /// `None`: pinned to the end of the time to live.
    grace: Option<Second>,
    fingerprint: [u8; 8],
}

impl Seat {
    pub fn new(pins: &Pins, agent: &Agent, spec: &ConversationSpec) -> Self {
        let place = |id| pins.place(agent.environment(), agent.id(), id);
        let places: Vec<_> = agent.versions.iter().map(|version| place(&version.id)).collect();
        let is_open = |version: &Version| {
            let is_evicted = spec.evict_on_rollback && agent.left.contains(&version.id);
            !is_evicted && !version.endpoints.is_empty()
        };
        let grace = match spec.policy {
            PinPolicy::Pinned => None,
            PinPolicy::UpgradeAtTurn { grace } => Some(seconds(grace)),
        };
        let pin_agent = places.first().map_or_else(|| place(&agent.spec.stable), Arc::clone).agent.clone();
        pin_agent.set_ttl(seconds(spec.ttl));
        let open = agent.versions.iter().map(is_open).collect();
        let fingerprint = fingerprint(agent.environment().as_str(), agent.id().as_str());
        Self { agent: pin_agent, places, open, ttl: seconds(spec.ttl), grace, fingerprint }
    }

    pub fn ttl(&self) -> Second {
        self.ttl
    }

    /// Stands for the agent in its environment, in tokens.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// The key of a conversation; `None` for an id that is empty or too long.
    pub fn key(&self, conversation: &[u8]) -> Option<PinKey> {
        self.agent.key(conversation)
    }

    /// Whether conversations may be held to this version.
    pub fn is_open(&self, version: usize) -> bool {
        self.open.get(version).is_some_and(|open| *open)
    }

    pub(super) fn place(&self, version: usize) -> Option<&Arc<Place>> {
        self.places.get(version)
    }

    /// The index of the version that the pin holds to now.
    pub(super) fn version_of(&self, pin: &Pin, now: Second) -> Result<usize, Lapse> {
        let version = self.places.iter().position(|place| place.number == pin.place);
        let version = version.filter(|version| self.is_open(*version)).ok_or(Lapse::Dropped)?;
        if pin.is_busy() {
            return Ok(version);
        }
        let idle = pin.idle_for(now);
        match self.grace {
            _ if idle > self.ttl => Err(Lapse::Expired),
            Some(grace) if idle > grace => Err(Lapse::Turned),
            _ => Ok(version),
        }
    }
}

fn fingerprint(environment: &str, agent: &str) -> [u8; 8] {
    // A byte that no name contains keeps (`a`, `bc`) apart from (`ab`, `c`).
    let hash = Sha256::new().chain_update(environment).chain_update([0xff]).chain_update(agent).finalize();
    std::array::from_fn(|byte| hash[byte])
}

fn seconds(duration: Duration) -> Second {
    Second::try_from(duration.as_secs()).unwrap_or(Second::MAX)
}
