//! File shapes → [`Config`]: defaults, limits, and what must agree with what.
//!
//! Every check reports and goes on, so that one reading finds all there is. What was already found
//! wrong with the shape of a part is not held against what depends on it.

mod agent;
mod conversations;
mod deployment;
mod ejection;
mod endpoint_tls;
mod guard;
mod health;
mod limits;
mod query;
mod rates;
mod resilience;
mod scope;
mod streams;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::decode::decode;
use super::errors::{Place, Report};
use super::file::{self, File};
use super::node::{Kind, Node};
use super::scalar::{FromText, Text};
use super::{AccessLogConfig, AdminConfig, Config, ListenerConfig, Secret};
use crate::control::model::DeploymentSpec;
use crate::routing::compile::{Rejection, compile};
use crate::routing::ids::{AgentId, EnvironmentId};
use crate::routing::spec::{AgentSpec, Desired, DesiredAgent, Notes, Prices};
use crate::telemetry::stats::StatsRegistry;
use agent::Checked;
use scope::Scope;

const MAX_AGENTS: usize = 100_000;
const MAX_LISTENERS: usize = 64;
const DEFAULT_ENVIRONMENT: &str = "production";
const DEFAULT_LISTENER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9901);

/// `None`: the report says why.
pub(super) fn config(mut root: Node, hash: Arc<str>, report: &mut Report) -> Option<Config> {
    let agents = decode_agents(&mut root, report);
    let at = root.at;
    let mut file = without_agents(&mut root, |root| decode::<File>(root, "", at, report));
    let mut scope = Scope::of_file(&root, report);

    let prices = file.as_mut().and_then(|file| file.prices.take());
    let prices = Arc::new(prices.map(|given| streams::prices(given, &mut scope)).unwrap_or_default());
    let rate_limits = file.as_mut().and_then(|file| file.rate_limits.take());
    let rate_limits = rates::of_file(rate_limits, &mut scope);
    let mut agents = check_agents(agents, &prices, &mut scope);
    rates::join(&mut agents, &rate_limits, &mut scope);
    check_table(&agents, &mut scope);
    let file = file?;
    check_presence(&file, &mut scope);
    let listeners = listeners(file.listeners, &mut scope);
    check_reach(&agents, &listeners, &mut scope);
    let admin = admin(file.admin, &listeners, &mut scope);
    let prometheus = file.prometheus.map(|given| query::server(given, &mut scope));
    query::check_server(&agents, prometheus.is_some(), &mut scope);
    let pins = conversations::pins(file.pins.unwrap_or_default(), &mut scope);
    conversations::check_tokens(&agents, &pins, &mut scope);

    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(256);
    Some(Config {
        hash,
        listeners,
        admin,
        state_dir: state_dir(file.state_dir.map(|Text(dir)| dir)),
        workers: scope.count("workers", file.workers, cores as u64, 1..=256) as usize,
        version_header: file.version_header.unwrap_or(true),
        limits: limits::limits(file.limits.unwrap_or_default(), &mut scope),
        load_shedding: resilience::load_shedding(file.load_shedding.unwrap_or_default(), &mut scope),
        trusted_proxies: Arc::new(limits::trusted_proxies(file.trusted_proxies.unwrap_or_default(), &mut scope)),
        paths: limits::paths(&file.paths.unwrap_or_default()),
        access_log: file.access_log.map(access_log),
        prometheus: prometheus.map(Arc::new),
        pins,
        overrides: file.overrides.map(|given| conversations::overrides(given, &mut scope)),
        agents: agents.into_iter().map(|checked| checked.intent).collect(),
    })
}

/// A deployment block that stands alone, for an agent that is known. `None`: the report says why.
pub(super) fn deployment_block(block: Node, agent: &AgentSpec, report: &mut Report) -> Option<DeploymentSpec> {
    let mut root = Node::map_of("deployment", block);
    let at = root.at;
    let shape = match &mut root.kind {
        Kind::Map(entries) => entries.iter_mut().find_map(|e| decode(&mut e.value, "deployment", at, report)),
        _ => None,
    };
    let mut scope = Scope::of_file(&root, report);
    let (stable, environment) = (Some(&agent.stable), Some(&agent.environment));
    let (spec, share) = deployment::check(shape?, &agent.id, environment, &agent.versions, stable, &[], &mut scope);
    let spec_of_agent = Arc::new(agent.clone());
    let desired = DesiredAgent {
        spec: spec_of_agent,
        barred: Vec::new(),
        left: Vec::new(),
        canary: Some(share),
        notes: Notes::default(),
    };
    for rejection in rejections(vec![desired]) {
        scope.error(&rejection.field, rejection.message);
    }
    spec
}

/// A directory of that name is `./none`.
fn state_dir(written: Option<String>) -> Option<PathBuf> {
    match written.as_deref() {
        None => Some("./state".into()),
        Some("none") => None,
        Some(dir) => Some(dir.into()),
    }
}

/// An agent, its key's place, and its shape unless that does not fit at all.
type DecodedAgent = (AgentId, Place, Option<file::Agent>);

/// Each agent on its own; see [`super::decode`].
fn decode_agents(root: &mut Node, report: &mut Report) -> Vec<DecodedAgent> {
    let Some(Kind::Map(entries)) = agents_of(root).map(|node| &mut node.kind) else { return Vec::new() };
    let mut agents = Vec::with_capacity(entries.len());
    for entry in entries.iter_mut().filter(|entry| !entry.value.removed) {
        let base = format!("agents.{}", entry.key.text());
        match AgentId::from_text(entry.key.text()) {
            Ok(id) => agents.push((id, entry.key.at, decode(&mut entry.value, &base, entry.key.at, report))),
            Err(message) => {
                report.error(entry.key.at, base, message);
                entry.value.removed = true;
            }
        }
    }
    agents
}

fn agents_of(root: &mut Node) -> Option<&mut Node> {
    let Kind::Map(entries) = &mut root.kind else { return None };
    entries.iter_mut().find(|entry| entry.key.text() == "agents" && !entry.value.removed).map(|entry| &mut entry.value)
}

/// Decodes the rest of the file with the agents out of sight.
fn without_agents<T>(root: &mut Node, decode_rest: impl FnOnce(&mut Node) -> T) -> T {
    let hide = |root: &mut Node, hidden: bool| {
        let Kind::Map(entries) = &mut root.kind else { return };
        let agents = entries.iter_mut().find(|entry| entry.key.text() == "agents");
        if let Some(agents) = agents.filter(|agents| matches!(agents.value.kind, Kind::Map(_))) {
            agents.value.removed = hidden;
        }
    };
    hide(root, true);
    let rest = decode_rest(root);
    hide(root, false);
    rest
}

fn check_agents(agents: Vec<DecodedAgent>, prices: &Arc<Prices>, scope: &mut Scope<'_, '_>) -> Vec<Checked> {
    if agents.len() > MAX_AGENTS {
        scope.error("agents", format!("{} agents; expected at most {MAX_AGENTS}", agents.len()));
        return Vec::new();
    }
    let mut checked = Vec::with_capacity(agents.len());
    for (id, key, shape) in agents {
        let Some(shape) = shape else { continue };
        let mut scope = scope.agent(&id, key);
        checked.extend(agent::check(id, shape, prices, &mut scope));
    }
    checked
}

/// What only the routing table can tell: unknown names, splits that do not add up, clashes of routes.
fn check_table(agents: &[Checked], scope: &mut Scope<'_, '_>) {
    let desired = |agent: &Checked| DesiredAgent {
        spec: agent.intent.spec.clone(),
        barred: Vec::new(),
        left: Vec::new(),
        canary: agent.share.clone(),
        notes: Notes::default(),
    };
    for rejection in rejections(agents.iter().map(desired).collect()) {
        scope.error(&format!("agents.{}.{}", rejection.agent, rejection.field), rejection.message);
    }
}

fn rejections(agents: Vec<DesiredAgent>) -> Vec<Rejection> {
    let desired = Desired { config_hash: "".into(), agents };
    // Nothing is ever counted in this registry: the table is built to see whether it can be built.
    compile(&desired, None, &StatsRegistry::new(0), 0).err().unwrap_or_default()
}

fn check_presence(file: &File, scope: &mut Scope<'_, '_>) {
    match scope.node().entry("agents") {
        None if scope.node().has_lost("agents") => {}
        None => scope.error("", "the key `agents` is missing"),
        Some(entry) if file.agents.is_none() && entry.value.is_null() => {
            scope.error("agents", "expected a map of agents, found nothing");
        }
        Some(_) => {}
    }
}

fn listeners(given: Option<Vec<file::Listener>>, scope: &mut Scope<'_, '_>) -> Vec<ListenerConfig> {
    let production = || EnvironmentId::new(DEFAULT_ENVIRONMENT);
    let Some(given) = given else {
        return vec![ListenerConfig { address: DEFAULT_LISTENER, environment: production(), http2: true, tls: None }];
    };
    let (_, positions) = scope.positions("listeners");
    if positions.len() > MAX_LISTENERS || (positions.is_empty() && !scope.is_damaged("listeners")) {
        scope.error("listeners", format!("{} listeners; expected 1 to {MAX_LISTENERS}", positions.len()));
    }
    let mut listeners: Vec<ListenerConfig> = Vec::with_capacity(given.len());
    for (position, listener) in positions.into_iter().zip(given) {
        let (Text(address), environment) = (listener.address, listener.environment);
        // Port 0 is a new port each time.
        if address.port() != 0 && listeners.iter().any(|other| other.address == address) {
            scope.error(
                &format!("listeners[{position}].address"),
                format!("{address} is given twice; expected one listener per address"),
            );
        }
        let environment = environment.map_or_else(production, |Text(e)| e);
        let tls = listener.tls.map(|given| tls::check(given, &format!("listeners[{position}].tls"), scope));
        listeners.push(ListenerConfig { address, environment, http2: listener.http2.unwrap_or(true), tls });
    }
    listeners
}

/// An agent that no request can reach is a slip.
fn check_reach(agents: &[Checked], listeners: &[ListenerConfig], scope: &mut Scope<'_, '_>) {
    if scope.is_damaged("listeners") {
        return;
    }
    let served: Vec<&str> = listeners.iter().map(|listener| listener.environment.as_str()).collect();
    for spec in agents.iter().map(|agent| &agent.intent.spec) {
        let environment = spec.environment.as_str();
        if !served.contains(&environment) {
            let meant = super::errors::suggestion(environment, served.iter().copied());
            let message = format!("no listener is for the environment `{environment}`{meant}");
            scope.error(&format!("agents.{}.environment", spec.id), message);
        }
    }
}

fn admin(given: Option<file::Admin>, listeners: &[ListenerConfig], scope: &mut Scope<'_, '_>) -> AdminConfig {
    let (address, token, tls) = given.map_or((None, None, None), |admin| (admin.address, admin.token, admin.tls));
    let address = address.map_or(DEFAULT_ADMIN, |Text(address)| address);
    if token.as_ref().is_some_and(|Text(token)| token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic())) {
        scope.error("admin.token", "expected printable characters without spaces, and at least one");
    }
    if !address.ip().is_loopback() && token.is_none() && !scope.is_damaged("admin.token") {
        let remedy =
            format!("set `admin.token`, such as ${{POINTSMAN_ADMIN_TOKEN}}, or bind to 127.0.0.1:{}", address.port());
        scope
            .error("admin.address", format!("{address} can be reached from other machines and has no token; {remedy}"));
    }
    if address.port() != 0 && listeners.iter().any(|listener| listener.address == address) {
        scope.error("admin.address", format!("{address} is also a listener's; expected an address of its own"));
    }
    let tls = tls.map(|given| tls::check(given, "admin.tls", scope));
    AdminConfig { address, token: token.map(|Text(token)| Secret::new(token)), tls }
}

fn access_log(given: file::AccessLog) -> AccessLogConfig {
    let path = given.path.map(|Text(path)| path).filter(|path| path != "stdout").map(Into::into);
    AccessLogConfig { path, sample: given.sample.map_or(1.0, |Text(sample)| sample.0) }
}
