//! The agents as they are live.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};

use super::place::Place;
use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::order::etag;
use crate::admin::page::{self, Page};
use crate::admin::query::Fields;
use crate::admin::wire::{AgentSummary, AgentView, DrainingView, RateLimitView, StandingCheck, TableAgent};
use crate::control::model::AgentKey;
use crate::routing::table::Agent;

/// Which agents to list.
pub struct Asked {
    environment: Option<String>,
    after: Option<(String, String)>,
    limit: usize,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let environment = fields.one("environment");
        let after = fields.one("after");
        let after = match after.as_ref().map(|after| after.split_once('/')) {
            Some(Some((environment, agent))) => Some((environment.to_owned(), agent.to_owned())),
            Some(None) => {
                fields.refuse("after", "expected `next` of the page before, such as production/support-bot");
                None
            }
            None => None,
        };
        let asked = Self { environment, after, limit: page::limit(&mut fields) };
        fields.end().map(|()| asked)
    }
}

impl Asked {
    fn wants(&self, agent: &Agent) -> bool {
        let here = (agent.environment().as_str(), agent.id().as_str());
        self.environment.as_ref().is_none_or(|environment| here.0 == environment)
            && self.after.as_ref().is_none_or(|(environment, agent)| here > (environment.as_str(), agent.as_str()))
    }
}

/// In the order of environment and agent.
pub async fn list(State(state): State<AdminState>, asked: Asked) -> Json<Page<AgentSummary>> {
    let table = state.control.table().load_full();
    let found = table.agents.iter().filter(|agent| asked.wants(agent)).map(|agent| {
        let key = AgentKey::of(&agent.spec);
        let deployment = state.control.deployment(&key);
        let revision = state.control.agent(&key).map_or(0, |known| known.revision);
        AgentSummary { agent: TableAgent::new(agent, deployment.as_ref()), revision }
    });
    let cursor = |summary: &AgentSummary| format!("{}/{}", summary.agent.environment, summary.agent.agent);
    Json(Page::of(found, asked.limit, cursor))
}

pub async fn show(
    State(state): State<AdminState>,
    place: Place,
) -> Result<([(HeaderName, HeaderValue); 1], Json<AgentView>), Problem> {
    let table = state.control.table().load_full();
    let agent = place.find(&table)?;
    let key = AgentKey::of(&agent.spec);
    let none = || Problem::unknown_agent(key.agent.as_str(), Some(key.environment.as_str()), None);
    let known = state.control.agent(&key).ok_or_else(none)?;
    let view = AgentView {
        epoch: table.epoch,
        config_hash: table.config_hash.to_string(),
        agent: TableAgent::new(agent, state.control.deployment(&key).as_ref()),
        draining: DrainingView::all(&state.control.draining(&key)),
        rate_limits: RateLimitView::all(&agent.spec),
        checks: state.control.standing(&key).into_iter().map(StandingCheck::from).collect(),
        stable_by: (&known.stable).into(),
        revision: known.revision,
    };
    Ok(([(header::ETAG, etag(known.revision))], Json(view)))
}
