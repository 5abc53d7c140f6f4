//! How a request names the agent that it means.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;

use crate::admin::error::Problem;
use crate::routing::table::{Agent, RoutingTable};

/// `{agent}` in the path, and `environment=` where several environments have an agent of that name.
pub struct Place {
    name: String,
    environment: Option<String>,
}

/// The query, field by field, for endpoints with parameters of their own.
pub struct Parameters(pub Vec<(String, String)>);

impl Place {
    /// Takes `environment` out of the parameters.
    pub fn new(name: String, parameters: &mut Parameters) -> Result<Self, Problem> {
        let mut environments = parameters.0.extract_if(.., |(name, _)| name == "environment").map(|(_, value)| value);
        let environment = environments.next();
        match environments.next() {
            None => Ok(Self { name, environment }),
            Some(_) => Err(Problem::bad_request("environment= is there twice")),
        }
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
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query.map(|Query(fields)| Self(fields)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// For endpoints that take no parameter but the environment: a misspelt one is refused, not passed over.
impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = agent_name(parts, state).await?;
        let mut parameters = Parameters::from_request_parts(parts, state).await?;
        let place = Self::new(name, &mut parameters)?;
        match parameters.0.first() {
            None => Ok(place),
            Some((other, _)) => Err(Problem::bad_request(format!("no parameter is named {other:?}, only environment"))),
        }
    }
}

pub async fn agent_name<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(name)| name).map_err(|error| Problem::bad_request(error.body_text()))
}

/// The name that the operator most likely meant: a third of its letters may be wrong.
fn nearest<'t>(table: &'t RoutingTable, name: &str) -> Option<&'t str> {
    let names = table.agents.iter().map(|agent| agent.id().as_str());
    let distances = names.map(|known| (strsim::damerau_levenshtein(known, name), known));
    let (distance, known) = distances.min()?;
    (distance <= (name.chars().count() / 3).max(1)).then_some(known)
}
