//! The validated configuration: what the rest of the program may rely on without checking again.
//!
//! A file goes through four stages, each of which reports all that it finds: `node` and `marks` read YAML
//! into a tree with places, `expand` puts in the environment, `decode` makes it the shapes of `file`,
//! `check` makes those a [`Config`]. [`watch`] tells when there is a new text to read.
//! What is not here: what a change of the configuration does (that is `app` and `control`).

mod check;
mod decode;
mod errors;
mod expand;
mod file;
mod marks;
mod node;
mod request;
mod scalar;
mod schema;
mod source;
pub mod watch;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use errors::{ConfigError, ConfigErrors, MAX_ERRORS, Place};
pub use request::{deployment as deployment_request, deployment_schema};
pub use schema::schema;
pub use source::MAX_FILE_BYTES;

use crate::control::model::{AgentIntent, Intent};
use crate::control::prometheus::PrometheusServer;
use crate::routing::ids::EnvironmentId;
use crate::routing::overrides::Overrides;
use crate::routing::seal::KeyRing;
use crate::routing::spec::{EndpointAddress, EndpointTls};
use crate::routing::standing::Keys;
use crate::tls::server::ServerSpec;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// First 16 hex digits of the SHA-1 of the file's bytes.
    pub hash: Arc<str>,
    pub listeners: Vec<ListenerConfig>,
    pub admin: AdminConfig,
    /// `None`: state is in memory only.
    pub state_dir: Option<PathBuf>,
    /// 1..=256
    pub workers: usize,
    /// Responses carry `x-pointsman-version`.
    pub version_header: bool,
    pub limits: Limits,
    pub access_log: Option<AccessLogConfig>,
    /// Whom guards with a query ask.
    pub prometheus: Option<Arc<PrometheusServer>>,
    pub pins: PinsConfig,
    /// `None`: no request may ask for a version.
    pub overrides: Option<OverridesConfig>,
    pub agents: Vec<AgentIntent>,
}

impl Config {
    /// Reads `text`; `name` is what errors call the file, `env` looks up `${NAME}`.
    pub fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut report = errors::Report::new(name);
        let config = node::read(text, &mut report).and_then(|mut tree| {
            expand::expand(&mut tree, env, &mut report);
            check::config(tree, source::content_hash(text.as_bytes()), &mut report)
        });
        report.finish(config)
    }

    /// Reads the file at `path`, with the environment of this process.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = source::read(path)?;
        Self::parse(&path.display().to_string(), &text, &process_env)
    }

    /// What tokens and overrides are signed with.
    pub fn keys(&self) -> Keys {
        let ring = |keys: &[SigningKey]| KeyRing::new(keys.iter().map(|key| (key.id.as_str(), &*key.secret.0)));
        let overrides = self.overrides.as_ref();
        let overrides =
            overrides.and_then(|given| Some(Overrides { keys: ring(&given.keys)?, forward: given.forward }));
        Keys { tokens: ring(&self.pins.keys), overrides }
    }

    /// What TLS with `https` addresses takes, each with its place in the file.
    pub fn endpoint_tls(&self) -> impl Iterator<Item = (String, &Arc<EndpointTls>)> {
        let is_https = |address: &EndpointAddress| matches!(address, EndpointAddress::Https { .. });
        let specs = self.agents.iter().map(|agent| &agent.spec);
        let specs = specs.filter(move |spec| spec.versions.values().flat_map(|v| &v.endpoints).any(is_https));
        let servers = self.prometheus.iter().filter(move |server| is_https(&server.address));
        let servers = servers.map(|server| ("prometheus.tls".to_owned(), &server.tls));
        specs.map(|spec| (format!("agents.{}.tls", spec.id), &spec.exchange.tls)).chain(servers)
    }

    /// What the author of the file wants of all agents.
    pub fn intent(&self) -> Intent {
        Intent { config_hash: self.hash.clone(), agents: self.agents.clone(), prometheus: self.prometheus.clone() }
    }
}

/// The environment of this process, as `env` of [`Config::parse`]. A value that is not UTF-8 counts as not set.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    pub address: SocketAddr,
    pub environment: EnvironmentId,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub http2: bool,
    /// `None`: what is spoken is in clear.
    pub tls: Option<ServerSpec>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    pub address: SocketAddr,
    /// Wanted of every `/api` request when set; must be set where `address` is not loopback.
    pub token: Option<Secret>,
    /// `None`: what is spoken is in clear.
    pub tls: Option<ServerSpec>,
}

/// The table of conversations.
#[derive(Clone, Debug, PartialEq)]
pub struct PinsConfig {
    pub max: usize,
    /// The first signs, all verify; none: no tokens.
    pub keys: Vec<SigningKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OverridesConfig {
    /// The first signs, all verify; at least one.
    pub keys: Vec<SigningKey>,
    /// Whether the agent is told.
    pub forward: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    pub id: String,
    pub secret: Secret,
}

/// A secret that no log or error can print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What a client connection may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A larger request head gets 431.
    pub head_bytes: usize,
    /// More header fields get 431.
    pub head_fields: usize,
    /// From accept, or from the first byte on a kept-alive connection, to the whole head.
    pub head_timeout: Duration,
    /// From accept to the end of the TLS handshake, where there is one.
    pub handshake_timeout: Duration,
    /// How long a kept-alive connection may be idle.
    pub keep_alive_timeout: Duration,
    /// All client connections together; more wait in the kernel's accept queue.
    pub connections: usize,
    /// HTTP/2 requests at a time on one connection; more are refused.
    pub streams_per_connection: usize,
    /// How long a stop goes on accepting after readiness has failed.
    pub drain_delay: Duration,
    /// How long it then waits for exchanges in flight.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 << 10,
            head_fields: 100,
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            connections: 10_000,
            streams_per_connection: 128,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogConfig {
    /// `None`: standard output.
    pub path: Option<PathBuf>,
    /// 0..=1 of the requests, chosen at random; errors are always logged.
    pub sample: f64,
}
