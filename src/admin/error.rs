//! What an operator is told when something is refused: a problem document (RFC 9457).
//!
//! `code` is stable and meant for programs, `detail` for people. Nothing in either comes from inside: what an
//! operator need not know is logged where it happens.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{BODY_LIMIT, REQUEST_TIMEOUT};
use crate::control::command::{CommandError, Refusal};

#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("urn:pointsman:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let mut response = (self.status, axum::Json(&document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pointsman\""));
        }
        response
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_path", "nothing is served at this path; the API is below /api/v1/")
    }

    pub fn method_not_allowed() -> Self {
        let detail = "this path does not take this method; the Allow header says which it does";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    pub fn too_slow() -> Self {
        let detail = format!("the request was not complete within {} s", REQUEST_TIMEOUT.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
    }

    pub fn body_too_large() -> Self {
        let detail = format!("a request body may have at most {BODY_LIMIT} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub fn token_wanted() -> Self {
        let detail = "send the admin token as `Authorization: Bearer <token>`";
        Self::new(StatusCode::UNAUTHORIZED, "token_wanted", detail)
    }

    pub fn wrong_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "wrong_token", "the bearer token is not the configured admin token")
    }

    pub fn foreign_host() -> Self {
        let detail = "without an admin token, this port answers only to an IP address or `localhost` as Host, \
                      so that no web page can reach it under a name of its own; set admin.token to use another name";
        Self::new(StatusCode::FORBIDDEN, "foreign_host", detail)
    }

    pub fn cross_site() -> Self {
        let detail = "without an admin token, requests that a web page of another origin makes are refused";
        Self::new(StatusCode::FORBIDDEN, "cross_site", detail)
    }

    pub fn unknown_agent(agent: &str, environment: Option<&str>, nearest: Option<&str>) -> Self {
        let place = environment.map(|e| format!(" in environment {e:?}")).unwrap_or_default();
        let hint = nearest.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
        Self::new(StatusCode::NOT_FOUND, "unknown_agent", format!("no agent {agent:?}{place}{hint}"))
    }

    pub fn which_environment(agent: &str, environments: &[&str]) -> Self {
        let detail = format!("agent {agent:?} is in several environments; add environment=, one of: {}", {
            environments.join(", ")
        });
        Self::new(StatusCode::BAD_REQUEST, "which_environment", detail)
    }

    pub fn no_deployment(agent: &str, environment: &str) -> Self {
        let detail = format!("agent {agent:?} has no deployment in environment {environment:?}");
        Self::new(StatusCode::NOT_FOUND, "no_deployment", detail)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let (status, code) = match &error {
            CommandError::UnknownAgent(_) => (StatusCode::NOT_FOUND, "unknown_agent"),
            CommandError::NoDeployment(_) => (StatusCode::CONFLICT, "no_deployment"),
            CommandError::IsStable(_) => (StatusCode::CONFLICT, "is_stable"),
            CommandError::UnknownEnvironment(_) => (StatusCode::NOT_FOUND, "unknown_environment"),
            CommandError::UnknownDeployment { .. } => (StatusCode::NOT_FOUND, "unknown_deployment"),
            CommandError::UnknownPoint { .. } => (StatusCode::NOT_FOUND, "unknown_rollback_point"),
            CommandError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            CommandError::Refused(Refusal::AlreadyRolledBack { .. }) => (StatusCode::CONFLICT, "already_rolled_back"),
            CommandError::Refused(_) => (StatusCode::CONFLICT, "refused"),
            CommandError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            CommandError::Unpublished(_) => (StatusCode::INTERNAL_SERVER_ERROR, "unpublished"),
        };
        Self::new(status, code, error.to_string())
    }
}
