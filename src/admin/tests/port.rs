//! An admin port on a real socket, and a client that hides nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::admin::auth::Auth;
use crate::admin::idempotency::Answers;
use crate::admin::{AdminState, DeploymentForm, Followers, router, serve};
use crate::config::{deployment_request, deployment_schema};
use crate::control::fixture::{a_spec, an_agent, an_agent_that_talks};
use crate::control::model::{AgentIntent, Intent};
use crate::control::service::Control;
use crate::ready::Readiness;
use crate::routing::ids::{AgentId, EnvironmentId};
use crate::routing::path::EncodedSlash;
use crate::routing::spec::RouteSpec;
use crate::routing::standing::Known;
use crate::telemetry::stats::StatsRegistry;
use crate::tls::reload::Cells;

/// A port with `support-bot` (deploying 1.5.0, with conversations) in production, and `twin` in production and staging.
pub struct Port {
    pub address: SocketAddr,
    pub state: AdminState,
    pub stop: watch::Sender<bool>,
    pub served: tokio::task::JoinHandle<()>,
}

pub struct Answer {
    pub status: StatusCode,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    /// The problem's code; also checks that it is a problem document about this status.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{} {}", self.head, self.body);
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        assert!(json["title"].is_string() && json["detail"].as_str().is_some_and(|d| !d.is_empty()), "{json}");
        let code = json["code"].as_str().expect("a code").to_owned();
        assert_eq!(json["type"], format!("urn:pointsman:problem:{code}"));
        code
    }
}

impl Port {
    /// On loopback, without a token.
    pub async fn local() -> Self {
        Self::open(Auth::default()).await
    }

    pub async fn open(auth: Auth) -> Self {
        let twin = |environment: &str| {
            let mut spec = an_agent();
            (spec.id, spec.environment) = (AgentId::new("twin"), EnvironmentId::new(environment));
            spec.routes = vec![RouteSpec { host: Some("twin.test".into()), ..Default::default() }];
            AgentIntent { spec: Arc::new(spec), health: [].into(), checks: [].into(), deployment: None }
        };
        let bot = AgentIntent {
            spec: Arc::new(an_agent_that_talks()),
            health: [].into(),
            checks: [].into(),
            deployment: Some(a_spec()),
        };
        let intent = Intent {
            config_hash: "cafe".into(),
            agents: vec![bot, twin("production"), twin("staging")],
            prometheus: None,
        };
        let (control, _) = Control::start(intent, Arc::new(StatsRegistry::new(1))).expect("a good intent");
        let pins = control.pins().clone();
        let known = Arc::new(move || Known { pins: pins.clone(), keys: Arc::default() });
        let state = AdminState {
            control,
            reloads: Arc::default(),
            ready: Readiness::default(),
            metrics: Arc::new(|| "# the metrics\n".to_owned()),
            auth,
            answers: Answers::default(),
            followers: Followers::default(),
            certificates: Cells::default(),
            form: DeploymentForm { read: deployment_request, schema: deployment_schema },
            known,
            slashes: Arc::new(EncodedSlash::default),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(listener, None, router(state.clone()), stopped));
        Self { address, state, stop, served }
    }

    pub async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// With these header lines, each ended, and this body.
    pub async fn send(&self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.ask(&format!(
            "{method} {target} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "host: 127.0.0.1:9901\r\n", "").await
    }

    pub async fn post(&self, target: &str, body: &str) -> Answer {
        self.send("POST", target, "host: localhost:9901\r\n", body).await
    }
}
