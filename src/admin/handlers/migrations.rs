//! Conversations on their way to another version.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::commands::Read;
use super::deployments::Listed;
use super::place::Place;
use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::order::Ordered;
use crate::admin::page::Page;
use crate::admin::wire::{MigrationBody, MigrationDone, MigrationView, ReasonRequest};
use crate::control::command::CommandError;

/// The newest first.
pub async fn list(State(state): State<AdminState>, listed: Listed) -> Result<Json<Page<MigrationView>>, Problem> {
    let key = listed.place.key(&state.control.table().load_full())?;
    let mut all = state.control.migrations(&key).into_iter().peekable();
    if let Some(after) = &listed.after {
        while all.next_if(|migration| migration.id.as_str() != after).is_some() {}
        all.next();
    }
    let found = all.map(|migration| MigrationView::new(&key, &migration));
    Ok(Json(Page::of(found, listed.limit, |migration| migration.id.clone())))
}

pub async fn show(State(state): State<AdminState>, place: Place) -> Result<Json<MigrationView>, Problem> {
    let key = place.key(&state.control.table().load_full())?;
    let id = place.deployment.unwrap_or_default();
    let found = state.control.migrations(&key).into_iter().find(|migration| migration.id.as_str() == id);
    let found = found.ok_or_else(|| CommandError::UnknownMigration { key: key.clone(), id })?;
    Ok(Json(MigrationView::new(&key, &found)))
}

pub async fn create(
    State(state): State<AdminState>,
    ordered: Ordered,
    Read(mut body): Read<MigrationBody>,
) -> Result<Response, Problem> {
    let key = ordered.place.key(&state.control.table().load_full())?;
    let (reason, dry_run) = (body.reason.take(), ordered.terms.dry_run);
    let request = body.request().ok_or_else(|| Problem::bad_request("the body is no migration"))?;
    let done = state.control.migrate(&key, request, ordered.terms.order(reason)).await?;
    let answer = Json(MigrationDone::new(&key, &done, dry_run));
    if dry_run {
        return Ok(answer.into_response());
    }
    let (agent, environment, id) = (&key.agent, &key.environment, &done.migration.id);
    let location = format!("/api/v1/agents/{agent}/migrations/{id}?environment={environment}");
    let mut response = (StatusCode::CREATED, answer).into_response();
    // Names that no header can carry are none that the configuration takes.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub async fn cancel(
    State(state): State<AdminState>,
    ordered: Ordered,
    Read(ReasonRequest { reason }): Read<ReasonRequest>,
) -> Result<Json<MigrationDone>, Problem> {
    let key = ordered.place.key(&state.control.table().load_full())?;
    let (id, dry_run) = (ordered.place.deployment.unwrap_or_default(), ordered.terms.dry_run);
    let done = state.control.cancel_migration(&key, &id, ordered.terms.order(reason)).await?;
    Ok(Json(MigrationDone::new(&key, &done, dry_run)))
}
