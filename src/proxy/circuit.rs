//! A request's place within its version's circuit breaker: asked for before an endpoint is chosen, given back when the
//! exchange has ended and is counted. The rules are those of [`crate::routing::breaker`].
//!
//! What is refused is the version's outcome `circuit_open`, an error: a canary whose breaker opened is judged by what
//! its clients got, and not by the few requests that still came through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::header::{HeaderValue, RETRY_AFTER};

use super::error::Fault;
use crate::routing::breaker::Passage;
use crate::routing::resilience::BreakerSpec;
use crate::routing::table::{Agent, Version};
use crate::telemetry::counters::{ErrorCode, add};
use crate::telemetry::stats::{BreakerPhase, Change, Outcome};

/// For how long those stay away for whom there was no room.
const NO_ROOM_WAIT: Duration = Duration::from_secs(1);

/// A request's place. Who has it gives it back by [`Place::leave`].
pub(super) struct Place(Passage);

/// Lets a request through to the version. `Ok(None)`: the agent has no breaker.
pub(super) fn enter(agent: &Agent, version: &Version) -> Result<Option<Place>, Fault> {
    let Some(spec) = &agent.spec.exchange.resilience.breaker else { return Ok(None) };
    if !count(&version.stats.protection.concurrent, spec.max_concurrent) {
        return Err(refusal("the version has as many requests as it may have", NO_ROOM_WAIT));
    }
    let change = spec.admit(&version.stats, Instant::now());
    tell(version, &change);
    change.said.map(|passage| Some(Place(passage))).map_err(|wait| {
        uncount(&version.stats.protection.concurrent);
        refusal("the version has failed too often and gets no requests just now", wait)
    })
}

impl Place {
    /// The head of an answer is good. The rest may take long, and says nothing of whether the version is back.
    pub fn answered(&mut self, agent: &Agent, version: &Version, now: Instant) {
        let (Self(Passage::Probe { .. }), Some(spec)) = (&self, breaker(agent)) else { return };
        tell(version, &spec.answered(&version.stats, self.0, now));
        self.0 = Passage::Free;
    }

    /// The exchange has ended, and is counted.
    pub fn leave(self, agent: &Agent, version: &Version, outcome: Outcome, now: Instant) {
        uncount(&version.stats.protection.concurrent);
        if let Some(spec) = breaker(agent) {
            tell(version, &spec.ended(&version.stats, self.0, outcome, now));
        }
    }
}

/// Among those that wait for a connection, or for their next attempt, until dropped.
pub(super) struct Waiting {
    agent: Arc<Agent>,
    version: usize,
}

/// Refused at once where as many wait as may. `Ok(None)`: any number may.
pub(super) fn wait(agent: &Arc<Agent>, version: usize) -> Result<Option<Waiting>, Fault> {
    let Some(most) = breaker(agent).and_then(|spec| spec.max_pending) else { return Ok(None) };
    if !count(&agent.versions[version].stats.protection.pending, Some(most)) {
        return Err(refusal("as many requests wait for the version as may", NO_ROOM_WAIT));
    }
    Ok(Some(Waiting { agent: agent.clone(), version }))
}

impl Drop for Waiting {
    fn drop(&mut self) {
        uncount(&self.agent.versions[self.version].stats.protection.pending);
    }
}

fn breaker(agent: &Agent) -> Option<&BreakerSpec> {
    agent.spec.exchange.resilience.breaker.as_ref()
}

/// One more, up to `most`.
fn count(counter: &AtomicU32, most: Option<u32>) -> bool {
    let most = most.unwrap_or(u32::MAX);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1)).is_ok()
}

fn uncount(counter: &AtomicU32) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

fn refusal(message: &'static str, wait: Duration) -> Fault {
    let mut fault = Fault::new(ErrorCode::CircuitOpen, message);
    // Whole seconds, and never too early.
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    fault.fields.push((RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX))));
    fault
}

/// Says it in the log, and counts it, where the breaker is in another state than before.
fn tell<T>(version: &Version, change: &Change<T>) {
    if change.before == change.after {
        return;
    }
    let labels = &version.stats.labels;
    let (environment, agent, version_id) = (&labels.environment, &labels.agent, &labels.version);
    match change.after {
        BreakerPhase::Open => {
            add(&version.stats.protection.opened);
            tracing::warn!(%environment, %agent, version = %version_id, "the circuit breaker opened: no more requests");
        }
        BreakerPhase::HalfOpen => {
            tracing::info!(%environment, %agent, version = %version_id, "the circuit breaker lets a few requests through");
        }
        BreakerPhase::Closed => {
            tracing::info!(%environment, %agent, version = %version_id, "the circuit breaker closed");
        }
    }
}
