//! The names behind the numbers in a pin: agents and their versions, interned.
//!
//! Bound: one entry (some 100 bytes) for each agent and each version that configuration has ever named with
//! `conversations:` while this process lived. Clients cannot add any.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Second;
use super::key::{AgentHash, PinKey, PinSecret};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId};

/// Until an agent's table says otherwise. As long as the longest that a configuration may ask for.
const TTL_MAX: Second = 30 * 86_400;

/// An agent that has conversations.
pub struct PinAgent {
    pub environment: EnvironmentId,
    pub id: AgentId,
    hash: AgentHash,
    ttl: AtomicU32,
}

impl PinAgent {
    /// The key of a conversation; `None` for an id that is empty or too long.
    pub fn key(&self, conversation: &[u8]) -> Option<PinKey> {
        self.hash.key(conversation)
    }

    pub fn ttl(&self) -> Second {
        self.ttl.load(Ordering::Relaxed)
    }

    pub(super) fn set_ttl(&self, ttl: Second) {
        self.ttl.store(ttl, Ordering::Relaxed);
    }
}

/// A version of such an agent, and how many conversations it has.
pub struct Place {
    pub agent: Arc<PinAgent>,
    pub version: VersionId,
    pub(super) number: u32,
    pub(super) conversations: AtomicU64,
    /// Responses in flight that belong to one of them.
    pub(super) in_flight: AtomicU64,
}

impl Place {
    pub fn conversations(&self) -> u64 {
        self.conversations.load(Ordering::Relaxed)
    }
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// All agents and places. Written when a table names one for the first time, read on few requests only.
pub(super) struct Names {
    secret: PinSecret,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    agents: HashMap<(EnvironmentId, AgentId), AgentEntry>,
    /// By number.
    places: Vec<Arc<Place>>,
}

struct AgentEntry {
    agent: Arc<PinAgent>,
    places: HashMap<VersionId, Arc<Place>>,
}

impl Names {
    pub fn new(secret: PinSecret) -> Self {
        Self { secret, inner: RwLock::default() }
    }

    pub fn place(&self, environment: &EnvironmentId, agent: &AgentId, version: &VersionId) -> Arc<Place> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Inner { agents, places } = &mut *inner;
        let entry = agents.entry((environment.clone(), agent.clone())).or_insert_with(|| AgentEntry {
            agent: Arc::new(PinAgent {
                environment: environment.clone(),
                id: agent.clone(),
                hash: AgentHash::new(&self.secret, environment.as_str(), agent.as_str()),
                ttl: AtomicU32::new(TTL_MAX),
            }),
            places: HashMap::new(),
        });
        let new = || {
            let place = Arc::new(Place {
                agent: entry.agent.clone(),
                version: version.clone(),
                number: u32::try_from(places.len()).unwrap_or(u32::MAX),
                conversations: AtomicU64::new(0),
                in_flight: AtomicU64::new(0),
            });
            places.push(place.clone());
            place
        };
        entry.places.entry(version.clone()).or_insert_with(new).clone()
    }

    pub fn by_number(&self, number: u32) -> Option<Arc<Place>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.places.get(number as usize).cloned()
    }

    /// All places, by number.
    pub fn all(&self) -> Vec<Arc<Place>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).places.clone()
    }

    /// The places of one agent, in no order; none where it never had a conversation.
    pub fn of_agent(&self, environment: &EnvironmentId, agent: &AgentId) -> Vec<Arc<Place>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let entry = inner.agents.get(&(environment.clone(), agent.clone()));
        entry.map_or_else(Vec::new, |entry| entry.places.values().cloned().collect())
    }
}
