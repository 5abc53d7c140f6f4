//! `pointsman token`: the bearer tokens of the control-plane API.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{complain, say};
use crate::admin::tokens::file::TokenFile;
use crate::admin::tokens::{Role, TokenName};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Where the tokens are kept: `state_dir` of the instance. Default: what the configuration says
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The YAML file that names the state directory
    #[arg(long, short, global = true, value_name = "FILE", default_value = "pointsman.yaml", env = "POINTSMAN_CONFIG")]
    config: PathBuf,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a token and print it, once; a running instance takes it at once
    Create {
        /// What the audit trail calls its holder: letters, digits, `-` and `_`
        #[arg(long)]
        name: TokenName,
        /// What it may do; each may do all that those before it may
        #[arg(long, value_parser = role())]
        role: Role,
        /// How long it is good for, such as 90d. Default: until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// Show names, roles and times; the tokens themselves are kept nowhere
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a token worthless at once
    Revoke { name: String },
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|name| name.parse())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const YEARS: Duration = Duration::from_secs(10 * 366 * 86_400);
    let lifetime = humantime::parse_duration(text).map_err(|_| "expected a duration such as 90d or 12h".to_owned())?;
    if (Duration::from_secs(1)..=YEARS).contains(&lifetime) {
        Ok(lifetime)
    } else {
        Err("expected 1s to 10 years; leave --expires out for a token without an end".into())
    }
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let state_dir = match args.state_dir {
        Some(state_dir) => state_dir,
        None => Config::load(&args.config)?.state_dir.with_context(|| {
            format!(
                "state_dir in {} is none, and tokens need one: give the instance a directory",
                args.config.display()
            )
        })?,
    };
    let file = TokenFile::in_state_dir(&state_dir);
    match args.command {
        Command::Create { name, role, expires } => {
            let was_open = file.read()?.is_none();
            let token = file.create(name, role, expires, SystemTime::now())?;
            say(token)?;
            complain("Only its hash is kept: this token is not shown again.");
            if was_open {
                complain("This is the first token: from now on, every API request needs one.");
            }
        }
        Command::List { json } => list(&file, json)?,
        Command::Revoke { name } => {
            file.revoke(&name)?;
            say(format_args!("{name} is revoked"))?;
        }
    }
    Ok(())
}

fn list(file: &TokenFile, json: bool) -> anyhow::Result<()> {
    let tokens = file.read()?.unwrap_or_default();
    let time = |at| humantime::format_rfc3339_seconds(at).to_string();
    if json {
        let shown = tokens.iter().map(|token| {
            serde_json::json!({
                "name": token.name,
                "role": token.role,
                "createdAt": time(token.created_at),
                "expiresAt": token.expires_at.map(time),
            })
        });
        return Ok(say(serde_json::Value::Array(shown.collect()))?);
    }
    if tokens.is_empty() {
        complain(format_args!("no tokens in {}", file.path().display()));
        return Ok(());
    }
    let now = SystemTime::now();
    say(format_args!("{:<24} {:<9} {:<21} EXPIRES", "NAME", "ROLE", "CREATED"))?;
    for token in &tokens {
        let expires = token.expires_at.map_or_else(|| "never".to_owned(), time);
        let over = if token.is_expired(now) { " (expired)" } else { "" };
        let (name, role, created) = (token.name.as_str(), token.role, time(token.created_at));
        say(format_args!("{name:<24} {role:<9} {created:<21} {expires}{over}"))?;
    }
    Ok(())
}
