//! Operator HTTP: probes, metrics, and the API over `control`.
//!
//! Served on its own port by the control thread, so that a busy data plane does not slow an operator, nor an
//! operator the data plane. Handlers are thin: wire → command → wire; none waits for anything but its own
//! request's body. Every error is a problem document (RFC 9457) with a stable `code`.
//!
//! Bounds: [`serve::CONNECTIONS`] at once, [`BODY_LIMIT`] per request body, [`REQUEST_TIMEOUT`] per request.

pub mod auth;
mod body;
mod error;
mod handlers;
mod idempotency;
mod openapi;
mod order;
mod page;
mod parameters;
mod query;
pub mod routes;
pub mod serve;
pub mod tokens;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::control::request::{self, DeploymentRequest};
use crate::control::service::Control;
use crate::ready::Readiness;
use crate::routing::path::EncodedSlash;
use crate::routing::spec::AgentSpec;
use crate::routing::standing::Known;
use crate::telemetry::reload::ReloadStatus;
use crate::tls::reload::Cells;
use auth::{Access, Auth};
use error::Problem;
pub use handlers::events::Followers;
pub use idempotency::Answers;
pub use serve::serve;

/// The largest request body that is read.
pub const BODY_LIMIT: usize = 64 << 10;

/// From the request's head to the answer's; only a client that is slow to send its body comes near it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// All that the handlers may use.
#[derive(Clone)]
pub struct AdminState {
    pub control: Control,
    pub reloads: Arc<ReloadStatus>,
    pub ready: Readiness,
    /// Renders the Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub auth: Auth,
    pub answers: Answers,
    pub followers: Followers,
    pub form: DeploymentForm,
    /// What is made of certificate files.
    pub certificates: Cells,
    /// What the proxy knows of conversations, for explanations.
    pub known: Arc<dyn Fn() -> Known + Send + Sync>,
    /// How the proxy reads escaped slashes in paths, likewise.
    pub slashes: Arc<dyn Fn() -> EncodedSlash + Send + Sync>,
}

/// How a deployment is asked for: as in the file, which is the configuration's to know. `app` brings the two
/// together, so that this room need not know that one.
#[derive(Clone, Copy)]
pub struct DeploymentForm {
    pub read: fn(Value, &AgentSpec) -> Result<DeploymentRequest, Vec<request::FieldError>>,
    /// The JSON Schema of what is read.
    pub schema: fn() -> Value,
}

pub fn router(state: AdminState) -> Router {
    let mut router = Router::new();
    for endpoint in routes::endpoints() {
        let gate = Gate { auth: state.auth.clone(), access: endpoint.access };
        let mut serve = endpoint.serve;
        if endpoint.method == Method::POST {
            serve = serve.layer(from_fn_with_state(state.answers.clone(), once));
        }
        router = router.route(&endpoint.path, serve.layer(from_fn_with_state(gate, admit)));
    }
    router
        .fallback(|| async { Problem::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(in_time))
        .with_state(state)
}

#[derive(Clone)]
struct Gate {
    auth: Auth,
    access: Access,
}

async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    match gate.auth.check(gate.access, &head).await {
        Ok(caller) => {
            head.extensions.insert(caller);
            next.run(Request::from_parts(head, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn once(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    answers.handle(request, next).await
}

async fn in_time(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_| Problem::too_slow().into_response())
}

#[cfg(test)]
mod tests;
