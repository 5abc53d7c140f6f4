//! Deployments as their author wrote them, and as they are.
//!
//! A deployment has an opaque id; its block's content is its fingerprint, by which a file that says the same
//! again is known to want nothing new. Its state is one enum, so that a paused deployment always says what
//! paused it and a rolled back one always says why and when.
//!
//! All that is remembered can be written down (serde): times as wall time, see [`Moment`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::health::HealthCheck;
use super::prometheus::{PrometheusServer, QueryGuard};
use crate::judge::GuardSpec;
use crate::routing::ids::{AgentId, EnvironmentId, VersionId, Weight};
use crate::routing::spec::{AgentSpec, Audience};

mod moment;
mod shared;
mod state;

pub use moment::Moment;
pub use state::{Breach, Cost, DeploymentState, PauseCause, Rollback, RollbackCause, Stage};

/// An intent to bring a version to an environment by a strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// Of the file: SHA-1 of the block with agent and environment. Of any other author: what no block can have.
    pub fingerprint: String,
    pub version: VersionId,
    pub strategy: Strategy,
    /// Never empty; the last weight is 100 %.
    pub steps: Vec<Step>,
    /// After the last step, guards must hold this long before the deployment is complete.
    pub bake: Duration,
    pub guards: Vec<GuardSpec>,
    /// Guards that ask Prometheus.
    pub queries: Vec<QueryGuard>,
    /// What the version's endpoints are asked, before the first request and during the ramp.
    pub health: Vec<HealthCheck>,
    pub on_breach: OnBreach,
    pub cooldown: Duration,
    /// How long the version that it replaced keeps its conversations; `None`: until they end.
    #[serde(default)]
    pub drain_timeout: Option<Duration>,
    pub audience: Audience,
}

impl DeploymentSpec {
    /// Whether there is anything that may say no, or must say yes.
    pub fn is_guarded(&self) -> bool {
        !self.guards.is_empty() || !self.queries.is_empty()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    Immediate,
    #[default]
    Canary,
    BlueGreen,
    Rolling,
}

impl Strategy {
    /// As the YAML file names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Canary => "canary",
            Self::BlueGreen => "blue-green",
            Self::Rolling => "rolling",
        }
    }

    /// Whether it knows no share but none and all.
    pub fn moves_all_at_once(self) -> bool {
        matches!(self, Self::Immediate | Self::BlueGreen)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub weight: Weight,
    /// `None`: stay.
    pub hold: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnBreach {
    #[default]
    Rollback,
    Pause,
}

/// What an author wants of one agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentIntent {
    pub spec: Arc<AgentSpec>,
    pub deployment: Option<DeploymentSpec>,
    /// The checks of deployments that name none.
    pub health: Arc<[HealthCheck]>,
    /// The checks of every endpoint that serves, for as long as it does.
    pub checks: Arc<[HealthCheck]>,
}

/// What an author wants of all agents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    pub config_hash: Arc<str>,
    pub agents: Vec<AgentIntent>,
    /// Whom guards with a query ask.
    pub prometheus: Option<Arc<PrometheusServer>>,
}

/// Which agent: every state of a rollout belongs to one of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentKey {
    pub environment: EnvironmentId,
    pub agent: AgentId,
}

impl AgentKey {
    pub fn of(spec: &AgentSpec) -> Self {
        Self { environment: spec.environment.clone(), agent: spec.id.clone() }
    }
}

impl fmt::Display for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.agent, self.environment)
    }
}

/// Who acts, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Actor {
    /// The holder of a token, the content hash of a file.
    pub name: String,
    /// `file`, `pointsman`, or how an operator came in, such as `api 10.0.0.7`.
    pub source: String,
}

impl Actor {
    pub fn new(name: impl Into<String>, source: impl Into<String>) -> Self {
        Self { name: name.into(), source: source.into() }
    }

    /// The author of the configuration file with this content.
    pub fn file(config_hash: &str) -> Self {
        Self::new(config_hash, "file")
    }

    /// What time and guards do by themselves.
    pub fn pointsman() -> Self {
        Self::new("pointsman", "pointsman")
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.as_str() {
            "pointsman" => f.write_str("pointsman"),
            "file" => write!(f, "the file {}", self.name),
            source => write!(f, "{} ({source})", self.name),
        }
    }
}

/// Names one deployment. Opaque: the same block gets another one when it is tried again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(Arc<str>);

impl DeploymentId {
    /// As somebody outside wrote it.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// That of an agent's `number`th deployment. The time tells apart the deployments of an agent that was
    /// removed and came back.
    pub fn make(key: &AgentKey, fingerprint: &str, number: u64, at: Moment) -> Self {
        let named = serde_json::json!([key, fingerprint, number, at]);
        let digest = Sha1::digest(named.to_string());
        Self(digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for DeploymentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeploymentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A deployment and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    #[serde(with = "shared")]
    pub spec: Arc<DeploymentSpec>,
    /// Who began it.
    pub by: Actor,
    pub started: Moment,
    pub state: DeploymentState,
}

impl Deployment {
    pub fn id(&self) -> DeploymentId {
        self.id.clone()
    }

    pub fn weight(&self) -> Weight {
        self.state.weight(&self.spec)
    }

    /// Whether its version may be stable in the end: one that is for some segments only stays theirs.
    pub fn is_for_all(&self) -> bool {
        self.spec.audience == Audience::default()
    }
}
