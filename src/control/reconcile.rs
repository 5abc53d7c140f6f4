//! The loop: a bell, a deadline or a command → judge, plan, publish.
//!
//! It takes no input but the state that [`Control`] holds, so looking once too often does no harm. Bounds: one
//! look per [`MIN_GAP`], and at most a fifth of the thread's time where looks are dear; where nothing is live
//! and nothing rings, it sleeps.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::model::Moment;
use super::service::Control;

/// Outcomes that come in meanwhile are judged together.
const MIN_GAP: Duration = Duration::from_millis(5);

/// Drives the deployments of one [`Control`]; there is one.
pub struct Reconciler {
    control: Control,
}

impl Reconciler {
    pub(super) fn new(control: Control) -> Self {
        Self { control }
    }

    /// Runs until `stop` says true, or its sender is gone.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = self.wanted() => {}
            }
            let begun = Instant::now();
            self.control.look(Moment::now());
            let gap = MIN_GAP.max(begun.elapsed() * 4);
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep_until(begun + gap) => {}
            }
        }
    }

    /// Returns when there is a reason to look. A command only moves the deadline: it has done its own work.
    async fn wanted(&self) {
        loop {
            let next = self.control.next_look(Moment::now());
            let deadline = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.control.registry().bell().heard() => return,
                () = deadline => return,
                () = self.control.changed() => {}
            }
        }
    }
}
