//! `pointsman demo`: two agents, live traffic, a ramp, and a canary that fails.
//!
//! Everything is real: the mock agents and the users speak HTTP over loopback sockets, the proxy is
//! what `pointsman run` starts, on a configuration that `--print-config` shows. The demo only turns the
//! new version bad and then watches from outside: its figures are what the users saw, and what it says
//! of the deployment is what the control plane says. Nothing is written to disk but what the proxy
//! itself keeps, in a temporary directory that goes with the demo.
//!
//! Bounds: each wait for the control plane has a deadline, after which the demo fails instead of
//! hanging. The demo runs on one thread of its own, besides those of the proxy.

mod closing;
mod ledger;
mod screen;
mod traffic;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;

use super::mock_agent::server::MockAgent;
use super::mock_agent::server::behaviour::Behaviour;
use super::mock_agent::server::units::{Percent, Tokens, Wait};
use crate::app::{self, Running};
use crate::config::Config;
use crate::control::model::{AgentKey, DeploymentState, Rollback, Stage};
use crate::routing::ids::{AgentId, EnvironmentId, Weight};
use ledger::SharedLedger;
use screen::Screen;

const CONFIG: &str = include_str!("demo/demo.yaml");
const STABLE: &str = "1.4.2";
const CANARY: &str = "1.5.0";

/// How often the deployment's state is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How much longer than its hold time a step may take: guards want their figures first.
const STEP_GRACE: Duration = Duration::from_secs(20);
/// How long the guards may take to see that half of the answers fail.
const ROLLBACK_DEADLINE: Duration = Duration::from_secs(20);
/// How long the traffic is watched after the rollback.
const AFTERMATH: Duration = Duration::from_secs(3);
/// From when on after the rollback not one request may reach the canary.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End when the story is over: exit code 0 only if the canary was really rolled back
    #[arg(long)]
    exit: bool,
    /// How long each step of the ramp is held
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds_per_step: u64,
    /// Print the configuration that the demo runs, and do nothing else
    #[arg(long)]
    print_config: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if args.print_config {
        return Ok(super::say(CONFIG.trim_end())?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let agents = runtime.block_on(Agents::start()).context("cannot start the mock agents")?;
    let state = StateDir::new();
    let hold = Duration::from_secs(args.seconds_per_step);
    let running = app::start(config(&agents, &state, hold)?, None)?;
    let result = tell(&runtime, &running, &agents, hold, args.exit);
    // Users and agents go first: then nothing is in flight, and the proxy stops at once.
    drop(runtime);
    running.stop();
    result
}

fn tell(runtime: &Runtime, running: &Running, agents: &Agents, hold: Duration, exit: bool) -> anyhow::Result<()> {
    runtime.block_on(async {
        let proxy = *running.listeners.first().context("the proxy has no listener")?;
        let ledger = SharedLedger::default();
        let _traffic = traffic::start(proxy, ledger.clone());
        let mut story = Story::new(running, ledger, hold)?;
        tokio::select! {
            told = story.tell(agents) => told?,
            interrupt = tokio::signal::ctrl_c() => {
                interrupt?;
                if exit { bail!("interrupted before the canary was rolled back") }
                return Ok(());
            }
        }
        if !exit {
            closing::addresses(&mut std::io::stdout(), proxy, running.admin, agents.canary.address)?;
            tokio::signal::ctrl_c().await?;
        }
        Ok(())
    })
}

/// The two runtimes before which the proxy stands.
struct Agents {
    stable: MockAgent,
    canary: MockAgent,
}

impl Agents {
    async fn start() -> std::io::Result<Self> {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let stable = MockAgent::start(anywhere, STABLE, behaviour(20, Percent::ZERO)).await?;
        let canary = MockAgent::start(anywhere, CANARY, behaviour(16, Percent::ZERO)).await?;
        Ok(Self { stable, canary })
    }

    fn break_canary(&self) {
        let half = Percent::new(50.0).unwrap_or(Percent::ZERO);
        self.canary.behaviour.store(Arc::new(behaviour(16, half)));
    }
}

fn behaviour(latency_ms: u64, error_rate: Percent) -> Behaviour {
    let millis = Wait::from_millis;
    let (latency, jitter, token_interval) = (millis(latency_ms), millis(10), millis(2));
    Behaviour { latency, jitter, token_interval, tokens: Tokens::new(16), error_rate, ..Behaviour::default() }
}

fn config(agents: &Agents, state: &StateDir, hold: Duration) -> anyhow::Result<Config> {
    let value = |name: &str| match name {
        "PORT" | "ADMIN_PORT" => Some("0".to_owned()),
        "STATE_DIR" => Some(state.0.display().to_string()),
        "STABLE_PORT" => Some(agents.stable.address.port().to_string()),
        "CANARY_PORT" => Some(agents.canary.address.port().to_string()),
        "HOLD" => Some(format!("{}s", hold.as_secs())),
        _ => None,
    };
    Ok(Config::parse("demo.yaml", CONFIG, &value)?)
}

/// Where the proxy may keep its state: gone with the demo.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("pointsman-demo-{}", std::process::id())))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // Not there when the proxy wrote nothing; left behind when it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is told, from the first step to the traffic's return.
struct Story<'a> {
    running: &'a Running,
    key: AgentKey,
    ledger: SharedLedger,
    screen: Screen,
    began: Instant,
    hold: Duration,
}

impl<'a> Story<'a> {
    fn new(running: &'a Running, ledger: SharedLedger, hold: Duration) -> anyhow::Result<Self> {
        let key = AgentKey { environment: EnvironmentId::new("production"), agent: AgentId::new("support-bot") };
        Ok(Self { running, key, ledger, screen: Screen::of_stdout(), began: Instant::now(), hold })
    }

    async fn tell(&mut self, agents: &Agents) -> anyhow::Result<()> {
        let hello = format!(
            "{} users send {} requests a second; {STABLE} serves, {CANARY} is deployed as a canary",
            traffic::USERS,
            traffic::REQUESTS_PER_SECOND
        );
        self.screen.event(self.began.elapsed(), &hello)?;
        self.ramp().await?;
        self.watch_for(self.hold).await?;

        agents.break_canary();
        let broken = Instant::now();
        self.screen.event(self.began.elapsed(), &format!("{CANARY} begins to fail: half of its answers are errors"))?;
        let rollback = self.rollback().await?;
        self.screen.alarm(self.began.elapsed(), &closing::verdict(&rollback))?;
        self.watch_for(AFTERMATH).await?;

        let ledger = self.ledger.lock().clone();
        closing::cost(&mut std::io::stdout(), &ledger, &rollback, broken)?;
        if let Some(sent) = ledger.last_sent_to_canary
            && sent > rollback.at.instant + SETTLED
        {
            bail!("{CANARY} still got requests {:?} after it was rolled back", sent - rollback.at.instant);
        }
        Ok(())
    }

    /// Follows the deployment up to the step that would be held for long.
    async fn ramp(&mut self) -> anyhow::Result<()> {
        let mut shown = None;
        let mut deadline = Instant::now() + STEP_GRACE;
        loop {
            let (state, weight) = self.deployment()?;
            let DeploymentState::Running { stage: Stage::Step(step), .. } = state else {
                bail!("the deployment is {} while {CANARY} is healthy", state.as_str());
            };
            if shown != Some(step) {
                shown = Some(step);
                deadline = Instant::now() + self.hold + STEP_GRACE;
                self.screen.event(self.began.elapsed(), &format!("step {}: {weight} to {CANARY}", step + 1))?;
            }
            if step == LAST_STEP {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("step {} did not end: its guards do not pass", step + 1);
            }
            self.watch_for(LOOK).await?;
        }
    }

    async fn rollback(&mut self) -> anyhow::Result<Rollback> {
        let deadline = Instant::now() + ROLLBACK_DEADLINE;
        while Instant::now() < deadline {
            if let (DeploymentState::RolledBack(rollback), _) = self.deployment()? {
                return Ok(rollback);
            }
            self.watch_for(LOOK).await?;
        }
        bail!("{CANARY} fails, and was not rolled back within {ROLLBACK_DEADLINE:?}")
    }

    fn deployment(&self) -> anyhow::Result<(DeploymentState, Weight)> {
        let view = self.running.control.deployment(&self.key).context("the deployment is gone")?;
        Ok((view.deployment.state.clone(), view.deployment.weight()))
    }

    /// Shows what happens for a while.
    async fn watch_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and would make a short watch none at all.
        looks.tick().await;
        while Instant::now() < end {
            looks.tick().await;
            let now = Instant::now();
            if self.screen.is_due(now) {
                let (_, weight) = self.deployment()?;
                let view = self.ledger.lock().view(now);
                self.screen.show(self.began.elapsed(), weight, &view)?;
            }
        }
        Ok(())
    }
}

/// Index of the step in which the canary is broken: the configuration holds it for ten minutes.
const LAST_STEP: usize = 2;

#[cfg(test)]
mod tests;
