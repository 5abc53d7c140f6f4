//! The commands that change something.

use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Value, json};

use super::client::Call;
use super::failure::Failure;
use super::session::Session;
use super::show;
use super::text::plain;
use super::wire::Done;
use crate::routing::ids::Weight;

/// On which terms a command is given.
#[derive(clap::Args)]
pub struct Terms {
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Check everything and say what would change, but change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse if anything changed since this revision, which `--json` and `--dry-run` show
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
}

impl Terms {
    pub fn on(&self, call: Call) -> Call {
        call.query("dryRun", self.dry_run.then_some("true"))
            .header("if-match", self.if_revision.map(|revision| format!("\"{revision}\"")))
    }

    /// With the reason, where there is one.
    pub fn body(&self, fields: Value) -> Value {
        let mut body = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        body.extend(self.reason.as_ref().map(|reason| ("reason".to_owned(), json!(reason))));
        body.into()
    }
}

/// A command to a deployment.
#[derive(clap::Args)]
pub struct Order {
    agent: String,
    /// Default: the agent's current one
    #[arg(long, value_name = "ID")]
    deployment: Option<String>,
    #[command(flatten)]
    terms: Terms,
}

/// Sends `verb` to it.
pub async fn verb(session: &Session, verb: &str, order: &Order) -> Result<(), Failure> {
    let id = session.id_of(&order.agent, order.deployment.as_deref()).await?;
    let path = Session::deployment(&order.agent, &id, &format!("/{verb}"));
    send(session, &order.terms, Call::post(path, order.terms.body(json!({})))).await
}

pub async fn set_weight(session: &Session, weight: Weight, order: &Order) -> Result<(), Failure> {
    let id = session.id_of(&order.agent, order.deployment.as_deref()).await?;
    let body = order.terms.body(json!({ "weight": weight.to_string() }));
    send(session, &order.terms, Call::patch(Session::deployment(&order.agent, &id, ""), body)).await
}

#[derive(clap::Args)]
pub struct Rollback {
    agent: String,
    /// To this version, or to the rollback point of this id. Default: to what the current deployment
    /// came to replace
    #[arg(long, value_name = "VERSION|POINT", conflicts_with = "deployment")]
    to: Option<String>,
    /// Only if this deployment is the current one
    #[arg(long, value_name = "ID")]
    deployment: Option<String>,
    #[command(flatten)]
    terms: Terms,
}

pub async fn rollback(session: &Session, rollback: &Rollback) -> Result<(), Failure> {
    let target = match &rollback.to {
        None => json!({}),
        Some(to) if is_version(to) => json!({ "version": to }),
        Some(to) => json!({ "rollbackPoint": to }),
    };
    let path = match &rollback.deployment {
        None => Session::agent(&rollback.agent, "/rollback"),
        Some(id) => Session::deployment(&rollback.agent, id, "/rollback"),
    };
    send(session, &rollback.terms, Call::post(path, rollback.terms.body(target))).await
}

fn is_version(text: &str) -> bool {
    semver::Version::parse(text.strip_prefix('v').unwrap_or(text)).is_ok()
}

async fn send(session: &Session, terms: &Terms, call: Call) -> Result<(), Failure> {
    let call = terms.on(call).query("environment", session.environment.as_ref());
    let (done, document): (Done, _) = session.client.ask(&call).await?;
    session.show(&document, || show::done(&done, terms.dry_run, session.style))
}

#[derive(clap::Args)]
pub struct Emergency {
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Check everything and say what would change, but change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Every agent of an environment at once, which must therefore be named.
pub async fn emergency(session: &Session, emergency: &Emergency) -> Result<(), Failure> {
    let Some(environment) = &session.environment else {
        return Err(anyhow::anyhow!(
            "which environment? name it with --environment: all of its agents are rolled back"
        )
        .into());
    };
    if !emergency.yes && !emergency.dry_run {
        confirm(session, environment)?;
    }
    let body = json!({ "environment": environment, "reason": emergency.reason });
    let call = Call::post("/api/v1/rollback/emergency", body).query("dryRun", emergency.dry_run.then_some("true"));
    let (done, document): (Vec<Done>, _) = session.client.ask(&call).await?;
    session.show(&document, || show::emergency(&done, emergency.dry_run, session.style))
}

/// Asks for the environment's name: a `y` is typed too easily.
fn confirm(session: &Session, environment: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let why = "this rolls back every agent of the environment, and nobody is there to be asked; add --yes";
        return Err(anyhow::anyhow!(why).into());
    }
    let (server, name) = (&session.client.server, plain(environment));
    let mut err = io::stderr().lock();
    write!(err, "This rolls back every agent of {name} at {server}.\nType {name} to go on: ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() == environment {
        return Ok(());
    }
    Err(anyhow::anyhow!("that was not {name}: nothing was done").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_from_a_rollback_point() {
        for version in ["1.4.2", "v1.4.2", "2.0.0-rc.1", "1.0.0+build"] {
            assert!(is_version(version), "{version}");
        }
        for point in ["rp-12", "3f2a9c01", "12", "1.4"] {
            assert!(!is_version(point), "{point}");
        }
    }
}
