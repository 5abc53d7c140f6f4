//! `pointsman run`: the proxy, until a signal stops it, or another process takes its place.

mod events;
mod successor;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::app::{self, Running, Sockets};
use crate::config::Config;
use crate::control::service::Control;
use crate::routing::parse::nearest;
use crate::routing::table::RoutingTable;
use crate::systemd;
use crate::takeover::{Desk, Predecessor};
use crate::telemetry::logging::{self, LogFormat};
use crate::telemetry::stats::StatsRegistry;
use events::{Event, Events};
use successor::{Itself, hand_over};

#[derive(clap::Args)]
pub struct Args {
    /// The YAML file; changes to it take effect while running, and on SIGHUP
    #[arg(long, short, value_name = "FILE", default_value = "pointsman.yaml", env = "POINTSMAN_CONFIG")]
    config: PathBuf,
    /// What to log: a level, or `target=level,…`; also by POINTSMAN_LOG
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// `text`, `json`, or `auto`: text on a terminal
    #[arg(long, value_name = "FORMAT", default_value_t = LogFormat::Auto)]
    log_format: LogFormat,
    /// Take over from the instance that runs, if one does: its sockets, then its state; it finishes what it has in
    /// flight, and ends. SIGUSR2 has a running instance start its binary anew with this
    #[arg(long)]
    takeover: bool,
    /// Where the instances meet; default: takeover.sock in the state_dir
    #[arg(long, value_name = "PATH")]
    takeover_socket: Option<PathBuf>,
}

/// In the state_dir: who has the one has the other.
const TAKEOVER_SOCKET: &str = "takeover.sock";

pub fn run(args: Args) -> anyhow::Result<()> {
    logging::init(args.log_format, args.log_level.as_deref())?;
    let itself = Itself::remembered()?;
    let given = systemd::sockets().context("the service manager's sockets")?;
    let config = Config::load(&args.config)?;
    // Before anything listens: whoever sees the port may already send the signal, which must find a handler.
    let mut events = Events::armed()?;
    let desk = Place { given: args.takeover_socket.is_some(), path: takeover_path(&args, &config) };
    let predecessor = if args.takeover { desk.predecessor()? } else { None };
    let (mut running, predecessor) = start(config, args.config, given, predecessor)?;
    let mut desk = desk.open(predecessor, &events)?;
    for address in &running.listeners {
        tracing::info!(%address, "listening");
    }
    tracing::info!(address = %running.admin, "admin side listening");
    systemd::notify("READY=1");
    loop {
        match events.next() {
            Event::Upgrade => itself.start_successor(),
            Event::Takeover(session) => match hand_over(running, session, &mut events)? {
                Some(kept) => running = kept,
                None => return Ok(()),
            },
            Event::Stop => {
                // Nobody is to take over what ends.
                desk.take();
                systemd::notify("STOPPING=1");
                tracing::info!("stopping: exchanges in flight may end; a second signal ends at once");
                running.stop_unless(&mut |wait| events.stops_within(wait));
                return Ok(());
            }
        }
    }
}

/// Starts, with the sockets of whoever had them before.
fn start(
    config: Config,
    file: PathBuf,
    given: Vec<(String, TcpListener)>,
    predecessor: Option<Predecessor>,
) -> anyhow::Result<(Running, Option<Predecessor>)> {
    let mut sockets = Sockets::default();
    for (name, socket) in given {
        sockets.add(name, socket.local_addr()?, socket.into());
    }
    let Some(mut predecessor) = predecessor else {
        return Ok((app::start_with(config, Some(file), sockets, &mut ())?, None));
    };
    tracing::info!(pid = predecessor.pid(), "taking over");
    for (name, address, socket) in predecessor.sockets().context("taking over")? {
        // An admin side that is to be elsewhere now is bound anew.
        if name != app::ADMIN || address == config.admin.address {
            sockets.add(name, address, socket);
        }
    }
    let running = app::start_with(config, Some(file), sockets, &mut predecessor)?;
    // It has given its place away, and this one has it: nothing is to be undone where it cannot hear.
    if let Err(error) = predecessor.say_accepting() {
        tracing::warn!(%error, "the process that was taken over from does not hear that it may end");
    }
    Ok((running, Some(predecessor)))
}

fn takeover_path(args: &Args, config: &Config) -> Option<PathBuf> {
    let of_state = || Some(config.state_dir.as_ref()?.join(TAKEOVER_SOCKET));
    args.takeover_socket.clone().or_else(of_state)
}

/// Where processes of one instance meet.
struct Place {
    /// By an argument, so that it must be there.
    given: bool,
    path: Option<PathBuf>,
}

impl Place {
    fn predecessor(&self) -> anyhow::Result<Option<Predecessor>> {
        let path = self.path.as_ref().context("--takeover without a state_dir needs --takeover-socket")?;
        let found = Predecessor::find(path).with_context(|| format!("cannot take over by {}", path.display()))?;
        if found.is_none() {
            tracing::info!(path = %path.display(), "nothing to take over from; starting afresh");
        }
        Ok(found)
    }

    /// From now on, another process may take over. Where this one has itself, it is the only one left, and serves on
    /// even if no other can follow.
    fn open(self, predecessor: Option<Predecessor>, events: &Events) -> anyhow::Result<Option<Desk>> {
        let Some(path) = self.path else { return Ok(None) };
        let needed = self.given && predecessor.is_none();
        match Desk::open(&path, predecessor, events.door()) {
            Ok(desk) => Ok(Some(desk)),
            Err(error) if needed => Err(error).with_context(|| format!("--takeover-socket {}", path.display())),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no process can take over from this one");
                Ok(None)
            }
        }
    }
}

/// The table that a fresh start with this configuration would publish: deployments at their first step.
pub(super) fn offline_table(config: &Config) -> anyhow::Result<Arc<RoutingTable>> {
    let registry = Arc::new(StatsRegistry::new(1));
    let (control, _) = Control::start(config.intent(), registry).map_err(app::all_rejections)?;
    Ok(control.table().load_full())
}

/// What to add to the refusal of an agent's name.
pub(super) fn did_you_mean(name: &str, table: &RoutingTable) -> String {
    let names = table.agents.iter().map(|agent| agent.id().as_str());
    nearest(name, names).map_or(String::new(), |near| format!("; did you mean {near:?}?"))
}
