//! The loop that keeps conversations: once a second, and when something changed, a round of
//! [`super::service`]'s `keep`; every [`INTERVAL`], and at a clean stop, a checkpoint.
//!
//! Walking the table of pins takes milliseconds where they are many, so that is done on a blocking thread; the
//! control thread, and a rollback on it, does not wait for it. A checkpoint's commits wait until nothing else is to
//! be written, and take at most a [`PART`] of the time.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::checkpoint::Pass;
use super::model::Moment;
use super::service::{Control, ROUND};
use super::store::StoreError;
use super::writer::{Write, written};

/// From one checkpoint to the next: what a killed process loses.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Where a checkpoint takes long, the next one is so many times as far away.
const PART: u32 = 20;
/// A round that takes long is not at once followed by another one.
const REST: u32 = 4;
/// How long a stop waits for the last checkpoint.
const LAST: Duration = Duration::from_secs(10);

/// There is one.
pub struct Keeper {
    control: Control,
    failing: bool,
}

impl Keeper {
    pub fn new(control: Control) -> Self {
        Self { control, failing: false }
    }

    /// Runs until `stop` says true, or its sender is gone; writes the last checkpoint then.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        let mut due = Instant::now() + INTERVAL;
        loop {
            let begun = Instant::now();
            let control = self.control.clone();
            let round = spawn_blocking(move || control.keep(Moment::now())).await;
            let again = round.unwrap_or(ROUND).max(begun.elapsed() * REST);
            if Instant::now() >= due {
                let begun = Instant::now();
                self.checkpoint().await;
                due = Instant::now() + INTERVAL.max(begun.elapsed() * PART);
            }
            let earliest = begun + begun.elapsed() * REST;
            let woken = async {
                self.control.keep_wanted().await;
                sleep_until(earliest).await;
            };
            tokio::select! {
                _ = &mut stopped => break,
                () = woken => {}
                () = sleep_until(begun + again) => {}
            }
        }
        if timeout(LAST, self.checkpoint()).await.is_err() {
            tracing::error!("the last checkpoint of conversations was not written within {} s", LAST.as_secs());
        }
    }

    async fn checkpoint(&mut self) {
        let Some(figures) = self.control.checkpoints() else { return };
        let written = self.pass().await;
        figures.ended(written.is_ok());
        match &written {
            Ok(()) if self.failing => tracing::info!("conversations are written down again"),
            Err(why) if !self.failing => {
                tracing::error!(%why, "conversations cannot be written down: a restart would begin them anew");
            }
            _ => {}
        }
        self.failing = written.is_err();
    }

    /// Everything that has changed.
    async fn pass(&self) -> Result<(), StoreError> {
        let mut pass = Pass::begin(self.control.pins());
        loop {
            let pins = self.control.pins().clone();
            let next = spawn_blocking(move || (pass.next(&pins), pass)).await;
            let (chunk, rest) = next.map_err(|panicked| StoreError::Failed(panicked.to_string()))?;
            pass = rest;
            let Some(mut chunk) = chunk else { return Ok(()) };
            let aside = std::mem::take(&mut chunk.documents);
            if let Err(why) = written(self.control.write_spare(Write { aside, ..Write::default() })).await {
                pass.give_up(&chunk, self.control.pins());
                return Err(why);
            }
        }
    }
}
