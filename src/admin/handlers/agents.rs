//! One agent; and how a request names the agent that it means.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::wire::{AgentView, TableAgent};
use crate::control::model::AgentKey;
use crate::routing::table::{Agent, RoutingTable};

/// Needed only where several environments have an agent of that name.
#[derive(Debug, Default, Deserialize)]
pub struct Place {
    pub environment: Option<String>,
}

pub async fn show(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Query(place): Query<Place>,
) -> Result<Json<AgentView>, Problem> {
    let table = state.control.table().load_full();
    let agent = find(&table, &name, place.environment.as_deref())?;
    let deployment = state.control.deployment(&AgentKey::of(&agent.spec));
    Ok(Json(AgentView {
        epoch: table.epoch,
        config_hash: table.config_hash.to_string(),
        agent: TableAgent::new(agent, deployment.as_ref()),
    }))
}

/// The agent of that name, where exactly one is meant.
pub fn find<'t>(table: &'t RoutingTable, name: &str, environment: Option<&str>) -> Result<&'t Arc<Agent>, Problem> {
    let here = |agent: &&Arc<Agent>| environment.is_none_or(|e| agent.environment().as_str() == e);
    let found: Vec<_> = table.agents.iter().filter(here).filter(|agent| agent.id().as_str() == name).collect();
    match *found {
        [agent] => Ok(agent),
        [] => Err(Problem::unknown_agent(name, environment, nearest(table, name))),
        _ => {
            let environments: Vec<_> = found.iter().map(|agent| agent.environment().as_str()).collect();
            Err(Problem::which_environment(name, &environments))
        }
    }
}

/// The name that the operator most likely meant: a third of its letters may be wrong.
fn nearest<'t>(table: &'t RoutingTable, name: &str) -> Option<&'t str> {
    let names = table.agents.iter().map(|agent| agent.id().as_str());
    let distances = names.map(|known| (strsim::damerau_levenshtein(known, name), known));
    let (distance, known) = distances.min()?;
    (distance <= (name.chars().count() / 3).max(1)).then_some(known)
}
