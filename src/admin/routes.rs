//! Every endpoint of the admin port: whom it is for, what it takes and gives. The OpenAPI document is made of it.

use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::AdminState;
use super::auth::Access::{self, Probe, Scrape};
use super::handlers::{
    agents, audit, commands, config, conversations, deployments, events, explain, migrations, probes, table, tokens,
};
use super::openapi;
use super::page::Page;
use super::parameters::*;
use super::tokens::Role::{self, Admin, Operator, Viewer};
use super::wire::*;
use crate::control::audit::Record;
use crate::routing::decide::Explanation;

#[rustfmt::skip]
pub fn endpoints() -> Vec<Endpoint> {
    let (agent, id) = ("/api/v1/agents/{agent}", "/api/v1/agents/{agent}/deployments/{id}");
    let migration = "/api/v1/agents/{agent}/migrations/{id}";
    let conversation = "/api/v1/agents/{agent}/conversations/{conversationId}";
    vec![
        get("isAlive", "/livez", Probe, probes::live).says("The process is alive"),
        get("isReady", "/readyz", Probe, probes::ready).says("Whether to send traffic; 503 while starting or stopping"),
        get("metrics", "/metrics", Scrape, probes::metrics).says("The Prometheus text format"),
        get("openapi", "/api/v1/openapi.json", Viewer, openapi::show).says("This document").gives::<Value>(),
        get("showConfig", "/api/v1/config", Viewer, config::show).says("How the last reload of the configuration went")
            .gives::<ConfigStatus>(),
        get("showTable", "/api/v1/table", Viewer, table::show).says("What is live, by agent").gives::<TableView>(),
        get("listTokens", "/api/v1/tokens", Admin, tokens::list).says("Who may do what").gives::<Vec<TokenView>>(),
        get("listAudit", "/api/v1/audit", Operator, audit::list).says("Who changed what")
            .takes([AGENT, OF_ENVIRONMENT, ORDER_OF_RECORDS, AFTER_RECORD, LIMIT]).gives::<Page<Record>>(),
        get("followEvents", "/api/v1/events", Viewer, events::follow).says("Every change of state, as it happens")
            .takes([LAST_EVENT_ID]).streams(),

        get("listAgents", "/api/v1/agents", Viewer, agents::list).says("The agents as they are live")
            .takes([ENVIRONMENT, AFTER, LIMIT]).gives::<Page<AgentSummary>>(),
        get("showAgent", agent, Viewer, agents::show).says("One agent as it is live")
            .takes([ENVIRONMENT]).tagged().gives::<AgentView>(),
        get("explain", below(agent, "/explain"), Viewer, explain::explain).says("Which version a request would get, and why")
            .takes([ENVIRONMENT, KEY, HEADER, HOST, PATH, METHOD, CLIENT]).gives::<Explanation>(),
        get("listRollbackPoints", below(agent, "/rollback-points"), Viewer, deployments::rollback_points)
            .says("Versions to return to, the newest first").takes([ENVIRONMENT, AFTER, LIMIT])
            .gives::<Page<RollbackPointView>>(),
        get("currentDeployment", below(agent, "/deployment"), Viewer, deployments::current)
            .says("The agent's current deployment").takes([ENVIRONMENT]).tagged().gives::<DeploymentStatus>(),
        get("listDeployments", below(agent, "/deployments"), Viewer, deployments::list)
            .says("The agent's deployments, the newest first").takes([ENVIRONMENT, AFTER, LIMIT])
            .gives::<Page<DeploymentStatus>>(),
        get("showDeployment", id, Viewer, deployments::show).says("One deployment")
            .takes([ENVIRONMENT]).tagged().gives::<DeploymentStatus>(),
        get("showVerdicts", below(id, "/verdicts"), Viewer, deployments::verdicts).says("What the guards say, and on what figures")
            .takes([ENVIRONMENT]).gives::<Verdicts>(),

        get("listConversations", below(agent, "/conversations"), Viewer, conversations::list)
            .says("How many conversations each version has, and which versions are draining").takes([ENVIRONMENT])
            .gives::<ConversationsView>(),
        get("showConversation", conversation, Viewer, conversations::show)
            .says("The version that a conversation is held to").takes([ENVIRONMENT]).gives::<ConversationView>(),
        Endpoint::new("unpinConversation", Method::DELETE, conversation.into(), Operator.into(), on(MethodFilter::DELETE, conversations::unpin))
            .says("Forget which version it is held to: its next turn is decided anew").takes([ENVIRONMENT, DRY_RUN])
            .gives::<ConversationView>(),
        get("listMigrations", below(agent, "/migrations"), Viewer, migrations::list)
            .says("Conversations on their way to another version, the newest first").takes([ENVIRONMENT, AFTER, LIMIT])
            .gives::<Page<MigrationView>>(),
        get("showMigration", migration, Viewer, migrations::show).says("One migration").takes([ENVIRONMENT])
            .gives::<MigrationView>(),
        post("createMigration", below(agent, "/migrations"), Operator, migrations::create)
            .says("Move conversations from one version to another").takes([ENVIRONMENT, DRY_RUN, IDEMPOTENCY_KEY])
            .needs(Takes::json::<MigrationBody>()).gives::<MigrationDone>().creates(),
        post("cancelMigration", below(migration, "/cancel"), Operator, migrations::cancel)
            .says("Move no more; those that have moved stay moved").takes([ENVIRONMENT, DRY_RUN, IDEMPOTENCY_KEY])
            .may(Takes::json::<ReasonRequest>()).gives::<MigrationDone>(),

        order(Method::POST, "createDeployment", below(agent, "/deployments"), commands::create)
            .says("Begin a deployment").needs(Takes::Deployment).creates(),
        order(Method::PATCH, "setWeight", id, commands::set_weight)
            .says("Set the version's share; the ramp goes on above it").needs(Takes::json::<WeightRequest>()),
        order(Method::POST, "rollBackDeployment", below(id, "/rollback"), commands::roll_back)
            .says("Take the version out at once and for good").may(Takes::json::<ReasonRequest>()),
        order(Method::POST, "pause", below(id, "/pause"), commands::pause)
            .says("Let the share stand still until it is resumed").may(Takes::json::<ReasonRequest>()),
        order(Method::POST, "resume", below(id, "/resume"), commands::resume)
            .says("Go on after a pause").may(Takes::json::<ReasonRequest>()),
        order(Method::POST, "advance", below(id, "/advance"), commands::advance)
            .says("To the next step, whatever the hold says").may(Takes::json::<ReasonRequest>()),
        order(Method::POST, "abort", below(id, "/abort"), commands::abort)
            .says("End it without blame: no cooldown").may(Takes::json::<ReasonRequest>()),
        order(Method::POST, "retry", below(id, "/retry"), commands::retry)
            .says("The same once more, as a new deployment").may(Takes::json::<ReasonRequest>()),
        order(Method::POST, "promote", below(id, "/promote"), commands::promote)
            .says("To the end at once").may(Takes::json::<ReasonRequest>()),
        order(Method::POST, "rollBackAgent", below(agent, "/rollback"), commands::roll_back_agent)
            .says("Return to where the current deployment came from, to a version, or to a rollback point")
            .may(Takes::json::<RollbackRequest>()),
        post("rollBackEnvironment", "/api/v1/rollback/emergency", Operator, commands::emergency)
            .says("Roll back every deployment of an environment that is under way, in one step; If-Match is ignored")
            .takes([DRY_RUN, IDEMPOTENCY_KEY]).needs(Takes::json::<EmergencyRequest>()).gives::<Vec<Done>>(),
    ]
}

/// One entry of the endpoint table.
pub struct Endpoint {
    /// The OpenAPI operation id.
    pub name: &'static str,
    pub method: Method,
    pub path: String,
    pub access: Access,
    pub serve: MethodRouter<AdminState>,
    pub summary: &'static str,
    pub parameters: Vec<Parameter>,
    pub body: Option<Takes>,
    pub needs_body: bool,
    /// Of good answers.
    pub statuses: &'static [StatusCode],
    /// Good answers have the agent's revision.
    pub has_etag: bool,
    pub answer: Answer,
}

pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What stands in a request's body.
pub enum Takes {
    Json(SchemaOf),
    /// As [`super::DeploymentForm`] has it.
    Deployment,
}

impl Takes {
    fn json<T: JsonSchema>() -> Self {
        Self::Json(SchemaGenerator::subschema_for::<T>)
    }
}

pub enum Answer {
    Text,
    /// Server-sent events.
    Events,
    Json(SchemaOf),
}

fn below(path: &str, rest: &str) -> String {
    format!("{path}{rest}")
}

fn get<H: Handler<T, AdminState>, T: 'static>(
    name: &'static str,
    path: impl Into<String>,
    access: impl Into<Access>,
    handler: H,
) -> Endpoint {
    Endpoint::new(name, Method::GET, path.into(), access.into(), on(MethodFilter::GET, handler))
}

fn post<H: Handler<T, AdminState>, T: 'static>(
    name: &'static str,
    path: impl Into<String>,
    access: impl Into<Access>,
    handler: H,
) -> Endpoint {
    Endpoint::new(name, Method::POST, path.into(), access.into(), on(MethodFilter::POST, handler))
}

/// A command on an agent or one of its deployments: they all take and give the same.
fn order<H: Handler<T, AdminState>, T: 'static>(
    method: Method,
    name: &'static str,
    path: impl Into<String>,
    handler: H,
) -> Endpoint {
    let (filter, mut parameters) = (MethodFilter::try_from(method.clone()), vec![ENVIRONMENT, DRY_RUN, IF_MATCH]);
    if method == Method::POST {
        parameters.push(IDEMPOTENCY_KEY);
    }
    let serve = on(filter.unwrap_or(MethodFilter::POST), handler);
    let endpoint = Endpoint::new(name, method, path.into(), Operator.into(), serve);
    Endpoint { parameters, has_etag: true, ..endpoint }.gives::<Done>()
}

impl Endpoint {
    fn new(name: &'static str, method: Method, path: String, access: Access, serve: MethodRouter<AdminState>) -> Self {
        Self {
            name,
            method,
            path,
            access,
            serve,
            summary: "",
            parameters: Vec::new(),
            body: None,
            needs_body: false,
            statuses: &[StatusCode::OK],
            has_etag: false,
            answer: Answer::Text,
        }
    }

    fn says(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    fn takes<const N: usize>(self, parameters: [Parameter; N]) -> Self {
        Self { parameters: parameters.into(), ..self }
    }

    pub fn takes_parameter(&self, parameter: &Parameter) -> bool {
        self.parameters.iter().any(|taken| taken.name == parameter.name)
    }

    fn needs(self, body: Takes) -> Self {
        Self { body: Some(body), needs_body: true, ..self }
    }

    fn may(self, body: Takes) -> Self {
        Self { body: Some(body), ..self }
    }

    fn gives<T: JsonSchema>(self) -> Self {
        Self { answer: Answer::Json(SchemaGenerator::subschema_for::<T>), ..self }
    }

    fn streams(self) -> Self {
        Self { answer: Answer::Events, ..self }
    }

    fn tagged(self) -> Self {
        Self { has_etag: true, ..self }
    }

    /// 201; with `dryRun` 200, for nothing is there then.
    fn creates(self) -> Self {
        Self { statuses: &[StatusCode::CREATED, StatusCode::OK], ..self }
    }
}

impl From<Role> for Access {
    fn from(role: Role) -> Self {
        Self::Api(role)
    }
}
