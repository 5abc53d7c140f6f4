//! Moving conversations to another version, and looking at who is held where.

use serde_json::json;

use super::client::{Call, encode};
use super::failure::Failure;
use super::session::Session;
use super::show::conversations as show;
use super::wire::{Conversation, Conversations, Migration, MigrationDone};
use crate::routing::ids::Weight;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Move conversations from one version to another
    Create(Create),
    /// List an agent's migrations, the newest first
    List { agent: String },
    /// Show one migration, and how far it has come
    Get { agent: String, id: String },
    /// Move no more conversations; those that have moved stay moved
    Cancel {
        agent: String,
        id: String,
        #[command(flatten)]
        terms: Terms,
    },
}

/// On which terms a command is given.
#[derive(clap::Args)]
pub struct Terms {
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Check everything and say what would happen, but change nothing
    #[arg(long)]
    dry_run: bool,
}

/// All at once, unless a pace or a list says otherwise.
#[derive(clap::Args)]
pub struct Create {
    agent: String,
    #[arg(long, value_name = "VERSION")]
    from: String,
    #[arg(long, value_name = "VERSION")]
    to: String,
    /// So many conversations in a second
    #[arg(long, value_name = "NUMBER", group = "pace")]
    per_second: Option<u32>,
    /// This share of them now, and as much again after each --every; such as 10%
    #[arg(long, value_name = "PERCENT", group = "pace", requires = "every")]
    share: Option<Weight>,
    /// Such as 1m
    #[arg(long, value_name = "DURATION", requires = "share")]
    every: Option<String>,
    /// Only the conversation of this id; may be repeated
    #[arg(long = "conversation", value_name = "ID", group = "pace")]
    conversations: Vec<String>,
    #[command(flatten)]
    terms: Terms,
}

pub async fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(create) => begin(session, create).await,
        Command::List { agent } => {
            let path = Session::agent(agent, "/migrations");
            let (migrations, document): (Vec<Migration>, _) = session.list(|| session.get(path.clone())).await?;
            session.show(&document, || show::migrations(&migrations, session.style))
        }
        Command::Get { agent, id } => {
            let (migration, document) = session.client.ask(&session.get(path_of(agent, id, ""))).await?;
            session.show(&document, || show::migration(&migration))
        }
        Command::Cancel { agent, id, terms } => {
            send(session, terms, Call::post(path_of(agent, id, "/cancel"), json!({ "reason": terms.reason }))).await
        }
    }
}

async fn begin(session: &Session, create: &Create) -> Result<(), Failure> {
    let Create { agent, from, to, per_second, share, every, conversations, terms } = create;
    let mut body = json!({ "from": from, "to": to, "perSecond": per_second, "every": every, "reason": terms.reason });
    body["share"] = json!(share.map(|share| share.to_string()));
    if !conversations.is_empty() {
        body["conversations"] = json!(conversations);
    }
    send(session, terms, Call::post(Session::agent(agent, "/migrations"), body)).await
}

async fn send(session: &Session, terms: &Terms, call: Call) -> Result<(), Failure> {
    let call = call.query("dryRun", terms.dry_run.then_some("true"));
    let call = call.query("environment", session.environment.as_ref());
    let (done, document): (MigrationDone, _) = session.client.ask(&call).await?;
    session.show(&document, || show::done(&done, terms.dry_run))
}

fn path_of(agent: &str, id: &str, below: &str) -> String {
    Session::agent(agent, &format!("/migrations/{}{below}", encode(id)))
}

#[derive(clap::Args)]
pub struct Look {
    agent: String,
    /// Only this one: the version that it is held to
    #[arg(value_name = "CONVERSATION")]
    id: Option<String>,
    /// Forget which version it is held to: its next turn is decided anew
    #[arg(long, requires = "id")]
    unpin: bool,
}

pub async fn conversations(session: &Session, look: &Look) -> Result<(), Failure> {
    let Some(id) = &look.id else {
        let (all, document): (Conversations, _) =
            session.client.ask(&session.get(Session::agent(&look.agent, "/conversations"))).await?;
        return session.show(&document, || show::conversations(&all, session.style));
    };
    let path = Session::agent(&look.agent, &format!("/conversations/{}", encode(id)));
    let call = if look.unpin { Call::delete(path) } else { Call::get(path) };
    let call = call.query("environment", session.environment.as_ref());
    let (one, document): (Conversation, _) = session.client.ask(&call).await?;
    session.show(&document, || show::conversation(&one, look.unpin))
}
