//! Guards, windows, tests and verdicts. Pure: counts and times come in, verdicts go out.
//!
//! The caller hands [`Judge::observe`] the cumulative [`Counts`] of the canary and of stable, at any moment
//! and as often as it likes, and asks for the [`Judge::verdict`] or, with words and figures, the
//! [`Judge::readings`]. Times are `Duration`s since any origin of the caller's choice that never runs back.
//!
//! Two kinds of guard:
//!
//! - A *windowed threshold* compares the figure over the last `window` with a limit (`judge/window.rs`). It is what
//!   people know; looked at often enough it will at some time trip by chance.
//! - An *anytime-valid* guard has a `confidence`. It may be evaluated after every request, and the chance
//!   that it ever trips during a deployment of a version that keeps the limit is at most 1 − confidence.
//!   `judge/evidence.rs` has the mathematics against a fixed limit, `judge/against.rs` those against stable.
//!
//! What holds for all of them:
//!
//! - A guard asks each request one question: yes or no (failed? slower than the limit?), or how much (tokens, cost).
//! - A mean that is judged with a confidence has a cap, and each request counts up to it: `judge/scale.rs`. Its limit
//!   is promised in full; what single requests take beyond the cap is not seen. A windowed mean has none.
//! - Gaps between tokens are many in one stream and come and go together: they take a window, no confidence.
//! - Missing data is [`Verdict::Hold`]: never a breach, never a pass.
//! - A breach is latched: a later look cannot miss it. A deployment that goes on after one (an operator's
//!   resume) takes a new [`Judge`], and with it a new allowance of false alarms.
//! - Memory is O(1) per anytime-valid guard, and bounded per window (`judge/window.rs`).
//!
//! Left out: what to do about a verdict (`control`), guards on outside figures, and cohorts. Requests are
//! judged in the order in which they *end*. Where fast failures end long before slow successes, a canary's
//! first outcomes would look worse than it is: so requests in flight count as good ones when their number
//! reaches a new height. The other end is not corrected: when traffic stops at once, the slow requests end
//! last, and a fixed limit on latency, tokens or cost sees them in a row. A comparison with stable sees the same on
//! both sides.

mod against;
mod answers;
mod counts;
mod evidence;
mod explain;
mod feed;
mod guard;
mod interval;
mod mean;
mod metric;
mod reading;
mod scale;
pub mod simulate;
#[cfg(test)]
mod tests;
mod threshold;
mod watch;
mod window;

use std::time::Duration;

pub use counts::{Counts, Tally};
pub use feed::Feed;
pub use guard::{GuardError, GuardSpec, GuardTest, Limit};
pub use metric::{Metric, Unit, UnknownMetric};
pub use reading::{Figures, Forecast, Reading, Verdict, overall};

use watch::Watch;
use window::Windows;

/// The guards of one running deployment, and all that they remember.
#[derive(Clone, Debug)]
pub struct Judge {
    watches: Vec<Watch>,
    windows: Windows,
}

impl Judge {
    /// Judges what comes after the two baselines. Stable's earlier figures still tell what to expect of it.
    pub fn new(guards: &[GuardSpec], canary: &Counts, stable: &Counts, now: Duration) -> Self {
        Self {
            watches: guards.iter().map(|guard| Watch::new(*guard, canary, stable)).collect(),
            windows: Windows::new(guards, canary, now),
        }
    }

    /// Takes in the cumulative counts as of `now`. Nothing that came since the last look is lost,
    /// however far apart the looks are.
    pub fn observe(&mut self, now: Duration, canary: &Counts, stable: &Counts) {
        self.windows.observe(now, canary);
        for watch in &mut self.watches {
            watch.observe(now, canary, stable, &self.windows);
        }
    }

    /// Says that a step of the ramp begins: from here, each guard needs its number of requests anew to pass.
    /// Evidence of trouble is kept.
    pub fn step_started(&mut self) {
        for watch in &mut self.watches {
            watch.step_started();
        }
    }

    /// Whether any guard is broken, as of the last look.
    pub fn has_breached(&self) -> bool {
        self.watches.iter().any(Watch::has_breached)
    }

    /// All guards together, without the words: cheap enough for every wake-up.
    pub fn verdict(&self, now: Duration) -> Verdict {
        Verdict::all(self.watches.iter().map(|watch| watch.verdict(now, &self.windows)))
    }

    /// The reading of the first guard that is broken, if one is. Looks for nothing else: a rollback waits for it.
    pub fn breach(&self, now: Duration) -> Option<Reading> {
        self.watches.iter().find(|watch| watch.has_breached()).map(|watch| watch.reading(now, &self.windows))
    }

    /// One per guard, in the guards' order. Costs up to a millisecond each, for it looks ahead: not for every look.
    pub fn readings(&self, now: Duration) -> Vec<Reading> {
        self.watches.iter().map(|watch| watch.reading(now, &self.windows)).collect()
    }
}
