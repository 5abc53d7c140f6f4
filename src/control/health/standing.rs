//! Standing checks: each check of an agent against each endpoint of the versions that new requests may get, for as
//! long as they may. An endpoint is taken out of service while one of its checks fails, as far as `max_ejected` lets
//! it, and is back when all pass.
//!
//! A check tells after each try, so that an endpoint which had to be kept goes as soon as there is room. What is no longer
//! checked is no longer out for that. Bound: a task for each check of each endpoint.

use std::sync::{Arc, Mutex, PoisonError};

use super::{CheckReading, Gate, HealthCheck, Target};
use crate::control::errands::Errand;
use crate::control::model::AgentKey;
use crate::routing::ids::VersionId;
use crate::routing::spec::{AgentSpec, EndpointAddress};
use crate::routing::table::{Agent, SharedTable, Version};
use crate::telemetry::endpoints::EjectionReason;

/// The standing checks of one agent.
#[derive(Default)]
pub struct Standing(Vec<Group>);

/// Those of one version.
struct Group {
    gate: Gate,
    checks: Arc<[HealthCheck]>,
    /// By endpoint.
    wards: Vec<Arc<Ward>>,
}

/// What one standing check says of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct StandingReading {
    pub version: VersionId,
    pub reading: CheckReading,
}

impl Standing {
    /// Checks what serves by the table, and nothing else. What is checked already goes on.
    pub fn follow(&mut self, spec: &AgentSpec, checks: &Arc<[HealthCheck]>, table: &SharedTable) {
        if checks.is_empty() && self.0.is_empty() {
            return;
        }
        let live = table.load();
        let agent = live.agent(spec.environment.as_str(), spec.id.as_str()).filter(|_| !checks.is_empty());
        let mut before = std::mem::take(&mut self.0);
        for target in agent.into_iter().flat_map(|agent| targets(agent)) {
            let same = |group: &Group| *group.gate.target() == target && group.checks == *checks;
            let group = match before.iter().position(same) {
                Some(known) => before.swap_remove(known),
                None => Group::new(target, checks, table),
            };
            self.0.push(group);
        }
        let is_checked = |ward: &Ward| self.0.iter().flat_map(|group| &group.wards).any(|other| other.is_of_same(ward));
        for ward in before.iter().flat_map(|group| &group.wards) {
            ward.end();
            if !is_checked(ward) {
                ward.apply(true);
            }
        }
    }

    /// Checks that have not begun.
    pub fn errands(&mut self) -> impl Iterator<Item = Errand> {
        self.0.iter_mut().flat_map(|group| group.gate.errands())
    }

    pub fn readings(&self) -> Vec<StandingReading> {
        let of_group = |group: &Group| {
            let version = group.gate.target().version.clone();
            let readings = group.gate.readings();
            readings.into_iter().map(move |reading| StandingReading { version: version.clone(), reading })
        };
        self.0.iter().flat_map(of_group).collect()
    }
}

impl Group {
    fn new(target: Target, checks: &Arc<[HealthCheck]>, table: &SharedTable) -> Self {
        let ward = |endpoint: &EndpointAddress| {
            Arc::new(Ward {
                table: table.clone(),
                key: target.key.clone(),
                version: target.version.clone(),
                endpoint: endpoint.clone(),
                verdicts: Mutex::new(Some(vec![None; checks.len()])),
            })
        };
        let wards: Vec<_> = target.endpoints.iter().map(ward).collect();
        Self { gate: Gate::telling(target, checks, &wards), checks: checks.clone(), wards }
    }
}

/// The versions that new requests may get.
fn targets(agent: &Agent) -> Vec<Target> {
    let serving = agent.versions.iter().enumerate().filter(|(index, _)| agent.may_choose(*index));
    let target = |version: &Version| Target {
        deployment: None,
        key: AgentKey::of(&agent.spec),
        version: version.id.clone(),
        stable: agent.spec.stable.clone(),
        endpoints: version.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect(),
        tls: agent.spec.exchange.tls.clone(),
    };
    serving.map(|(_, version)| target(version)).collect()
}

/// One endpoint under standing checks.
pub(super) struct Ward {
    table: SharedTable,
    key: AgentKey,
    version: VersionId,
    endpoint: EndpointAddress,
    /// By check; `None` within: nobody knows yet. `None`: it is over, and nothing that comes in late counts.
    verdicts: Mutex<Option<Vec<Option<bool>>>>,
}

impl Ward {
    fn is_of_same(&self, other: &Self) -> bool {
        self.version == other.version && self.endpoint == other.endpoint
    }

    /// What the check at `place` now thinks.
    pub fn hear(&self, place: usize, verdict: Option<bool>) {
        // Held to the end, so that nothing is applied any more once it is over.
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(verdicts) = verdicts.as_mut() else { return };
        if let Some(known) = verdicts.get_mut(place) {
            *known = verdict;
        }
        if verdicts.contains(&Some(false)) {
            self.apply(false);
        } else if verdicts.iter().all(|verdict| *verdict == Some(true)) {
            self.apply(true);
        }
    }

    fn end(&self) {
        *self.verdicts.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Puts it into effect in the table that is live: the endpoint's health is the same in all that have it.
    fn apply(&self, passes: bool) {
        let table = self.table.load();
        let agent = table.agent(self.key.environment.as_str(), self.key.agent.as_str());
        let Some((agent, index)) =
            agent.and_then(|agent| Some((agent, agent.versions.iter().position(|v| v.id == self.version)?)))
        else {
            return;
        };
        let endpoints = agent.endpoints(index);
        let Some(endpoint) = endpoints.all.iter().position(|endpoint| endpoint.address == self.endpoint) else {
            return;
        };
        if endpoints.checked(endpoint, passes) {
            self.report(agent, index, passes);
        }
    }

    fn report(&self, agent: &Agent, version: usize, passes: bool) {
        let (environment, name, endpoint) = (&self.key.environment, &self.key.agent, &self.endpoint);
        if passes {
            tracing::info!(%environment, agent = %name, version = %self.version, %endpoint, "endpoint back in service");
            return;
        }
        let reason = EjectionReason::Check;
        agent.versions[version].stats.ejections.add(reason);
        tracing::warn!(
            %environment, agent = %name, version = %self.version, %endpoint, reason = reason.as_str(), "endpoint ejected"
        );
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.wards.iter().for_each(|ward| ward.end());
    }
}
