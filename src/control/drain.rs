//! Versions that get no more new traffic, and still have conversations or responses in flight. Pure.
//!
//! What counts is what a person waits for before stopping such a version: conversations that are held to it, and
//! answers that it has not finished. Connections say nothing of either.
//!
//! Bound: one entry for each version of the live table.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::{AgentKey, Moment};
use crate::routing::ids::{VersionId, Weight};
use crate::routing::table::{Agent, RoutingTable};

/// A version that is on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    pub version: VersionId,
    pub load: Load,
    /// When it got its last share of new traffic, as far as this process knows.
    pub since: Moment,
}

/// What a version still has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub conversations: u64,
    /// Responses whose last byte has not been sent.
    pub in_flight: u64,
}

impl Load {
    pub fn is_over(self) -> bool {
        self == Self::default()
    }
}

/// Follows the tables.
#[derive(Default)]
pub struct Drains {
    /// Of the table that was looked at last, and its agents.
    epoch: u64,
    agents: Vec<Arc<Agent>>,
    since: BTreeMap<AgentKey, BTreeMap<VersionId, Moment>>,
}

impl Drains {
    /// Looks at the table; says which versions are drained since the last look. A version that had nothing left to do
    /// when its traffic ended is drained at once.
    pub fn look(
        &mut self,
        table: &RoutingTable,
        load: impl Fn(&Agent, usize) -> Load,
        now: Moment,
    ) -> Vec<(AgentKey, VersionId)> {
        // Where many agents have nothing to do with it, a table that was seen costs next to nothing.
        if table.epoch != self.epoch {
            self.follow(table, now);
        }
        let mut drained = Vec::new();
        for agent in &table.agents {
            if agent.spec.conversations.is_none() && self.since.is_empty() {
                continue;
            }
            let key = AgentKey::of(&agent.spec);
            for index in (0..agent.versions.len()).filter(|index| !is_served(agent, *index)) {
                let version = &agent.versions[index].id;
                let known = self.since.get(&key).is_some_and(|versions| versions.contains_key(version));
                match (known, load(agent, index).is_over()) {
                    // Pins of an earlier process, or of a signed override.
                    (false, false) => self.begin(&key, version, now),
                    (true, true) => {
                        self.end(&key, version);
                        drained.push((key.clone(), version.clone()));
                    }
                    _ => {}
                }
            }
        }
        drained
    }

    /// Begins for what has left the split, and ends for what came back or is gone.
    fn follow(&mut self, table: &RoutingTable, now: Moment) {
        self.epoch = table.epoch;
        let before = std::mem::replace(&mut self.agents, table.agents.clone());
        let on_the_way_out = |key: &AgentKey, version: &VersionId| {
            let agent = table.agent(key.environment.as_str(), key.agent.as_str())?;
            index_of(agent, version).filter(|index| !is_served(agent, *index))
        };
        for (key, versions) in &mut self.since {
            versions.retain(|version, _| on_the_way_out(key, version).is_some());
        }
        self.since.retain(|_, versions| !versions.is_empty());
        for old in &before {
            let agent = table.agent(old.environment().as_str(), old.id().as_str());
            if agent.is_none_or(|agent| Arc::ptr_eq(old, agent)) {
                continue;
            }
            let key = AgentKey::of(&old.spec);
            for (_, version) in old.versions.iter().enumerate().filter(|(index, _)| is_served(old, *index)) {
                if on_the_way_out(&key, &version.id).is_some() {
                    self.begin(&key, &version.id, now);
                }
            }
        }
    }

    fn begin(&mut self, key: &AgentKey, version: &VersionId, now: Moment) {
        self.since.entry(key.clone()).or_default().entry(version.clone()).or_insert(now);
    }

    fn end(&mut self, key: &AgentKey, version: &VersionId) {
        if let Some(versions) = self.since.get_mut(key) {
            versions.remove(version);
        }
        self.since.retain(|_, versions| !versions.is_empty());
    }

    /// What is draining of an agent, with what is left now.
    pub fn of(&self, agent: &Agent, load: impl Fn(&Agent, usize) -> Load) -> Vec<Draining> {
        let since = self.since.get(&AgentKey::of(&agent.spec));
        let draining = |(version, since): (&VersionId, &Moment)| {
            let load = load(agent, index_of(agent, version)?);
            Some(Draining { version: version.clone(), load, since: *since })
        };
        since.into_iter().flatten().filter_map(draining).collect()
    }

    /// The agents that have versions which are draining.
    pub fn agents(&self) -> impl Iterator<Item = &AgentKey> {
        self.since.keys()
    }
}

/// Whether requests that are decided anew may still come to this version.
fn is_served(agent: &Agent, version: usize) -> bool {
    version == agent.stable
        || agent.split.weight(version) > Weight::ZERO
        || agent.rules.iter().any(|rule| rule.version == Some(version))
}

fn index_of(agent: &Agent, version: &VersionId) -> Option<usize> {
    agent.versions.iter().position(|known| known.id == *version)
}
