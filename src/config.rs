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
mod limits;
mod marks;
mod node;
mod request;
mod scalar;
mod schema;
mod secret;
mod source;
pub mod watch;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use errors::{ConfigError, ConfigErrors, MAX_ERRORS, Place};
pub use limits::Limits;
pub use request::{deployment as deployment_request, deployment_schema};
pub use schema::schema;
pub use secret::Secret;
pub use source::MAX_FILE_BYTES;

use crate::control::model::{AgentIntent, Intent};
use crate::control::prometheus::PrometheusServer;
use crate::routing::ids::EnvironmentId;
use crate::routing::networks::Networks;
use crate::routing::overrides::Overrides;
use crate::routing::path::PathPolicy;
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
    /// Who may say for whom a request is.
    pub trusted_proxies: Arc<Networks>,
    pub paths: PathPolicy,
    pub load_shedding: LoadShedding,
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
        let text = Zeroizing::new(source::read(path)?);
        Self::parse(&path.display().to_string(), &text, &process_env)
    }

    /// What tokens and overrides are signed with.
    pub fn keys(&self) -> Keys {
        let ring = |keys: &[SigningKey]| KeyRing::new(keys.iter().map(|key| (key.id.as_str(), key.secret.expose())));
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

/// When requests are refused because there is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadShedding {
    /// How late a worker may be; `None`: as late as it is.
    pub lateness: Option<Duration>,
    /// For how long it must be so.
    pub interval: Duration,
    /// Of all workers together.
    pub requests_in_flight: Option<usize>,
}

impl Default for LoadShedding {
    /// So late is only a worker that no client is served well by: what it refuses helps the others, and a busy worker
    /// that keeps up never comes near it.
    fn default() -> Self {
        let (lateness, interval) = (Some(Duration::from_millis(500)), Duration::from_secs(1));
        Self { lateness, interval, requests_in_flight: None }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogConfig {
    /// `None`: standard output.
    pub path: Option<PathBuf>,
    /// 0..=1 of the requests, chosen at random; errors are always logged.
    pub sample: f64,
}
