//! A stop, in the order that fails no request: readiness first, then the listeners, then what is in flight.

use std::time::{Duration, Instant};

use super::{Plane, Running};
use crate::telemetry::stats::{Histograms, Totals};

/// Waits, and answers whether to hurry: whoever asked for the stop has asked again.
pub type Patience<'a> = &'a mut dyn FnMut(Duration) -> bool;

const POLL: Duration = Duration::from_millis(10);
/// How often a long drain says what is left.
const SAY_EVERY: Duration = Duration::from_secs(5);

impl Running {
    /// Lets exchanges in flight end (to the drain time-out), joins the threads.
    pub fn stop(self) {
        self.stop_unless(&mut |wait| {
            std::thread::sleep(wait);
            false
        });
    }

    /// The same, and ends at once when `hurried` says so.
    pub fn stop_unless(self, hurried: Patience<'_>) {
        let Self { plane, control_plane, ready, control, .. } = self;
        drop(ready);
        let hurry = plane.await_delay(hurried);
        plane.drain(hurry, hurried);
        drop(control);
        control_plane.stop();
    }
}

impl Plane {
    /// Accepts on, while load balancers see that readiness has failed.
    fn await_delay(&self, hurried: Patience<'_>) -> bool {
        self.shared.leave();
        if self.drain_delay.is_zero() {
            return false;
        }
        tracing::info!(delay = ?self.drain_delay, "not ready any more; accepting on for limits.drain_delay");
        hurried(self.drain_delay)
    }

    /// Closes the listeners, and lets what is in flight end.
    pub(super) fn drain(mut self, mut hurry: bool, hurried: Patience<'_>) {
        self.shared.leave();
        self.data_plane.close();
        let patience = if hurry { Duration::ZERO } else { self.drain_timeout };
        self.data_plane.drain(Instant::now() + patience);
        self.say("the listeners are closed; waiting for what is in flight");
        let mut said = Instant::now();
        while !self.data_plane.is_drained() {
            if hurried(POLL) && !hurry {
                hurry = true;
                tracing::warn!("asked again to stop: ending at once");
                self.data_plane.drain(Instant::now());
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                self.say("still waiting for what is in flight");
            }
        }
        match self.shared.cut() {
            0 => tracing::info!("every exchange has ended"),
            cut => tracing::warn!(cut, "exchanges were cut"),
        }
        if let Some(log) = &self.shared.options.load().access_log {
            log.stop();
        }
    }

    fn say(&self, what: &str) {
        let in_flight = |totals: &mut Totals, version: &crate::telemetry::stats::VersionStats| {
            version.read(totals, Histograms::default());
            totals.in_flight()
        };
        let mut totals = Totals::default();
        let exchanges: u64 = self.registry.versions().iter().map(|version| in_flight(&mut totals, version)).sum();
        tracing::info!(exchanges, connections = self.shared.open_connections(), "{what}");
    }
}
