//! How the configuration's last reload went.

use axum::Json;
use axum::extract::State;

use crate::admin::AdminState;
use crate::admin::wire::ConfigStatus;

pub async fn show(State(state): State<AdminState>) -> Json<ConfigStatus> {
    Json(state.reloads.read().into())
}
