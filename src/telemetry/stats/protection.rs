//! What protects a version from too much, and its clients from it: how its circuit breaker stands, and what its retry
//! budget has spent. Kept with the figures, so that it outlives the tables; the rules are those of
//! `routing::breaker` and `routing::budget`.
//!
//! Unlike the figures this is shared by the workers. A version without a breaker touches nothing of it, but for
//! requests that are sent again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What became of the wish to send a request again. Also the metric label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetryResult {
    /// It was sent again.
    Sent,
    /// The budget had none left; the failure was passed on.
    NoBudget,
    /// There had been as many attempts as may be; the failure was passed on.
    Exhausted,
}

impl RetryResult {
    pub const ALL: [Self; 3] = [Self::Sent, Self::NoBudget, Self::Exhausted];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::NoBudget => "no_budget",
            Self::Exhausted => "exhausted",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BreakerPhase {
    /// Requests pass.
    #[default]
    Closed,
    /// None does.
    Open,
    /// A few do, to see.
    HalfOpen,
}

impl BreakerPhase {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How a breaker stands: one number, so that it changes all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerState {
    pub phase: BreakerPhase,
    /// Closed: failures in a row. Half-open: requests let through, but for those that told nothing.
    pub count: u16,
    /// Half-open: those of them that went well.
    pub passed: u16,
    /// Milliseconds since [`Protection`] began. Open: when it ends. Half-open: when it began.
    pub at_ms: u64,
}

/// A count beyond this stays at it.
pub const COUNT_MAX: u16 = (1 << COUNT_BITS) - 1;
const COUNT_BITS: u32 = 11;
/// Of the moment: thirty-four years.
const AT_BITS: u32 = 40;

impl BreakerState {
    fn pack(self) -> u64 {
        let counts = u64::from(self.count.min(COUNT_MAX)) << COUNT_BITS | u64::from(self.passed.min(COUNT_MAX));
        let at = self.at_ms.min((1 << AT_BITS) - 1);
        (self.phase as u64) << (2 * COUNT_BITS + AT_BITS) | counts << AT_BITS | at
    }

    fn unpack(packed: u64) -> Self {
        let count = |packed: u64| packed as u16 & COUNT_MAX;
        Self {
            phase: BreakerPhase::ALL[(packed >> (2 * COUNT_BITS + AT_BITS)) as usize % BreakerPhase::ALL.len()],
            count: count(packed >> (COUNT_BITS + AT_BITS)),
            passed: count(packed >> AT_BITS),
            at_ms: packed & ((1 << AT_BITS) - 1),
        }
    }
}

/// What had been counted when a window of the breaker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowStart {
    pub at_ms: u64,
    pub judged: u64,
    pub errors: u64,
}

#[derive(Debug)]
pub struct Protection {
    began: Instant,
    /// In the unit of the retry budget.
    pub retries_spent: AtomicU64,
    breaker: AtomicU64,
    /// Times that it opened.
    pub opened: AtomicU64,
    /// Exchanges that passed the breaker and have not ended.
    pub concurrent: AtomicU32,
    /// Those of them that wait for a connection or their next attempt.
    pub pending: AtomicU32,
    window_at_ms: AtomicU64,
    window_judged: AtomicU64,
    window_errors: AtomicU64,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            retries_spent: AtomicU64::default(),
            breaker: AtomicU64::new(BreakerState::default().pack()),
            opened: AtomicU64::default(),
            concurrent: AtomicU32::default(),
            pending: AtomicU32::default(),
            window_at_ms: AtomicU64::default(),
            window_judged: AtomicU64::default(),
            window_errors: AtomicU64::default(),
        }
    }
}

impl Protection {
    /// Since this began.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    pub fn elapsed_ms(&self, now: Instant) -> u64 {
        u64::try_from(self.elapsed(now).as_millis()).unwrap_or(u64::MAX)
    }

    pub fn breaker(&self) -> BreakerState {
        BreakerState::unpack(self.breaker.load(Ordering::Relaxed))
    }

    /// Replaces the breaker's state by what `next` makes of it; what `next` says beside it comes back with the states
    /// before and after. No state is lost where several workers do so at once.
    pub fn change_breaker<T>(&self, mut next: impl FnMut(BreakerState) -> (BreakerState, T)) -> Change<T> {
        let mut packed = self.breaker.load(Ordering::Relaxed);
        loop {
            let before = BreakerState::unpack(packed);
            let (after, said) = next(before);
            let change = Change { before: before.phase, after: after.phase, said };
            // Most requests change nothing, and then no other core's cache line is taken.
            if after == before {
                return change;
            }
            match self.breaker.compare_exchange_weak(packed, after.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return change,
                Err(found) => packed = found,
            }
        }
    }

    pub fn window(&self) -> WindowStart {
        WindowStart {
            at_ms: self.window_at_ms.load(Ordering::Relaxed),
            judged: self.window_judged.load(Ordering::Relaxed),
            errors: self.window_errors.load(Ordering::Relaxed),
        }
    }

    /// Who reads between two of these sees too few exchanges or too few failures, and waits for the next failure.
    pub fn begin_window(&self, start: WindowStart) {
        self.window_errors.store(start.errors, Ordering::Relaxed);
        self.window_judged.store(start.judged, Ordering::Relaxed);
        self.window_at_ms.store(start.at_ms, Ordering::Relaxed);
    }
}

/// A change of a breaker, which may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<T> {
    pub before: BreakerPhase,
    pub after: BreakerPhase,
    pub said: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_one_number_and_back() {
        for phase in BreakerPhase::ALL {
            for (count, passed, at_ms) in [(0, 0, 0), (1, 2, 3), (COUNT_MAX, COUNT_MAX, (1 << AT_BITS) - 1)] {
                let state = BreakerState { phase, count, passed, at_ms };
                assert_eq!(BreakerState::unpack(state.pack()), state);
            }
        }
        assert_eq!(BreakerState::default().pack(), 0);
        let beyond = BreakerState { phase: BreakerPhase::Open, count: u16::MAX, passed: u16::MAX, at_ms: u64::MAX };
        let most = BreakerState { count: COUNT_MAX, passed: COUNT_MAX, at_ms: (1 << AT_BITS) - 1, ..beyond };
        assert_eq!(BreakerState::unpack(beyond.pack()), most);
    }

    #[test]
    fn no_change_is_lost() {
        const EACH: u16 = 400;
        let protection = Protection::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        protection.change_breaker(|state| (BreakerState { count: state.count + 1, ..state }, ()));
                    }
                });
            }
        });
        assert_eq!(protection.breaker().count, 4 * EACH);
    }
}
