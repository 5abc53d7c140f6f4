//! The work that is done beside the reconciler: health checks, of deployments and standing ones, and queries.
//!
//! State changes under a lock, and perhaps before there is a runtime, so there it is only noted what wants to
//! run ([`Errands`]). The reconciler fetches that and runs it on its own runtime ([`Runner`]). An errand ends at
//! once, in the middle of whatever it does, when the `Errands` that it is of are dropped; all end with the runner.
//!
//! Bounds: at most [`CHECKS_AT_ONCE`] checks over sockets, [`COMMANDS_AT_ONCE`] commands and [`QUERIES_AT_ONCE`]
//! queries at a time in the whole process; the others wait for their turn, which is not part of their time-out.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::health::Probe;
use super::prometheus::Query;
use crate::telemetry::outside::OutsideCounters;
use crate::tls::client::Clients;

pub const CHECKS_AT_ONCE: usize = 64;
pub const COMMANDS_AT_ONCE: usize = 8;
pub const QUERIES_AT_ONCE: usize = 16;

/// What one owner wants done for as long as it lives.
pub struct Errands {
    waiting: Vec<Work>,
    life: watch::Sender<()>,
}

pub enum Work {
    Check(Arc<Probe>),
    Query(Arc<Query>),
}

/// One piece of work, and whether it is still wanted.
pub struct Errand {
    work: Work,
    life: watch::Receiver<()>,
}

impl Errands {
    pub fn new(work: impl Iterator<Item = Work>) -> Self {
        Self { waiting: work.collect(), life: watch::Sender::new(()) }
    }

    /// What has not begun yet; it is given out once.
    pub fn take(&mut self) -> impl Iterator<Item = Errand> {
        let life = &self.life;
        self.waiting.drain(..).map(|work| Errand { work, life: life.subscribe() })
    }
}

/// What all errands share.
pub struct Desk {
    pub checks: Semaphore,
    pub commands: Semaphore,
    pub queries: Semaphore,
    pub counters: Arc<OutsideCounters>,
    /// For what is asked over TLS.
    pub clients: Arc<Clients>,
    /// Something was found out that may move a deployment.
    pub news: Notify,
}

/// Runs errands on the runtime that it is used on.
pub struct Runner {
    desk: Arc<Desk>,
    tasks: JoinSet<()>,
}

impl Runner {
    pub fn new(counters: Arc<OutsideCounters>, clients: Arc<Clients>) -> Self {
        let desk = Desk {
            checks: Semaphore::new(CHECKS_AT_ONCE),
            commands: Semaphore::new(COMMANDS_AT_ONCE),
            queries: Semaphore::new(QUERIES_AT_ONCE),
            counters,
            clients,
            news: Notify::new(),
        };
        Self { desk: Arc::new(desk), tasks: JoinSet::new() }
    }

    pub fn run(&mut self, errands: impl IntoIterator<Item = Errand>) {
        for Errand { work, mut life } in errands {
            let desk = self.desk.clone();
            self.tasks.spawn(async move {
                let wanted = async {
                    // Nothing is ever sent: it only ends.
                    while life.changed().await.is_ok() {}
                };
                let work = async {
                    match &work {
                        Work::Check(probe) => probe.run(&desk).await,
                        Work::Query(query) => query.run(&desk).await,
                    }
                };
                tokio::select! {
                    () = wanted => {}
                    () = work => {}
                }
            });
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Returns when something new is known.
    pub async fn news(&self) {
        self.desk.news.notified().await;
    }
}
