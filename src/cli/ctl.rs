//! `pointsman ctl`: operating a running instance over its control-plane API.
//!
//! Rules: what the server decides is not decided here a second time, so flags are turned into a request and the
//! server says what is wrong with it. `--json` gives the server's own answer. Every command can be run by a
//! pipeline: no question without a terminal, an exit code for each end (`exit`), errors on standard error.

mod block;
mod client;
mod deploy;
mod exit;
mod failure;
mod guard;
mod migrate;
mod order;
mod reads;
mod secure;
mod server;
mod session;
mod show;
mod sse;
mod text;
mod wait;
mod watch;
mod wire;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use exit::Exit;
pub use exit::FAILED;
use failure::Failure;
use order::Order;
use server::Server;
use session::Session;
use text::Style;

use super::{complain, is_broken_pipe};
use crate::routing::ids::Weight;

/// Operate a running instance over its control-plane API
#[derive(clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Connection")]
struct Connection {
    /// The admin address of the instance
    #[arg(long, global = true, value_name = "URL", env = "POINTSMAN_SERVER", default_value = "http://127.0.0.1:9901")]
    server: Server,
    /// A bearer token; others can see it in the list of processes, so prefer the file or the variable
    #[arg(long, global = true, value_name = "TOKEN", env = "POINTSMAN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the bearer token
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: secure::Trust,
    /// Needed only where several environments have the agent
    #[arg(long, short, global = true, value_name = "NAME", env = "POINTSMAN_ENVIRONMENT")]
    environment: Option<String>,
    /// Print the server's answer as JSON; an error as a problem document (RFC 9457)
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the agents, and how their deployments stand
    Agents,
    /// Show an agent: versions, shares, its deployment and what the guards say
    Status { agent: String },
    /// Show which buckets go to which version, of all agents
    Table,
    /// Say which version a key or a request gets now, and why
    Explain(reads::Explain),
    /// List an agent's deployments
    Deployments { agent: String },
    /// Bring a version in
    Deploy(deploy::Args),
    /// Follow a deployment to its end
    Wait(wait::Args),
    /// Show what each guard sees, and what would trip it
    Verdicts {
        agent: String,
        /// Default: the agent's current one
        #[arg(long, value_name = "ID")]
        deployment: Option<String>,
    },
    /// Hold a deployment where it is
    Pause(Order),
    /// Let a paused deployment go on
    Resume(Order),
    /// Go on to the next step now, whatever the hold says
    Advance(Order),
    /// Go to 100 % now, and make the version stable
    Promote(Order),
    /// Give the new version this share of the traffic
    SetWeight {
        #[command(flatten)]
        order: Order,
        /// Such as 5% or 0.1%
        weight: Weight,
    },
    /// End a deployment; traffic returns to stable
    Abort(Order),
    /// Begin an ended deployment once more
    Retry(Order),
    /// Take the new version out at once, or return to an earlier one
    Rollback(order::Rollback),
    /// List what an agent can be rolled back to
    RollbackPoints { agent: String },
    /// Roll back every agent of an environment at once
    EmergencyRollback(order::Emergency),
    /// Show how many conversations each version has, or where one of them is held
    Conversations(migrate::Look),
    /// Move conversations from one version to another
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Show who changed what
    Audit(reads::Audit),
    /// Follow what happens, live
    Watch(watch::Args),
}

pub fn run(args: Args) -> ExitCode {
    let json = args.connection.json;
    match start(args) {
        Ok(exit) => exit.into(),
        Err(Failure::Here(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(failure) if json => {
            complain(format_args!("{:#}", failure.document()));
            ExitCode::from(FAILED)
        }
        Err(failure) => {
            complain(format_args!("error: {failure}"));
            ExitCode::from(FAILED)
        }
    }
}

fn start(args: Args) -> Result<Exit, Failure> {
    let Connection { server, token, token_file, trust, environment, json } = args.connection;
    let secure = trust.with(&server)?;
    let client = session::client(server, secure, token.as_deref(), token_file.as_deref())?;
    let session = Session { client, environment, json, style: Style::of_stdout() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exit = runtime.block_on(dispatch(&session, &args.command))?;
    io::stdout().lock().flush()?;
    Ok(exit)
}

#[rustfmt::skip]
async fn dispatch(session: &Session, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Deploy(args) => return deploy::run(session, args).await,
        Command::Wait(args) => return wait::run(session, args).await,
        Command::Watch(args) => return watch::run(session, args).await,
        Command::Agents => reads::agents(session).await,
        Command::Status { agent } => reads::status(session, agent).await,
        Command::Table => reads::table(session).await,
        Command::Explain(args) => reads::explain(session, args).await,
        Command::Deployments { agent } => reads::deployments(session, agent).await,
        Command::Verdicts { agent, deployment } => reads::verdicts(session, agent, deployment.as_deref()).await,
        Command::RollbackPoints { agent } => reads::rollback_points(session, agent).await,
        Command::Conversations(look) => migrate::conversations(session, look).await,
        Command::Migrate(command) => migrate::run(session, command).await,
        Command::Audit(args) => reads::audit(session, args).await,
        Command::Pause(order) => order::verb(session, "pause", order).await,
        Command::Resume(order) => order::verb(session, "resume", order).await,
        Command::Advance(order) => order::verb(session, "advance", order).await,
        Command::Promote(order) => order::verb(session, "promote", order).await,
        Command::Abort(order) => order::verb(session, "abort", order).await,
        Command::Retry(order) => order::verb(session, "retry", order).await,
        Command::SetWeight { order, weight } => order::set_weight(session, *weight, order).await,
        Command::Rollback(rollback) => order::rollback(session, rollback).await,
        Command::EmergencyRollback(emergency) => order::emergency(session, emergency).await,
    }?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests;
