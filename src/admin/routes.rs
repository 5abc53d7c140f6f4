//! Every endpoint of the admin port: whom it is for, what it takes and gives. The OpenAPI document is made of it.

use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::AdminState;
use super::auth::Access::{self, Probe, Scrape};
use super::handlers::{agents, config, deployments, explain, probes, table};
use super::parameters::*;
use super::tokens::Role::{self, Operator, Viewer};
use super::wire::*;
use super::openapi;
use crate::routing::decide::Explanation;

#[rustfmt::skip]
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        get("isAlive", "/livez", Probe, probes::live).says("The process is alive"),
        get("isReady", "/readyz", Probe, probes::ready).says("Whether to send traffic; 503 while starting or stopping"),
        get("metrics", "/metrics", Scrape, probes::metrics).says("The Prometheus text format"),
        get("openapi", "/api/v1/openapi.json", Viewer, openapi::show).says("This document").gives::<serde_json::Value>(),
        get("showConfig", "/api/v1/config", Viewer, config::show).says("How the last reload of the configuration went")
            .gives::<ConfigStatus>(),
        get("showTable", "/api/v1/table", Viewer, table::show).says("What is live, by agent").gives::<TableView>(),
        get("showAgent", "/api/v1/agents/{agent}", Viewer, agents::show).says("One agent as it is live")
            .takes([ENVIRONMENT]).gives::<AgentView>(),
        get("explain", "/api/v1/agents/{agent}/explain", Viewer, explain::explain)
            .says("Which version a request would get, and why")
            .takes([ENVIRONMENT, KEY, HEADER, HOST, PATH, METHOD, CLIENT]).gives::<Explanation>(),
        get("currentDeployment", "/api/v1/agents/{agent}/deployment", Viewer, deployments::show)
            .says("The agent's current deployment").takes([ENVIRONMENT]).gives::<DeploymentStatus>(),
        post("rollBackAgent", "/api/v1/agents/{agent}/rollback", Operator, deployments::rollback)
            .says("Take the canary out at once and for good").takes([ENVIRONMENT, IDEMPOTENCY_KEY])
            .body::<RollbackRequest>().gives::<DeploymentStatus>(),
    ]
}

/// One entry of the endpoint table.
pub struct Endpoint {
    /// The OpenAPI operation id.
    pub name: &'static str,
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub serve: MethodRouter<AdminState>,
    pub summary: &'static str,
    pub parameters: Vec<Parameter>,
    pub body: Option<SchemaOf>,
    pub needs_body: bool,
    /// Of a good answer.
    pub status: StatusCode,
    pub answer: Answer,
}

pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

pub enum Answer {
    Text,
    /// Server-sent events.
    Events,
    Json(SchemaOf),
}

fn get<H: Handler<T, AdminState>, T: 'static>(
    name: &'static str,
    path: &'static str,
    access: impl Into<Access>,
    handler: H,
) -> Endpoint {
    Endpoint::new(name, Method::GET, path, access.into(), on(MethodFilter::GET, handler))
}

fn post<H: Handler<T, AdminState>, T: 'static>(
    name: &'static str,
    path: &'static str,
    access: impl Into<Access>,
    handler: H,
) -> Endpoint {
    Endpoint::new(name, Method::POST, path, access.into(), on(MethodFilter::POST, handler))
}

impl Endpoint {
    fn new(
        name: &'static str,
        method: Method,
        path: &'static str,
        access: Access,
        serve: MethodRouter<AdminState>,
    ) -> Self {
        let (summary, parameters, body, status, answer) = ("", Vec::new(), None, StatusCode::OK, Answer::Text);
        Self { name, method, path, access, serve, summary, parameters, body, needs_body: false, status, answer }
    }

    fn says(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    fn takes<const N: usize>(self, parameters: [Parameter; N]) -> Self {
        Self { parameters: parameters.into(), ..self }
    }

    fn body<T: JsonSchema>(self) -> Self {
        Self { body: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    pub fn takes_parameter(&self, parameter: &Parameter) -> bool {
        self.parameters.iter().any(|taken| taken.name == parameter.name)
    }

    fn gives<T: JsonSchema>(self) -> Self {
        Self { answer: Answer::Json(SchemaGenerator::subschema_for::<T>), ..self }
    }
}

impl From<Role> for Access {
    fn from(role: Role) -> Self {
        Self::Api(role)
    }
}
