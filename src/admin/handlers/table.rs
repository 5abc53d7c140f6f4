//! What is live, by agent.

use axum::Json;
use axum::extract::State;

use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::query::Fields;
use crate::admin::wire::{TableAgent, TableView};

pub async fn show(State(state): State<AdminState>, fields: Fields) -> Result<Json<TableView>, Problem> {
    fields.end()?;
    let table = state.control.table().load_full();
    let mut deployments = state.control.deployments().into_iter().peekable();
    let agents = table.agents.iter().map(|agent| {
        // Both are in the order of environment and agent, so one pass pairs them.
        let key = (agent.environment(), agent.id());
        while deployments.next_if(|d| (&d.key.environment, &d.key.agent) < key).is_some() {}
        let deployment = deployments.next_if(|d| (&d.key.environment, &d.key.agent) == key);
        TableAgent::new(agent, deployment.as_ref())
    });
    Ok(Json(TableView { epoch: table.epoch, config_hash: table.config_hash.to_string(), agents: agents.collect() }))
}
