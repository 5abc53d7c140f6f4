//! How the configuration's last reload went, and what TLS is spoken with.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;

use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::query::Fields;
use crate::admin::wire::ConfigStatus;

pub async fn show(State(state): State<AdminState>, fields: Fields) -> Result<Json<ConfigStatus>, Problem> {
    fields.end()?;
    Ok(Json(ConfigStatus::new(state.reloads.read(), state.certificates.status(), SystemTime::now())))
}
