//! One agent as it is live.

use axum::Json;
use axum::extract::State;

use super::place::Place;
use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::wire::{AgentView, TableAgent};
use crate::control::model::AgentKey;

pub async fn show(State(state): State<AdminState>, place: Place) -> Result<Json<AgentView>, Problem> {
    let table = state.control.table().load_full();
    let agent = place.find(&table)?;
    let deployment = state.control.deployment(&AgentKey::of(&agent.spec));
    Ok(Json(AgentView {
        epoch: table.epoch,
        config_hash: table.config_hash.to_string(),
        agent: TableAgent::new(agent, deployment.as_ref()),
    }))
}
