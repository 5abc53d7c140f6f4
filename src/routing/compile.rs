//! Desired → RoutingTable. Every rejection is here.
//!
//! Either the whole table is right or there is none: all rejections are collected and nothing is half
//! applied. An agent of which nothing changed is taken over from the previous table as it is, and so is
//! the matcher when no route changed; publishing one weight among ten thousand agents costs one agent.

use std::sync::Arc;

use super::ids::{AgentId, EnvironmentId};
use super::layout::Layouts;
use super::matcher::{Clash, HEADER_SETS_MAX, Matcher, Place};
use super::spec::{AgentSpec, Desired, DesiredAgent};
use super::split::Split;
use super::table::{Agent, RoutingTable};
use crate::telemetry::stats::StatsRegistry;

mod agent;

/// Why a desired state cannot be a table. All of them are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("agent {agent} ({environment}): {field}: {message}")]
pub struct Rejection {
    pub environment: EnvironmentId,
    pub agent: AgentId,
    /// Where in the agent's spec, as a YAML path below the agent: `match[0]`, `stable`, `rules[2].version`.
    pub field: String,
    /// What is wrong, what was expected, and the nearest right name where there is one.
    pub message: String,
}

impl Rejection {
    fn new(spec: &AgentSpec, field: impl Into<String>, message: impl Into<String>) -> Self {
        let (environment, agent) = (spec.environment.clone(), spec.id.clone());
        Self { environment, agent, field: field.into(), message: message.into() }
    }
}

/// Builds the table of `epoch`. `previous` keeps buckets where they are as weights change.
///
/// # Errors
/// Everything that is wrong with `desired`, sorted by environment, agent and field.
pub fn compile(
    desired: &Desired,
    previous: Option<&RoutingTable>,
    registry: &StatsRegistry,
    epoch: u64,
) -> Result<RoutingTable, Vec<Rejection>> {
    build(desired, Before { table: previous, layouts: &Layouts::new() }, registry, epoch)
}

/// Builds the first table of a process: buckets stay where an earlier process had them.
///
/// # Errors
/// As [`compile`].
pub fn compile_first(
    desired: &Desired,
    layouts: &Layouts,
    registry: &StatsRegistry,
    epoch: u64,
) -> Result<RoutingTable, Vec<Rejection>> {
    build(desired, Before { table: None, layouts }, registry, epoch)
}

/// What there was.
struct Before<'a> {
    table: Option<&'a RoutingTable>,
    /// Of agents that the table does not know.
    layouts: &'a Layouts,
}

fn build(
    desired: &Desired,
    before: Before<'_>,
    registry: &StatsRegistry,
    epoch: u64,
) -> Result<RoutingTable, Vec<Rejection>> {
    let sorted = sorted(&desired.agents);
    let mut rejections = duplicates(&sorted);
    let mut known = before.table.map_or([].as_slice(), |table| &table.agents).iter().peekable();
    let mut agents = Vec::with_capacity(sorted.len());
    for desired in &sorted {
        while known.next_if(|agent| name(&agent.spec) < name(&desired.spec)).is_some() {}
        let known = known.peek().filter(|agent| name(&agent.spec) == name(&desired.spec));
        match known {
            Some(agent) if is_unchanged(agent, desired) => agents.push(Arc::clone(agent)),
            known => match agent::compile(
                desired,
                known.map(|agent| &***agent),
                live_split(desired, known, before.layouts),
                registry,
            ) {
                Ok(agent) => agents.push(Arc::new(agent)),
                Err(faults) => rejections.extend(faults),
            },
        }
    }
    let matcher = matcher(&sorted, before.table).unwrap_or_else(|clashes| {
        rejections.extend(clashes);
        Arc::default()
    });
    if rejections.is_empty() {
        return Ok(RoutingTable { epoch, config_hash: desired.config_hash.clone(), agents, matcher });
    }
    rejections.sort_unstable();
    Err(rejections)
}

/// The split that is live, in the numbering of the desired agent's versions.
fn live_split(desired: &DesiredAgent, known: Option<&&Arc<Agent>>, layouts: &Layouts) -> Option<Split> {
    let spec = &*desired.spec;
    match known {
        Some(agent) => agent::live_split(agent, spec),
        None => layouts.get(&(spec.environment.clone(), spec.id.clone()))?.split(spec),
    }
}

fn name(spec: &AgentSpec) -> (&str, &str) {
    (spec.environment.as_str(), spec.id.as_str())
}

fn sorted(agents: &[DesiredAgent]) -> Vec<&DesiredAgent> {
    let mut sorted: Vec<_> = agents.iter().collect();
    sorted.sort_by(|a, b| name(&a.spec).cmp(&name(&b.spec)));
    sorted
}

fn duplicates(sorted: &[&DesiredAgent]) -> Vec<Rejection> {
    let twice = sorted.windows(2).filter(|pair| name(&pair[0].spec) == name(&pair[1].spec));
    twice.map(|pair| Rejection::new(&pair[1].spec, "agent", "is defined twice in this environment")).collect()
}

fn is_unchanged(agent: &Agent, desired: &DesiredAgent) -> bool {
    let same_spec = Arc::ptr_eq(&agent.spec, &desired.spec) || agent.spec == desired.spec;
    let same_versions = agent.barred == desired.barred && agent.left == desired.left;
    same_spec && same_versions && agent.canary == desired.canary && agent.notes == desired.notes
}

/// The previous matcher where it says the same, else a new one, else all clashes. Routes that are wrong by
/// themselves are left out: their agents are rejected already.
fn matcher(sorted: &[&DesiredAgent], previous: Option<&RoutingTable>) -> Result<Arc<Matcher>, Vec<Rejection>> {
    if let Some(previous) = previous.filter(|previous| has_same_routes(previous, sorted)) {
        return Ok(Arc::clone(&previous.matcher));
    }
    let agents = sorted.iter().enumerate().map(|(index, desired)| (index, &*desired.spec));
    let sound = agents.filter(|(_, spec)| spec.routes.iter().all(|route| super::matcher::check(route).is_empty()));
    let built = Matcher::build(sound.map(|(index, spec)| (index, &spec.environment, spec.routes.as_slice())));
    built.map(Arc::new).map_err(|clashes| clashes.iter().filter_map(|clash| rejection(sorted, *clash)).collect())
}

fn has_same_routes(previous: &RoutingTable, sorted: &[&DesiredAgent]) -> bool {
    let same = |(old, new): (&Arc<Agent>, &&DesiredAgent)| {
        Arc::ptr_eq(&old.spec, &new.spec) || (name(&old.spec) == name(&new.spec) && old.spec.routes == new.spec.routes)
    };
    previous.agents.len() == sorted.len() && previous.agents.iter().zip(sorted).all(same)
}

fn rejection(sorted: &[&DesiredAgent], clash: Clash) -> Option<Rejection> {
    let spec = |place: Place| sorted.get(place.agent).map(|desired| &*desired.spec);
    let of = |place: Place| {
        let spec = spec(place)?;
        Some(format!("{} of agent {} ({})", field(place), spec.id, spec.environment))
    };
    let (at, message) = match clash {
        // The duplicate agent itself is rejected.
        Clash::Same(one, other) | Clash::Ambiguous(one, other)
            if one.agent != other.agent && name(spec(one)?) == name(spec(other)?) =>
        {
            return None;
        }
        Clash::Same(one, other) => {
            let advice = if other.route.is_none() { "; give this agent a `match` that tells them apart" } else { "" };
            (other, format!("takes the same requests as {}{advice}", of(one)?))
        }
        Clash::Ambiguous(one, other) => {
            let advice = "make one more specific, by host, path or one more header";
            (other, format!("is as specific as {}, and one request can match both; {advice}", of(one)?))
        }
        Clash::TooManyHeaderSets(place) => {
            (place, format!("more than {HEADER_SETS_MAX} different sets of header names at one host and path"))
        }
    };
    Some(Rejection::new(spec(at)?, field(at), message))
}

fn field(place: Place) -> String {
    place.route.map_or_else(|| "match".to_owned(), |route| format!("match[{route}]"))
}

#[cfg(test)]
mod tests;
