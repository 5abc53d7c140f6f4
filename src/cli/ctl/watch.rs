//! `ctl watch`: the server's events as they come, over as many connections as it takes.
//!
//! A connection that ends, or is silent for [`SILENCE_MAX`], is opened again from the last event that came, so
//! that none is missed or told twice. Between attempts it waits [`PAUSE_MIN`], then longer, to [`PAUSE_MAX`], for
//! as long as the operator watches. What the server refuses ends it; so does a first connection that fails.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::client::Call;
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::show;
use super::sse::{Event, Parser};
use super::wire;
use crate::cli::complain;

const SILENCE_MAX: Duration = Duration::from_secs(90);
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct Args {
    /// Only this agent's events
    agent: Option<String>,
    /// Begin after this event, as an earlier watch showed its id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

/// Until Ctrl-C, or until nobody reads.
pub async fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    tokio::select! {
        ended = follow(session, args) => ended.map(|()| Exit::Done),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted.map(|()| Exit::Done)?),
    }
}

async fn follow(session: &Session, args: &Args) -> Result<(), Failure> {
    let mut last = args.after.clone();
    let mut stream = Some(Stream::open(session, last.as_deref()).await?);
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(mut open) = stream.take() {
            while let Some(event) = open.next().await {
                pause = PAUSE_MIN;
                tell(session, args, &event)?;
            }
            last = open.parser.last_id().map(str::to_owned).or(last);
        }
        sleep(pause).await;
        stream = match Stream::open(session, last.as_deref()).await {
            Ok(stream) => Some(stream),
            Err(failure) if failure.may_pass() => {
                if pause == PAUSE_MIN {
                    complain(format_args!("{} does not answer; trying again until it does", session.client.server));
                }
                pause = (pause * 2).min(PAUSE_MAX);
                None
            }
            Err(failure) => return Err(failure),
        };
    }
}

/// One connection's events.
struct Stream {
    body: Incoming,
    parser: Parser,
    events: VecDeque<Event>,
}

impl Stream {
    async fn open(session: &Session, last: Option<&str>) -> Result<Self, Failure> {
        let call =
            Call::get("/api/v1/events").header("accept", Some("text/event-stream")).header("last-event-id", last);
        let body = session.client.stream(&call).await?;
        Ok(Self { body, parser: Parser::default(), events: VecDeque::new() })
    }

    /// `None`: this connection gives no more.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let frame = timeout(SILENCE_MAX, self.body.frame()).await.ok()??.ok()?;
            if let Some(piece) = frame.data_ref() {
                self.events.extend(self.parser.feed(piece).ok()?);
            }
        }
    }
}

/// One line: as JSON, or as people read it.
fn tell(session: &Session, args: &Args, event: &Event) -> io::Result<()> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.clone().into());
    let shown = wire::Event::of(&data);
    let other =
        |wanted: &Option<String>, got: &str| wanted.as_ref().is_some_and(|wanted| !got.is_empty() && wanted != got);
    if other(&args.agent, &shown.agent) || other(&session.environment, &shown.environment) {
        return Ok(());
    }
    if session.json {
        let line = serde_json::json!({ "id": event.id, "event": event.kind, "data": data });
        return crate::cli::say(line);
    }
    crate::cli::say(show::event(&shown, session.style))
}
