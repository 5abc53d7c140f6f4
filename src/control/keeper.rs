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
use crate::telemetry::checkpoints::CheckpointFigures;

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
}

impl Keeper {
    pub fn new(control: Control) -> Self {
        Self { control }
    }

    /// Runs until `stop` says true, or its sender is gone; writes the last checkpoint then.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        tokio::join!(self.rounds(stop.clone()), self.checkpoints(stop));
    }

    async fn rounds(&self, mut stop: watch::Receiver<bool>) {
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        loop {
            let begun = Instant::now();
            let control = self.control.clone();
            let round = spawn_blocking(move || control.keep(Moment::now())).await;
            let rested = begun + begun.elapsed() * REST;
            let again = (begun + round.unwrap_or(ROUND)).max(rested);
            let woken = async {
                self.control.keep_wanted().await;
                sleep_until(rested).await;
            };
            tokio::select! {
                _ = &mut stopped => return,
                () = woken => {}
                () = sleep_until(again) => {}
            }
        }
    }

    /// Apart from the rounds: a disk that stalls stops nobody from moving.
    async fn checkpoints(&self, mut stop: watch::Receiver<bool>) {
        let Some(figures) = self.control.checkpoints() else { return };
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        let mut checkpoints = Checkpoints { control: &self.control, figures, failing: false };
        let mut due = Instant::now() + INTERVAL;
        loop {
            let next = async {
                sleep_until(due).await;
                let begun = Instant::now();
                checkpoints.write().await;
                Instant::now() + INTERVAL.max(begun.elapsed() * PART)
            };
            tokio::select! {
                _ = &mut stopped => break,
                next = next => due = next,
            }
        }
        if Instant::now() >= due {
            // A pass was given up midway, and what it had in hand on the blocking thread may come back too late.
            self.control.pins().mark_all_changed();
        }
        if timeout(LAST, checkpoints.write()).await.is_err() {
            tracing::error!("the last checkpoint of conversations was not written within {} s", LAST.as_secs());
        }
    }
}

struct Checkpoints<'a> {
    control: &'a Control,
    figures: &'a CheckpointFigures,
    failing: bool,
}

impl Checkpoints<'_> {
    async fn write(&mut self) {
        let written = self.pass().await;
        self.figures.ended(written.is_ok());
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
        let mut pass = Pass::begin(self.control.pins().clone());
        loop {
            let next = spawn_blocking(move || (pass.next(), pass)).await;
            let (documents, rest) = next.map_err(|panicked| StoreError::Failed(panicked.to_string()))?;
            let Some(aside) = documents else { return Ok(()) };
            pass = rest;
            written(self.control.write_spare(Write { aside, ..Write::default() })).await?;
        }
    }
}
