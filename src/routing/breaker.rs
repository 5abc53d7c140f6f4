//! A version's circuit breaker: closed, it lets requests through and watches how they end; open, it lets none through
//! for a while; half-open, it lets a few through, and closes when all of them go well or opens again when one fails.
//!
//! What it counts as a failure is what counts as the version's error. What the breaker itself refuses is no evidence
//! for it, or it would hold itself open; for the version's figures it is an error, for that is what clients got.
//!
//! States are swapped whole by all workers ([`Protection::change_breaker`]); a request that finds the breaker closed
//! and ends well changes nothing.

use std::time::{Duration, Instant};

use super::resilience::{BreakerSpec, ErrorShare};
use crate::telemetry::stats::{BreakerPhase, BreakerState, COUNT_MAX, Change, Outcome, VersionStats, WindowStart};

/// How often those come back who are refused while others are being let through to see.
const HALF_OPEN_WAIT: Duration = Duration::from_secs(1);

/// How a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// As one of many.
    Free,
    /// To see how it goes, in the half-open state that began then.
    Probe { began_ms: u64 },
}

/// What a request's end says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Good,
    Failed {
        /// With this one the share of failures is reached.
        share_reached: bool,
    },
    /// The client broke it off.
    Nothing,
}

impl BreakerSpec {
    /// Lets a request through, or says how long to stay away.
    pub fn admit(&self, stats: &VersionStats, now: Instant) -> Change<Result<Passage, Duration>> {
        let now_ms = stats.protection.elapsed_ms(now);
        stats.protection.change_breaker(|state| self.admitted(state, now_ms))
    }

    /// A request has ended, and is counted in `stats`.
    pub fn ended(&self, stats: &VersionStats, passage: Passage, outcome: Outcome, now: Instant) -> Change<()> {
        let now_ms = stats.protection.elapsed_ms(now);
        let end = match outcome {
            _ if !outcome.counts() || outcome == Outcome::CircuitOpen => End::Nothing,
            _ if outcome.is_error() => End::Failed { share_reached: self.share_reached(stats, now_ms) },
            _ => End::Good,
        };
        self.change(stats, passage, end, now_ms)
    }

    /// The head of an answer is good: enough for one that was let through to see, for the rest may take minutes.
    pub fn answered(&self, stats: &VersionStats, passage: Passage, now: Instant) -> Change<()> {
        self.change(stats, passage, End::Good, stats.protection.elapsed_ms(now))
    }

    fn change(&self, stats: &VersionStats, passage: Passage, end: End, now_ms: u64) -> Change<()> {
        let change = stats.protection.change_breaker(|state| (self.after(state, passage, end, now_ms), ()));
        if change.before == BreakerPhase::HalfOpen && change.after == BreakerPhase::Closed {
            let (judged, errors) = stats.evidence();
            stats.protection.begin_window(WindowStart { at_ms: now_ms, judged, errors });
        }
        change
    }

    fn admitted(&self, state: BreakerState, now_ms: u64) -> (BreakerState, Result<Passage, Duration>) {
        let probe = |state: BreakerState| {
            let state = BreakerState { count: state.count + 1, ..state };
            (state, Ok(Passage::Probe { began_ms: state.at_ms }))
        };
        match state.phase {
            BreakerPhase::Closed => (state, Ok(Passage::Free)),
            BreakerPhase::Open if now_ms < state.at_ms => (state, Err(Duration::from_millis(state.at_ms - now_ms))),
            BreakerPhase::Open => {
                probe(BreakerState { phase: BreakerPhase::HalfOpen, count: 0, passed: 0, at_ms: now_ms })
            }
            // Those that were let through to see may take as long as they like: it is asked anew without them.
            BreakerPhase::HalfOpen if now_ms.saturating_sub(state.at_ms) >= self.open_for_ms() => {
                probe(BreakerState { count: 0, passed: 0, at_ms: now_ms, ..state })
            }
            BreakerPhase::HalfOpen if u32::from(state.count) < self.probes() => probe(state),
            BreakerPhase::HalfOpen => (state, Err(HALF_OPEN_WAIT)),
        }
    }

    fn after(&self, state: BreakerState, passage: Passage, end: End, now_ms: u64) -> BreakerState {
        let is_probe = passage == Passage::Probe { began_ms: state.at_ms };
        match (state.phase, end) {
            (BreakerPhase::Closed, End::Good) => BreakerState { count: 0, ..state },
            (BreakerPhase::Closed, End::Failed { share_reached }) => {
                let count = (state.count + 1).min(COUNT_MAX);
                let many = self.consecutive_failures.is_some_and(|most| u32::from(count) >= most);
                if many || share_reached { self.open(now_ms) } else { BreakerState { count, ..state } }
            }
            (BreakerPhase::HalfOpen, End::Good) if is_probe => {
                let passed = (state.passed + 1).min(COUNT_MAX);
                let all = u32::from(passed) >= self.probes();
                if all { BreakerState::default() } else { BreakerState { passed, ..state } }
            }
            (BreakerPhase::HalfOpen, End::Failed { .. }) if is_probe => self.open(now_ms),
            (BreakerPhase::HalfOpen, End::Nothing) if is_probe => {
                BreakerState { count: state.count.saturating_sub(1), ..state }
            }
            // What began before it opened says nothing of now.
            _ => state,
        }
    }

    fn open(&self, now_ms: u64) -> BreakerState {
        let over_at = now_ms.saturating_add(self.open_for_ms());
        BreakerState { phase: BreakerPhase::Open, count: 0, passed: 0, at_ms: over_at }
    }

    fn open_for_ms(&self) -> u64 {
        u64::try_from(self.open_for.as_millis()).unwrap_or(u64::MAX)
    }

    fn probes(&self) -> u32 {
        self.half_open_requests.clamp(1, u32::from(COUNT_MAX))
    }

    /// Whether the share of failures in this window is reached; begins a new one when it is over.
    fn share_reached(&self, stats: &VersionStats, now_ms: u64) -> bool {
        let Some(share) = &self.error_share else { return false };
        let (judged, errors) = stats.evidence();
        let start = stats.protection.window();
        if share.is_over(start, now_ms) {
            // The failure that was just counted is the first of the new one.
            let (judged, errors) = (judged.saturating_sub(1), errors.saturating_sub(1));
            stats.protection.begin_window(WindowStart { at_ms: now_ms, judged, errors });
        }
        share.is_reached(stats.protection.window(), judged, errors)
    }
}

impl ErrorShare {
    fn is_over(&self, start: WindowStart, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(start.at_ms)) >= self.window.as_millis()
    }

    fn is_reached(&self, start: WindowStart, judged: u64, errors: u64) -> bool {
        let (judged, errors) = (judged.saturating_sub(start.judged), errors.saturating_sub(start.errors));
        judged >= u64::from(self.min_requests)
            && u128::from(errors) * 1_000_000 >= u128::from(judged) * u128::from(self.millionths)
    }
}

#[cfg(test)]
mod tests;
