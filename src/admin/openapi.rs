//! The OpenAPI 3.1 document, made of the endpoint table and the types: it cannot say what is not served.
//!
//! Which problems an endpoint can answer with follows from what it is: an API endpoint may refuse a token, one
//! that names an agent may not find it, one that takes a body may not understand it.

use axum::Json;
use axum::extract::State;
use axum::http::Method;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::auth::Access;
use super::body::REASON_LIMIT;
use super::error::{Document, Kind, Problem};
use super::parameters::{IDEMPOTENCY_KEY, Parameter};
use super::query::Fields;
use super::routes::{Answer, Endpoint, Takes, endpoints};
use super::{AdminState, DeploymentForm};

pub async fn show(State(state): State<AdminState>, fields: Fields) -> Result<Json<Value>, Problem> {
    fields.end()?;
    Ok(Json(document(&state.form)))
}

fn document(form: &DeploymentForm) -> Value {
    Writer::new(*form).document(endpoints())
}

/// What is taken and what is given differ in which fields must be there.
struct Writer {
    form: DeploymentForm,
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

impl Writer {
    fn new(form: DeploymentForm) -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            form,
            taken: settings().for_deserialize().into_generator(),
            given: settings().for_serialize().into_generator(),
        }
    }

    fn document(mut self, endpoints: Vec<Endpoint>) -> Value {
        let mut paths = Map::new();
        for endpoint in endpoints {
            let path = paths.entry(&*endpoint.path).or_insert_with(|| json!({}));
            path[endpoint.method.as_str().to_ascii_lowercase()] = self.operation(&endpoint);
        }
        // The problem document is named once, and every refusal points to it.
        self.given.subschema_for::<Document<'_>>();
        let mut schemas = self.taken.take_definitions(true);
        schemas.append(&mut self.given.take_definitions(true));
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Pointsman",
                "description": "The control plane of a traffic-routing sidecar proxy for AI agents. Errors are \
                                problem documents (RFC 9457) whose `type` and `code` are stable.",
                "version": env!("CARGO_PKG_VERSION"),
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/" }],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "admin.token of the configuration, or one of `pointsman token create`. \
                                        Where there is neither, the port is on loopback and asks for none.",
                    },
                },
            },
        })
    }

    fn operation(&mut self, endpoint: &Endpoint) -> Value {
        let mut operation = json!({
            "operationId": endpoint.name,
            "summary": endpoint.summary,
            "parameters": parameters(endpoint),
            "responses": self.responses(endpoint),
        });
        if let Access::Api(role) = endpoint.access {
            operation["description"] = format!("For the role {role} and above.").into();
            operation["security"] = json!([{ "token": [] }, {}]);
        }
        let body = match endpoint.body {
            Some(Takes::Json(body)) => body(&mut self.taken).to_value(),
            Some(Takes::Deployment) => {
                let mut schema = (self.form.schema)();
                schema["properties"]["reason"] = json!({
                    "type": ["string", "null"],
                    "maxLength": REASON_LIMIT,
                    "description": "For the audit trail.",
                });
                schema
            }
            None => return operation,
        };
        operation["requestBody"] = json!({
            "required": endpoint.needs_body,
            "content": { "application/json": { "schema": body } },
        });
        operation
    }

    fn responses(&mut self, endpoint: &Endpoint) -> Value {
        let (media, schema) = match endpoint.answer {
            Answer::Text => ("text/plain", json!({ "type": "string" })),
            // Each event's data is this, as JSON.
            Answer::Events => ("text/event-stream", json!({ "type": "string" })),
            Answer::Json(schema) => ("application/json", schema(&mut self.given).to_value()),
        };
        let mut good = json!({ "description": endpoint.summary, "content": { media: { "schema": schema } } });
        if endpoint.has_etag {
            good["headers"]["ETag"] = json!({
                "description": "The revision of the state, for If-Match.",
                "schema": { "type": "string" },
            });
        }
        let mut responses = Map::new();
        for status in endpoint.statuses {
            responses.insert(status.as_str().to_owned(), good.clone());
        }
        for kind in kinds(endpoint) {
            let response = responses.entry(kind.status().as_str()).or_insert_with(|| {
                let schema = json!({ "$ref": "#/components/schemas/Problem" });
                json!({ "description": "", "content": { "application/problem+json": { "schema": schema } } })
            });
            let known = response["description"].as_str().unwrap_or_default();
            let gap = if known.is_empty() { "" } else { "; " };
            response["description"] = format!("{known}{gap}{} (`{}`)", kind.title(), kind.code()).into();
        }
        responses.into()
    }
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = |name: &str| {
        let schema = json!({ "type": "string", "minLength": 1 });
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    };
    let shared = |Parameter { name, place, description, schema }: &Parameter| json!({ "name": name, "in": place, "description": description, "schema": schema() });
    path_parameters(&endpoint.path).map(in_path).chain(endpoint.parameters.iter().map(shared)).collect()
}

pub fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// In the order of their table, so that the document does not change by itself.
fn kinds(endpoint: &Endpoint) -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| may_answer(endpoint, *kind))
}

fn may_answer(endpoint: &Endpoint, kind: Kind) -> bool {
    let names = |name: &str| path_parameters(&endpoint.path).any(|parameter| parameter == name);
    let api = matches!(endpoint.access, Access::Api(_));
    let changes = endpoint.method != Method::GET;
    match kind {
        Kind::NoSuchPath | Kind::MethodNotAllowed => false,
        Kind::ForeignHost => endpoint.access != Access::Probe,
        Kind::BadRequest
        | Kind::TokenWanted
        | Kind::WrongToken
        | Kind::ExpiredToken
        | Kind::RoleTooLow
        | Kind::TokensUnreadable => api,
        Kind::UnknownAgent | Kind::WhichEnvironment => names("agent"),
        Kind::NoDeployment => endpoint.name == "currentDeployment",
        Kind::UnknownDeployment => names("id") && !endpoint.path.contains("/migrations/"),
        Kind::UnknownMigration => names("id") && endpoint.path.contains("/migrations/"),
        Kind::UnknownConversation => names("conversationId"),
        Kind::MigrationRunning => endpoint.name == "createMigration",
        Kind::UnknownEnvironment => endpoint.name == "rollBackEnvironment",
        Kind::UnknownRollbackPoint => endpoint.name == "rollBackAgent",
        Kind::TooManyFollowers => matches!(endpoint.answer, Answer::Events),
        Kind::CrossSite | Kind::RequestTimeout | Kind::BodyTooLarge | Kind::InvalidFields => changes,
        Kind::StoreUnavailable => changes || endpoint.name == "listAudit",
        Kind::Conflict
        | Kind::InEffectNotStored
        | Kind::Refused
        | Kind::NothingDeployed
        | Kind::IsStable
        | Kind::AlreadyRolledBack
        | Kind::Unpublished => changes,
        Kind::IdempotencyKeyInUse | Kind::IdempotencyKeyReused => endpoint.takes_parameter(&IDEMPOTENCY_KEY),
    }
}
