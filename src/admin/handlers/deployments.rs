//! Deployments as they are: the current one, the earlier ones, and what the guards say.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};

use super::place::Place;
use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::order::etag;
use crate::admin::page::{self, Page};
use crate::admin::query::Fields;
use crate::admin::wire::{DeploymentStatus, DrainingView, RollbackPointView, Verdicts};
use crate::control::agent::AgentState;
use crate::control::model::{AgentKey, Deployment};

type Tagged<T> = ([(header::HeaderName, HeaderValue); 1], Json<T>);

/// An agent, and which part of a list of its things.
pub struct Listed {
    pub place: Place,
    pub after: Option<String>,
    pub limit: usize,
}

impl<S: Send + Sync> FromRequestParts<S> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let place = Place::read(parts, state, &mut fields).await?;
        let listed = Self { place, after: fields.one("after"), limit: page::limit(&mut fields) };
        fields.end().map(|()| listed)
    }
}

/// What is remembered of an agent, with its key.
fn remembered(state: &AdminState, place: &Place) -> Result<(AgentKey, AgentState), Problem> {
    let key = place.key(&state.control.table().load_full())?;
    let none = || Problem::unknown_agent(key.agent.as_str(), Some(key.environment.as_str()), None);
    let agent = state.control.agent(&key).ok_or_else(none)?;
    Ok((key, agent))
}

/// The current one with what is live of it, an earlier one as it ended.
fn status(state: &AdminState, key: &AgentKey, agent: &AgentState, deployment: &Deployment) -> DeploymentStatus {
    let live = state.control.deployment(key).filter(|view| view.deployment.id == deployment.id);
    let Some(live) = live else { return DeploymentStatus::ended(key, agent, deployment) };
    let draining = DrainingView::all(&state.control.draining(key));
    DeploymentStatus { draining, ..DeploymentStatus::from(&live) }
}

pub async fn current(State(state): State<AdminState>, place: Place) -> Result<Tagged<DeploymentStatus>, Problem> {
    let key = place.key(&state.control.table().load_full())?;
    let none = || Problem::no_deployment(key.agent.as_str(), key.environment.as_str());
    let view = state.control.deployment(&key).ok_or_else(none)?;
    let draining = DrainingView::all(&state.control.draining(&key));
    let status = DeploymentStatus { draining, ..DeploymentStatus::from(&view) };
    Ok(([(header::ETAG, etag(view.revision))], Json(status)))
}

/// The newest first.
pub async fn list(State(state): State<AdminState>, listed: Listed) -> Result<Json<Page<DeploymentStatus>>, Problem> {
    let (key, agent) = remembered(&state, &listed.place)?;
    let all = agent.deployment.iter().chain(agent.history.iter().rev());
    // One that is no longer remembered was older than all there are: nothing comes after it.
    let mut all = all.peekable();
    if let Some(after) = &listed.after {
        while all.next_if(|deployment| deployment.id.as_str() != after).is_some() {}
        all.next();
    }
    let found = all.map(|deployment| status(&state, &key, &agent, deployment));
    Ok(Json(Page::of(found, listed.limit, |deployment| deployment.id.clone())))
}

pub async fn show(State(state): State<AdminState>, place: Place) -> Result<Tagged<DeploymentStatus>, Problem> {
    let (key, agent) = remembered(&state, &place)?;
    let deployment = find(&place, &key, &agent)?;
    Ok(([(header::ETAG, etag(agent.revision))], Json(status(&state, &key, &agent, deployment))))
}

pub async fn verdicts(State(state): State<AdminState>, place: Place) -> Result<Json<Verdicts>, Problem> {
    let (key, agent) = remembered(&state, &place)?;
    let deployment = find(&place, &key, &agent)?;
    let live = state.control.deployment(&key).filter(|view| view.deployment.id == deployment.id);
    Ok(Json(Verdicts::new(deployment, live.as_ref())))
}

/// The newest first.
pub async fn rollback_points(
    State(state): State<AdminState>,
    listed: Listed,
) -> Result<Json<Page<RollbackPointView>>, Problem> {
    let (_, agent) = remembered(&state, &listed.place)?;
    let mut points = agent.points.iter().rev().peekable();
    if let Some(after) = &listed.after {
        while points.next_if(|point| point.id != *after).is_some() {}
        points.next();
    }
    Ok(Json(Page::of(points.map(RollbackPointView::from), listed.limit, |point| point.id.clone())))
}

fn find<'a>(place: &Place, key: &AgentKey, agent: &'a AgentState) -> Result<&'a Deployment, Problem> {
    let id = place.deployment.as_deref().unwrap_or_default();
    let found = agent.deployment.iter().chain(&agent.history).find(|deployment| deployment.id.as_str() == id);
    found.ok_or_else(|| Problem::unknown_deployment(key.agent.as_str(), id))
}
