//! How a request names the agent, and the deployment, that it means.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::admin::error::Problem;
use crate::admin::query::Fields;
use crate::control::model::AgentKey;
use crate::routing::table::{Agent, RoutingTable};

/// `{agent}` in the path, and `environment=` where several environments have an agent of that name.
pub struct Place {
    name: String,
    environment: Option<String>,
    /// `{id}` in the path: of a deployment, or of a migration.
    pub deployment: Option<String>,
    /// `{conversationId}` in the path.
    pub conversation: String,
}

impl Place {
    pub async fn read<S: Send + Sync>(parts: &mut Parts, state: &S, fields: &mut Fields) -> Result<Self, Problem> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut path) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
        Ok(Self {
            name: path.remove("agent").unwrap_or_default(),
            environment: fields.one("environment"),
            deployment: path.remove("id"),
            conversation: path.remove("conversationId").unwrap_or_default(),
        })
    }

    /// The agent of that name, where exactly one is meant.
    pub fn find<'t>(&self, table: &'t RoutingTable) -> Result<&'t Arc<Agent>, Problem> {
        let here = |agent: &&Arc<Agent>| self.environment.as_ref().is_none_or(|e| agent.environment().as_str() == e);
        let named = |agent: &&Arc<Agent>| agent.id().as_str() == self.name;
        let found: Vec<_> = table.agents.iter().filter(here).filter(named).collect();
        match *found {
            [agent] => Ok(agent),
            [] => Err(Problem::unknown_agent(&self.name, self.environment.as_deref(), nearest(table, &self.name))),
            _ => {
                let environments: Vec<_> = found.iter().map(|agent| agent.environment().as_str()).collect();
                Err(Problem::which_environment(&self.name, &environments))
            }
        }
    }

    pub fn key(&self, table: &RoutingTable) -> Result<AgentKey, Problem> {
        self.find(table).map(|agent| AgentKey::of(&agent.spec))
    }
}

/// For endpoints that take no parameter but the environment.
impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let place = Self::read(parts, state, &mut fields).await?;
        fields.end().map(|()| place)
    }
}

/// The name that the operator most likely meant: a third of its letters may be wrong.
fn nearest<'t>(table: &'t RoutingTable, name: &str) -> Option<&'t str> {
    let names = table.agents.iter().map(|agent| agent.id().as_str());
    let distances = names.map(|known| (strsim::damerau_levenshtein(known, name), known));
    let (distance, known) = distances.min()?;
    (distance <= (name.chars().count() / 3).max(1)).then_some(known)
}
