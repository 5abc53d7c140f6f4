//! Following a deployment to its end, for pipelines and for people.
//!
//! It looks every [`LOOK`] and writes a line whenever something changed. A server that is away (a restart, a
//! network that breaks) is waited for, at most [`AWAY_MAX`] at a time. Whatever ends the wait, the deployment
//! goes on as it is: to follow is not to own.

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::show;
use super::text::{Colour, duration, plain};
use super::wire::Deployment;

const LOOK: Duration = Duration::from_millis(500);
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Where nothing changes, a line comes all the same: a pipeline's log should show that there is life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Patience {
    /// Wait no longer than this. Default: as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

#[derive(clap::Args)]
pub struct Args {
    agent: String,
    /// Default: the agent's current one
    #[arg(long, value_name = "ID")]
    deployment: Option<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let id = session.id_of(&args.agent, args.deployment.as_deref()).await?;
    follow(session, &args.agent, &id, &args.patience).await
}

/// To the end of the deployment, of our patience, or of the operator's.
pub async fn follow(session: &Session, agent: &str, id: &str, patience: &Patience) -> Result<Exit, Failure> {
    let mut progress = Progress { session, agent, id, shown: None, away: None };
    let deadline = patience.timeout.and_then(|timeout| tokio::time::Instant::now().checked_add(timeout));
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let (why, exit) = tokio::select! {
        ended = progress.until_it_ends() => return ended,
        () = late => (format!("not complete after {}", patience.timeout.map(duration).unwrap_or_default()), Exit::TimedOut),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            ("no longer followed".to_owned(), Exit::Interrupted)
        }
    };
    progress.leave(&why)?;
    Ok(exit)
}

struct Progress<'a> {
    session: &'a Session,
    agent: &'a str,
    id: &'a str,
    /// The newest line: without its figures, when it was written, and the state that it told of.
    shown: Option<(String, Instant)>,
    away: Option<Instant>,
}

impl Progress<'_> {
    async fn until_it_ends(&mut self) -> Result<Exit, Failure> {
        loop {
            let call = self.session.get(Session::deployment(self.agent, self.id, ""));
            match self.session.client.ask::<Deployment>(&call).await {
                Ok((deployment, document)) => {
                    self.away = None;
                    self.tell(&deployment)?;
                    if let Some(exit) = end(&deployment.state) {
                        self.session.show(&document, || show::deployment(&deployment, self.session.style))?;
                        return Ok(exit);
                    }
                }
                Err(failure) if failure.may_pass() => self.missed(failure)?,
                Err(failure) => return Err(failure),
            }
            sleep(LOOK).await;
        }
    }

    fn missed(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(since) = self.away else {
            self.away = Some(Instant::now());
            let (server, most) = (&self.session.client.server, duration(AWAY_MAX));
            return Ok(self
                .session
                .note(&format!("{}  {server} does not answer; waiting for it, at most {most}", now()))?);
        };
        if since.elapsed() < AWAY_MAX { Ok(()) } else { Err(failure) }
    }

    fn tell(&mut self, deployment: &Deployment) -> Result<(), Failure> {
        let what = show::progress(deployment);
        let stale = |(shown, at): &(String, Instant)| *shown != what || at.elapsed() >= SIGN_OF_LIFE;
        if self.shown.as_ref().is_none_or(stale) {
            let cost = show::cost(deployment.requests, deployment.errors);
            let painted = self.session.style.paint(Colour::of(&deployment.state), &plain(&what));
            self.session.note(&format!("{}  {painted}; requests: {cost}", now()))?;
            self.shown = Some((what, Instant::now()));
        }
        Ok(())
    }

    /// Says how things are left.
    fn leave(&self, why: &str) -> Result<(), Failure> {
        let (id, agent) = (plain(self.id), plain(self.agent));
        let state = self.shown.as_ref().map_or("its state is not known", |(what, _)| what);
        let state = plain(state);
        self.session.note(&format!(
            "{why}: the deployment {id} stays as it is ({state})\n  follow it with `pointsman ctl wait {agent}`, take it \
             back with `pointsman ctl rollback {agent}`"
        ))?;
        Ok(())
    }
}

/// `None`: it may still go on, as may a state that is not known here.
fn end(state: &str) -> Option<Exit> {
    match state {
        "completed" => Some(Exit::Done),
        "rolled_back" | "aborted" | "superseded" => Some(Exit::NotComplete),
        _ => None,
    }
}

/// The time of day in UTC, as everywhere in the logs.
fn now() -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    now.get(11..).unwrap_or(&now).to_owned()
}
