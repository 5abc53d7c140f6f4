//! `pointsman override`: signed words that send a request to a version.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::{complain, say};
use crate::config::Config;
use crate::routing::overrides::{ANY_AGENT, COOKIE, Grant, SIGNATURE_HEADER, VERSION_HEADER};
use crate::routing::pin;
use crate::routing::seal::{KeyRing, SECRET_BYTES_MIN};

/// Holds the secret where there is no file to read it from.
const SECRET_VARIABLE: &str = "POINTSMAN_OVERRIDE_SECRET";

#[derive(clap::Subcommand)]
pub enum Command {
    /// Print the headers that send a request to a version, at any share, also after its rollback
    Sign(Sign),
}

#[derive(clap::Args)]
pub struct Sign {
    /// The agent, or `*` for all of the environment
    #[arg(long)]
    agent: String,
    #[arg(long, default_value = "production")]
    environment: String,
    #[arg(long)]
    version: String,
    /// How long it is good for, such as 1h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    expires: Duration,
    /// The key to sign with. Default: the first of the file
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// The YAML file with `overrides.keys`; not read where POINTSMAN_OVERRIDE_SECRET holds the secret of --key-id
    #[arg(long, short, value_name = "FILE", default_value = "pointsman.yaml", env = "POINTSMAN_CONFIG")]
    config: PathBuf,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    let lifetime = humantime::parse_duration(text).map_err(|_| "expected a duration such as 1h or 30m".to_owned())?;
    let is_sound = (Duration::from_secs(1)..=MONTH).contains(&lifetime);
    is_sound.then_some(lifetime).ok_or_else(|| "expected 1s to 30d".to_owned())
}

pub fn run(Command::Sign(args): Command) -> anyhow::Result<()> {
    let (keys, address) = match std::env::var(SECRET_VARIABLE) {
        Ok(secret) => (keys_of_environment(&args, &secret)?, None),
        Err(_) => {
            let config = Config::load(&args.config)?;
            (keys_of_file(&args, &config)?, address(&args, &config))
        }
    };
    let expires = SystemTime::now() + args.expires;
    let grant = Grant {
        environment: &args.environment,
        agent: &args.agent,
        version: &args.version,
        expires: pin::second(expires),
    };
    let signature = grant.sign(&keys).context("a name is too long to be signed")?;
    let address = address.map_or_else(|| "HOST:PORT".to_owned(), |address| address.to_string());
    let (version, until) = (&args.version, humantime::format_rfc3339_seconds(expires));
    say(format_args!("{VERSION_HEADER}: {version}"))?;
    say(format_args!("{SIGNATURE_HEADER}: {signature}"))?;
    complain(format_args!(
        "Good until {until}, for {} in {}. Who has it can use it: hand it on as a secret.\n\
         One request:     curl -H '{VERSION_HEADER}: {version}' -H '{SIGNATURE_HEADER}: {signature}' http://{address}/\n\
         A whole session: set the cookie {COOKIE}={signature}",
        if args.agent == ANY_AGENT { "all agents" } else { &args.agent },
        args.environment,
    ));
    Ok(())
}

fn keys_of_environment(args: &Sign, secret: &str) -> anyhow::Result<KeyRing> {
    let id = args.key_id.as_deref().with_context(|| format!("{SECRET_VARIABLE} is set: name its key by --key-id"))?;
    anyhow::ensure!(
        secret.len() >= SECRET_BYTES_MIN,
        "{SECRET_VARIABLE} is too short for a secret; expected at least {SECRET_BYTES_MIN} bytes"
    );
    KeyRing::new([(id, secret)]).context("--key-id: the name is too long")
}

/// Where the environment is served, as seen from this machine.
fn address(args: &Sign, config: &Config) -> Option<SocketAddr> {
    let mut listeners = config.listeners.iter();
    let mut address = listeners.find(|listener| listener.environment.as_str() == args.environment)?.address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Some(address)
}

/// As the instance would honour it: the agent and the version must be in the file too.
fn keys_of_file(args: &Sign, config: &Config) -> anyhow::Result<KeyRing> {
    let file = args.config.display();
    let keys = config.keys().overrides.with_context(|| format!("{file} has no `overrides: {{ keys: [...] }}`"))?.keys;
    let in_scope =
        |id: &str, environment: &str| environment == args.environment && (args.agent == ANY_AGENT || id == args.agent);
    let mut specs = config.agents.iter().map(|agent| &agent.spec);
    let has_version = specs.any(|spec| {
        in_scope(spec.id.as_str(), spec.environment.as_str()) && spec.versions.contains_key(args.version.as_str())
    });
    if !has_version {
        complain(format_args!(
            "warning: {file} has no version {} of {} in {}; it is ignored until there is one",
            args.version, args.agent, args.environment
        ));
    }
    match &args.key_id {
        None => Ok(keys),
        Some(id) => keys.sealing_with(id).with_context(|| format!("--key-id: {file} has no key {id:?}")),
    }
}
