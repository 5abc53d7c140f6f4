//! `pointsman run`: the proxy, until a signal stops it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app;
use crate::config::Config;
use crate::control::service::Control;
use crate::routing::parse::nearest;
use crate::routing::table::RoutingTable;
use crate::telemetry::logging::{self, LogFormat};
use crate::telemetry::stats::StatsRegistry;

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
}

pub fn run(args: Args) -> anyhow::Result<()> {
    logging::init(args.log_format, args.log_level.as_deref())?;
    let config = Config::load(&args.config)?;
    // Before anything listens: whoever sees the port may already send the signal, which must find a handler.
    let stop = StopSignal::armed()?;
    let running = app::start(config, Some(args.config))?;
    for address in &running.listeners {
        tracing::info!(%address, "listening");
    }
    tracing::info!(address = %running.admin, "admin side listening");
    stop.wait();
    tracing::info!("stopping: no new connections, exchanges in flight may end");
    running.stop();
    Ok(())
}

/// SIGTERM or SIGINT; noted from when it is armed.
struct StopSignal {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn armed() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(inside);
        Ok(Self { runtime, terminate, interrupt })
    }

    fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        });
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
