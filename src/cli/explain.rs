//! `pointsman explain`: which version a request would get from a fresh start with this file, and why.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::run::{did_you_mean, offline_table};
use super::say;
use crate::config::Config;
use crate::routing::decide::{self, Explanation};
use crate::routing::ids::EnvironmentId;
use crate::routing::path;
use crate::routing::pin::{self, PinSecret, Pins};
use crate::routing::standing::{self, Known};
use crate::routing::table::{Agent, Head, RoutingTable};

#[derive(clap::Args)]
pub struct Args {
    /// The YAML file
    #[arg(long, short, value_name = "FILE", default_value = "pointsman.yaml", env = "POINTSMAN_CONFIG")]
    config: PathBuf,
    /// The agent; found by its routes where not given
    #[arg(long)]
    agent: Option<String>,
    /// The environment of the agent, or of the listener that takes the request
    #[arg(long, default_value = "production")]
    environment: String,
    /// The bucketing key itself, instead of a request that carries it
    #[arg(long)]
    key: Option<String>,
    /// A header of the request, such as 'x-user-id: u1'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Path and query
    #[arg(long, default_value = "/")]
    path: Uri,
    /// The Host that the request is for
    #[arg(long, default_value = "localhost")]
    host: String,
    /// The client's address
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// The JSON body
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    body: Option<serde_json::Value>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("{:?} is no header name", name.trim()))?;
    let value = value.trim().parse().map_err(|_| format!("{:?} is no header value", value.trim()))?;
    Ok((name, value))
}

fn parse_json(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let table = offline_table(&config)?;
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    let path = path::normalise(args.path.path(), config.paths.slashes).context("--path")?;
    let head = Head {
        method: &args.method,
        host: &args.host,
        path: &path,
        query: args.path.query(),
        headers: &headers,
        client: args.client,
        certificate: None,
        json: args.body.as_ref(),
        nonce: 0,
    };
    let agent = find(&table, args, &head)?;
    let mut explanation = match &args.key {
        Some(key) => decide::explain_key(agent, &head, table.epoch, key),
        None => decide::explain(agent, &head, table.epoch),
    };
    // A fresh start knows no conversations, but it knows the keys of overrides and tokens.
    let known = Known { pins: Pins::new(PinSecret([0; 32]), config.pins.max), keys: Arc::new(config.keys()) };
    standing::explain(&mut explanation, agent, &head, &known, pin::second(SystemTime::now()));
    print(&explanation, args.json)
}

fn find<'a>(table: &'a RoutingTable, args: &Args, head: &Head<'_>) -> anyhow::Result<&'a Agent> {
    match &args.agent {
        Some(name) => table.agent(&args.environment, name).map(AsRef::as_ref).with_context(|| {
            let hint = did_you_mean(name, table);
            format!("--agent: no agent {name:?} in environment {:?}{hint}", args.environment)
        }),
        None => {
            let environment = EnvironmentId::new(args.environment.as_str());
            check_environment(table, &args.environment)?;
            let index = table.route(&environment, head).with_context(|| {
                format!("no agent's routes match host {:?} and path {:?}; name one with --agent", head.host, head.path)
            })?;
            Ok(&table.agents[index])
        }
    }
}

/// An environment without agents has no routes either, but that is not what is wrong.
fn check_environment(table: &RoutingTable, name: &str) -> anyhow::Result<()> {
    let known: BTreeSet<_> = table.agents.iter().map(|agent| agent.environment().as_str()).collect();
    if known.contains(name) || known.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = known.into_iter().collect();
    anyhow::bail!("--environment: no agent is in {name:?}; the file has {}", known.join(", "))
}

fn print(explanation: &Explanation, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(say(serde_json::to_string_pretty(explanation)?)?);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "agent    {} ({})", explanation.agent, explanation.environment)?;
    match (&explanation.key, &explanation.key_source) {
        (Some(key), Some(source)) => writeln!(out, "key      {key} ({source})")?,
        _ => writeln!(out, "key      none")?,
    }
    if let Some(bucket) = explanation.bucket {
        writeln!(out, "bucket   {bucket} of 100000")?;
    }
    writeln!(out, "version  {}", explanation.version)?;
    writeln!(out, "reason   {}: {}", explanation.reason, explanation.because)?;
    for line in &explanation.standing {
        writeln!(out, "standing {line}")?;
    }
    for note in [&explanation.stable_by, &explanation.deployment].into_iter().flatten() {
        writeln!(out, "note     {note}")?;
    }
    for range in &explanation.ranges {
        writeln!(out, "split    {:>6}..={:<6} {}", range.start, range.end, range.version)?;
    }
    Ok(())
}
