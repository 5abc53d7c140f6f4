//! A deployment, and the commands on it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::place::Place;
use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::wire::{DeploymentStatus, RollbackRequest};
use crate::control::command::{Command, Order};
use crate::control::model::{Actor, AgentKey};

/// The longest reason that is kept, in bytes.
const REASON_LIMIT: usize = 1000;

pub async fn show(State(state): State<AdminState>, place: Place) -> Result<Json<DeploymentStatus>, Problem> {
    let key = key(&state, &place)?;
    let none = || Problem::no_deployment(key.agent.as_str(), key.environment.as_str());
    let view = state.control.deployment(&key).ok_or_else(none)?;
    Ok(Json(DeploymentStatus::from(&view)))
}

pub async fn rollback(
    State(state): State<AdminState>,
    place: Place,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<DeploymentStatus>, Problem> {
    let request = read_request(&body.map_err(unread)?)?;
    let key = key(&state, &place)?;
    let order = Order { reason: request.reason, ..Order::by(Actor::new("admin API", "api")) };
    let done = state.control.order(&key, None, Command::Rollback { to: None }, order).await?;
    let none = || Problem::no_deployment(key.agent.as_str(), key.environment.as_str());
    Ok(Json(DeploymentStatus::from(&done.view.ok_or_else(none)?)))
}

fn key(state: &AdminState, place: &Place) -> Result<AgentKey, Problem> {
    let table = state.control.table().load();
    place.find(&table).map(|agent| AgentKey::of(&agent.spec))
}

/// An empty body asks for a rollback without a reason.
fn read_request(body: &[u8]) -> Result<RollbackRequest, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(RollbackRequest::default());
    }
    let unreadable = |error| Problem::bad_request(format!("the body is not {{\"reason\": \"…\"}} as JSON: {error}"));
    let request: RollbackRequest = serde_json::from_slice(body).map_err(unreadable)?;
    match &request.reason {
        Some(reason) if reason.len() > REASON_LIMIT => {
            Err(Problem::bad_request(format!("reason may have at most {REASON_LIMIT} bytes")))
        }
        _ => Ok(request),
    }
}

fn unread(rejection: BytesRejection) -> Problem {
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(),
        _ => Problem::bad_request("the request body did not arrive whole"),
    }
}
