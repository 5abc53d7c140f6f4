//! What an operator is told when something is refused: a problem document (RFC 9457).
//!
//! `type` and `code` are stable and meant for programs, `detail` for people: what is wrong, and what to do.
//! `errors` has every field that is wrong, not the first. Nothing in any comes from inside: what an operator
//! need not know is logged where it happens.

mod kind;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::tokens::{Role, Token};
use super::wire::{self, ActorView};
use super::{BODY_LIMIT, REQUEST_TIMEOUT};
use crate::control::command::{CommandError, Conflict, Refusal};
use crate::control::request;
pub use kind::Kind;

#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    conflict: Option<ConflictView>,
}

/// A problem document (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct Document<'a> {
    /// Stable: `urn:pointsman:problem:` and the code.
    r#type: String,
    title: &'a str,
    status: u16,
    /// For people: what is wrong, and what to do.
    detail: &'a str,
    /// For programs: stable.
    code: &'a str,
    /// Every field that is wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(default)]
    errors: &'a [FieldError],
    #[serde(flatten)]
    conflict: Option<&'a ConflictView>,
}

/// Of a conflict: how things are now, and who made them so.
#[derive(Debug, Serialize, JsonSchema)]
struct ConflictView {
    /// Of the agent's state now.
    revision: u64,
    /// Since the expected revision, oldest first.
    changed: Vec<ChangedView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ChangedView {
    revision: u64,
    at: String,
    by: ActorView,
    what: String,
}

impl From<&Conflict> for ConflictView {
    fn from(conflict: &Conflict) -> Self {
        let changed = conflict.changed.iter().map(|changed| ChangedView {
            revision: changed.revision,
            at: wire::time(&changed.at),
            by: (&changed.by).into(),
            what: changed.what.clone(),
        });
        Self { revision: conflict.current, changed: changed.collect() }
    }
}

/// What is wrong with one part of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    #[serde(flatten)]
    pub place: FieldPlace,
    pub message: String,
}

/// Which part of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FieldPlace {
    /// In the body, as a JSON Pointer (RFC 6901); empty for the body itself.
    Pointer(String),
    /// In the query.
    Parameter(String),
    /// In the head.
    Header(&'static str),
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let document = Document {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.kind.code(),
            errors: &self.errors,
            conflict: self.conflict.as_ref(),
        };
        let mut response = (status, axum::Json(&document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.kind.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), conflict: None }
    }

    /// Never without an error.
    pub fn fields(kind: Kind, errors: Vec<FieldError>) -> Self {
        let texts: Vec<_> = errors.iter().map(FieldError::to_string).collect();
        Self { kind, detail: texts.join("; "), errors, conflict: None }
    }

    pub fn no_such_path() -> Self {
        Self::new(Kind::NoSuchPath, "nothing is served at this path; /api/v1/openapi.json lists what is")
    }

    pub fn method_not_allowed() -> Self {
        let detail = "this path does not take this method; the Allow header says which it does";
        Self::new(Kind::MethodNotAllowed, detail)
    }

    pub fn too_slow() -> Self {
        let detail = format!("the request was not complete within {} s", REQUEST_TIMEOUT.as_secs());
        Self::new(Kind::RequestTimeout, detail)
    }

    pub fn body_too_large() -> Self {
        Self::new(Kind::BodyTooLarge, format!("a request body may have at most {BODY_LIMIT} bytes"))
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, detail)
    }

    pub fn token_wanted() -> Self {
        let detail = "send a token as `Authorization: Bearer <token>`: admin.token of the configuration, or one \
                      that `pointsman token create` has made";
        Self::new(Kind::TokenWanted, detail)
    }

    pub fn wrong_token() -> Self {
        let detail = "the bearer token is neither admin.token of the configuration nor in `pointsman token list`; \
                      it may have been revoked";
        Self::new(Kind::WrongToken, detail)
    }

    pub fn expired_token(token: &Token) -> Self {
        let name = token.name.as_str();
        let detail =
            format!("the token {name:?} has expired; make another with `pointsman token create --name {name}`");
        Self::new(Kind::ExpiredToken, detail)
    }

    pub fn role_too_low(token: &Token, wanted: Role) -> Self {
        let detail = format!(
            "the token {:?} has the role {}, and this needs {wanted}; use another token, or make one with \
             `pointsman token create --role {wanted}`",
            token.name.as_str(),
            token.role
        );
        Self::new(Kind::RoleTooLow, detail)
    }

    pub fn tokens_unreadable() -> Self {
        let detail = "the token file cannot be read, so no token can be checked; the log says why. admin.token of \
                      the configuration is taken still";
        Self::new(Kind::TokensUnreadable, detail)
    }

    pub fn foreign_host() -> Self {
        let detail = "without a token, this port answers only to an IP address or `localhost` as Host, \
                      so that no web page can reach it under a name of its own; set admin.token to use another name";
        Self::new(Kind::ForeignHost, detail)
    }

    pub fn cross_site() -> Self {
        Self::new(Kind::CrossSite, "without a token, requests that a web page of another origin makes are refused")
    }

    pub fn unknown_agent(agent: &str, environment: Option<&str>, nearest: Option<&str>) -> Self {
        let place = environment.map(|e| format!(" in environment {e:?}")).unwrap_or_default();
        let hint = nearest.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
        Self::new(Kind::UnknownAgent, format!("no agent {agent:?}{place}{hint}"))
    }

    pub fn which_environment(agent: &str, environments: &[&str]) -> Self {
        let environments = environments.join(", ");
        let detail = format!("agent {agent:?} is in several environments; add environment=, one of: {environments}");
        Self::new(Kind::WhichEnvironment, detail)
    }

    pub fn unknown_deployment(agent: &str, id: &str) -> Self {
        let detail =
            format!("agent {agent:?} remembers no deployment {id:?}; GET its /deployments for those there are");
        Self::new(Kind::UnknownDeployment, detail)
    }

    pub fn no_deployment(agent: &str, environment: &str) -> Self {
        let detail = format!("agent {agent:?} has no deployment in environment {environment:?}");
        Self::new(Kind::NoDeployment, detail)
    }
}

impl FieldError {
    pub fn body(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: FieldPlace::Pointer(pointer.into()), message: message.into() }
    }

    pub fn parameter(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: FieldPlace::Parameter(name.into()), message: message.into() }
    }

    pub fn header(name: &'static str, message: impl Into<String>) -> Self {
        Self { place: FieldPlace::Header(name), message: message.into() }
    }
}

impl From<request::FieldError> for FieldError {
    fn from(error: request::FieldError) -> Self {
        let mut pointer = String::new();
        for part in error.field.split(['.', '[']).filter(|part| !part.is_empty()) {
            pointer.push('/');
            pointer.push_str(part.trim_end_matches(']'));
        }
        Self::body(pointer, error.message)
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            FieldPlace::Pointer(pointer) if pointer.is_empty() => write!(f, "the body: {}", self.message),
            FieldPlace::Pointer(pointer) => write!(f, "{pointer}: {}", self.message),
            FieldPlace::Parameter(name) => write!(f, "{name}=: {}", self.message),
            FieldPlace::Header(name) => write!(f, "{name}: {}", self.message),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        let kind = match error {
            CommandError::Invalid(errors) => {
                return Self::fields(Kind::InvalidFields, errors.into_iter().map(FieldError::from).collect());
            }
            CommandError::UnknownAgent(_) => Kind::UnknownAgent,
            CommandError::UnknownEnvironment(_) => Kind::UnknownEnvironment,
            CommandError::NoDeployment(_) => Kind::NothingDeployed,
            CommandError::UnknownDeployment { .. } => Kind::UnknownDeployment,
            CommandError::UnknownPoint { .. } => Kind::UnknownRollbackPoint,
            CommandError::UnknownMigration { .. } => Kind::UnknownMigration,
            CommandError::UnknownConversation(_) => Kind::UnknownConversation,
            CommandError::IsStable(_) => Kind::IsStable,
            CommandError::Conflict(conflict) => {
                return Self { conflict: Some((&conflict).into()), ..Self::new(Kind::Conflict, detail) };
            }
            CommandError::Refused(Refusal::AlreadyRolledBack { .. }) => Kind::AlreadyRolledBack,
            CommandError::Refused(Refusal::Migrating { .. }) => Kind::MigrationRunning,
            CommandError::Refused(_) => Kind::Refused,
            CommandError::Unpublished(_) => Kind::Unpublished,
            CommandError::Unwritten(_) => Kind::StoreUnavailable,
            CommandError::InEffect(_) => Kind::InEffectNotStored,
        };
        Self::new(kind, detail)
    }
}
