//! A mock agent runtime: a real HTTP server that behaves as badly as it is told to.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /v1/chat/completions` | a completion as OpenAI's API has it, JSON or (`"stream": true`) server-sent events |
//! | `POST /v1/messages` | the same as Anthropic's has it |
//! | `GET` or `POST /sse` | server-sent events of no vendor, which end with the body |
//! | `GET` or `POST /ndjson` | lines of JSON |
//! | `GET /` | which version this is, and how many requests it has had |
//! | `GET /healthz` | 200 while it runs |
//! | `GET /behaviour` | how it behaves just now |
//! | `PUT /behaviour` | sets the behaviour; what the body leaves out takes its default |
//! | `PATCH /behaviour` | changes only what the body names |
//!
//! The first four are completions, and slow or failing as the behaviour says; a query changes it for one
//! request: `?tokens=3&token_interval=1s&fault=cut`. The rest always answers at once, so that the agent
//! can be looked at and steered while it is "broken". A stream's head has its digest (see `script`).
//!
//! Invariants: no answer depends on the clock or on a random source of the machine: the n-th request
//! of a seed always gets the same delay and the same fate. A request body is read to 1 MiB at most;
//! an answer has at most [`behaviour::MAX_TOKENS`] tokens and no wait is longer than
//! [`behaviour::MAX_WAIT`]. Connections are bounded by the file descriptors of the process only.
//!
//! Left out: models, tools, TLS. It stands alone on purpose: nothing here knows the proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use http_body::Body;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[path = "mock_agent/anthropic.rs"]
mod anthropic;
#[path = "mock_agent/behaviour.rs"]
pub mod behaviour;
#[path = "mock_agent/completion.rs"]
mod completion;
#[path = "mock_agent/openai.rs"]
mod openai;
#[path = "mock_agent/plain.rs"]
mod plain;
#[path = "mock_agent/script.rs"]
mod script;
#[path = "mock_agent/units.rs"]
pub mod units;

pub use behaviour::Behaviour;
use completion::{Asked, Completion};

/// A larger request body gets 413.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// A running mock agent. Dropping it stops it: idle connections close, answers under way are finished.
pub struct MockAgent {
    /// With the real port.
    pub address: SocketAddr,
    /// May be swapped at any time; the next request behaves accordingly.
    pub behaviour: Arc<ArcSwap<Behaviour>>,
    pub counts: Arc<Counts>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// What the agent was asked, and what came of it. Only ever grow.
#[derive(Default)]
pub struct Counts {
    completions: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// Completions asked for, whatever became of them.
    pub fn completions(&self) -> u64 {
        self.completions.load(Ordering::Relaxed)
    }
    /// How many of them were answered with the 500 that the error rate asks for.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl MockAgent {
    /// Binds `address` and serves on the current runtime. `name` is the version that every answer names.
    pub async fn start(address: SocketAddr, name: &str, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        // Without it, tokens of a stream would wait for the acknowledgement of the one before.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });

        let behaviour = Arc::new(ArcSwap::from_pointee(behaviour));
        let counts = Arc::<Counts>::default();
        let agent = Agent { name: name.into(), behaviour: behaviour.clone(), counts: counts.clone() };

        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router(agent)).with_graceful_shutdown(async {
            // A dropped handle stops the agent as well as an explicit stop.
            let _ = stopped.await;
        });
        let server = tokio::spawn(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the mock agent stopped serving");
            }
        });
        Ok(Self { address, behaviour, counts, stop, server })
    }

    /// Stops, and returns when the port is free and the last answer under way is out; a long stream
    /// takes its time, so one who cannot wait drops the agent instead.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Agent {
    name: Arc<str>,
    behaviour: Arc<ArcSwap<Behaviour>>,
    counts: Arc<Counts>,
}

fn router(agent: Agent) -> Router {
    Router::new()
        .route("/", get(about))
        .route("/healthz", get(async || "ok\n"))
        .route("/behaviour", get(show_behaviour).put(set_behaviour).patch(change_behaviour))
        .route("/v1/chat/completions", post(complete).with_state((agent.clone(), Dialect::OpenAi)))
        .route("/v1/messages", post(complete).with_state((agent.clone(), Dialect::Anthropic)))
        .route("/sse", get(complete).post(complete).with_state((agent.clone(), Dialect::Events)))
        .route("/ndjson", get(complete).post(complete).with_state((agent.clone(), Dialect::Lines)))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "not_found", "the mock agent has no such path"))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(refuse_long_bodies))
        .with_state(agent)
}

/// A body that says it is too long is refused unread; one of unknown length is cut off by the body limit.
async fn refuse_long_bodies(request: Request, next: Next) -> Response {
    if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", "the mock agent reads 1 MiB at most");
    }
    next.run(request).await
}

async fn about(State(agent): State<Agent>) -> Json<Value> {
    let (completions, failed) = (agent.counts.completions(), agent.counts.failed());
    Json(json!({ "version": &*agent.name, "completions": completions, "failed": failed }))
}

async fn show_behaviour(State(agent): State<Agent>) -> Json<Behaviour> {
    Json(Behaviour::clone(&agent.behaviour.load()))
}

async fn set_behaviour(State(agent): State<Agent>, body: Result<Bytes, BytesRejection>) -> Response {
    behave(&agent, &Behaviour::default(), body)
}

async fn change_behaviour(State(agent): State<Agent>, body: Result<Bytes, BytesRejection>) -> Response {
    // Two changes at once: the later one wins whole, as two PUTs would.
    let now = agent.behaviour.load_full();
    behave(&agent, &now, body)
}

fn behave(agent: &Agent, base: &Behaviour, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse(rejection.status(), "unreadable_body", &rejection.body_text()),
    };
    match base.with_changes(&body) {
        Ok(behaviour) => {
            agent.behaviour.store(Arc::new(behaviour.clone()));
            Json(behaviour).into_response()
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, "bad_behaviour", &error.to_string()),
    }
}

/// The shape of an answer.
#[derive(Clone, Copy)]
enum Dialect {
    OpenAi,
    Anthropic,
    Events,
    Lines,
}

async fn complete(
    State((agent, dialect)): State<(Agent, Dialect)>,
    RawQuery(query): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let number = agent.counts.completions.fetch_add(1, Ordering::Relaxed);
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse(rejection.status(), "unreadable_body", &rejection.body_text()),
    };
    let asked = if body.is_empty() { Ok(Asked::default()) } else { serde_json::from_slice(&body) };
    let behaviour = agent.behaviour.load().with_query(&query.unwrap_or_default());
    let (asked, behaviour) = match (asked, behaviour) {
        (Ok(asked), Ok(behaviour)) => (asked, behaviour),
        (Err(error), _) | (_, Err(error)) => return refuse(StatusCode::BAD_REQUEST, "bad_request", &error.to_string()),
    };

    let fate = behaviour.fate(number);
    // No wait at all is shorter than a timer's.
    if !fate.latency.is_zero() {
        tokio::time::sleep(fate.latency).await;
    }
    if fate.fails {
        agent.counts.failed.fetch_add(1, Ordering::Relaxed);
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "mock_failure", "the mock agent was told to fail");
    }
    let completion = Completion::new(&asked, &agent.name, number, &behaviour);
    let script = match dialect {
        Dialect::OpenAi if !asked.stream => return Json(openai::whole(&completion)).into_response(),
        Dialect::Anthropic if !asked.stream => return Json(anthropic::whole(&completion)).into_response(),
        Dialect::OpenAi => openai::script(&completion, asked.stream_options.include_usage),
        Dialect::Anthropic => anthropic::script(&completion),
        Dialect::Events => plain::server_sent_events(&completion),
        Dialect::Lines => plain::lines(&completion),
    };
    script.play(&behaviour, fate.fault)
}

/// An error as OpenAI's API words it.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
    let error = json!({ "error": { "message": message, "type": kind, "code": code } });
    (status, Json(error)).into_response()
}

#[cfg(test)]
#[path = "mock_agent/tests.rs"]
mod tests;
