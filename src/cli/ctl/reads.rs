//! The commands that only look.

use serde_json::Value;

use super::client::Call;
use super::failure::Failure;
use super::session::{PAGE, Session};
use super::show;
use super::wire::{Agent, Deployment, Explanation, Readings, Record, RollbackPoint, Table};

pub async fn agents(session: &Session) -> Result<(), Failure> {
    let (agents, document): (Vec<Agent>, _) = session.list(|| session.get("/api/v1/agents".into())).await?;
    session.show(&document, || show::agents(&agents, session.style))
}

pub async fn status(session: &Session, agent: &str) -> Result<(), Failure> {
    let (agent, document) = session.client.ask(&session.get(Session::agent(agent, ""))).await?;
    session.show(&document, || show::agent(&agent, session.style))
}

pub async fn table(session: &Session) -> Result<(), Failure> {
    let (table, document): (Table, _) = session.client.ask(&Call::get("/api/v1/table")).await?;
    session.show(&document, || show::table(&table, session.environment.as_deref(), session.style))
}

/// The request that is asked about.
#[derive(clap::Args)]
pub struct Explain {
    agent: String,
    /// The bucketing key itself, instead of a request that carries it
    #[arg(long)]
    key: Option<String>,
    /// A header of the request, such as 'x-user-id: u1'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    #[arg(long)]
    method: Option<String>,
    /// Path and query
    #[arg(long)]
    path: Option<String>,
    /// The Host that the request is for
    #[arg(long)]
    host: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: Option<String>,
}

pub async fn explain(session: &Session, asked: &Explain) -> Result<(), Failure> {
    let mut call = session.get(Session::agent(&asked.agent, "/explain"));
    for header in &asked.headers {
        call = call.query("header", Some(header));
    }
    let call = call
        .query("key", asked.key.as_ref())
        .query("method", asked.method.as_ref())
        .query("path", asked.path.as_ref())
        .query("host", asked.host.as_ref())
        .query("client", asked.client.as_ref());
    let (explanation, document): (Explanation, _) = session.client.ask(&call).await?;
    session.show(&document, || show::explanation(&explanation))
}

pub async fn deployments(session: &Session, agent: &str) -> Result<(), Failure> {
    let path = Session::agent(agent, "/deployments");
    let (deployments, document): (Vec<Deployment>, _) = session.list(|| session.get(path.clone())).await?;
    session.show(&document, || show::deployments(&deployments, session.style))
}

pub async fn verdicts(session: &Session, agent: &str, deployment: Option<&str>) -> Result<(), Failure> {
    let id = session.id_of(agent, deployment).await?;
    let call = session.get(Session::deployment(agent, &id, "/verdicts"));
    let (readings, document): (Readings, _) = session.client.ask(&call).await?;
    session.show(&document, || show::readings(&readings, session.style))
}

pub async fn rollback_points(session: &Session, agent: &str) -> Result<(), Failure> {
    let path = Session::agent(agent, "/rollback-points");
    let (points, document): (Vec<RollbackPoint>, _) = session.list(|| session.get(path.clone())).await?;
    session.show(&document, || show::rollback_points(&points, session.style))
}

#[derive(clap::Args)]
pub struct Audit {
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only what came after the record of this sequence number
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// Only the newest so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

pub async fn audit(session: &Session, args: &Audit) -> Result<(), Failure> {
    let call = || {
        let call = session.get("/api/v1/audit".into()).query("agent", args.agent.as_ref());
        call.query("order", Some("newest"))
    };
    let after = args.after.unwrap_or(0);
    let wants_more = |records: &[Record]| {
        records.len() < args.limit && records.last().is_none_or(|oldest| oldest.sequence > after.saturating_add(1))
    };
    let page = args.limit.clamp(1, PAGE);
    let (mut records, mut document): (Vec<Record>, _) = session.pages(call, page, wants_more).await?;
    let wanted = records.iter().take(args.limit).take_while(|record| record.sequence > after).count();
    records.truncate(wanted);
    records.reverse();
    if let Some(Value::Array(items)) = document.get_mut("items") {
        items.truncate(wanted);
        items.reverse();
    }
    // All that was asked for is here.
    document["next"] = Value::Null;
    session.show(&document, || show::audit(&records, session.style))
}
