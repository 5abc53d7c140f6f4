//! The generic cell rate algorithm (ITU-T I.371), in whole nanoseconds.
//!
//! A bucket keeps one number: when it will be full again. To take a unit moves that moment later by what a unit is
//! worth, and is allowed while the moment is no further away than the whole burst is worth. A unit's worth is rounded
//! up, so that never more than the rate is let through, and less by at most one part in 600.

use std::sync::atomic::{AtomicU64, Ordering};

/// A point in time, or a time between two; of one clock that only moves forward.
pub type Nanos = u64;

pub(super) const SECOND: Nanos = 1_000_000_000;
const MINUTE: Nanos = 60 * SECOND;
/// What a bucket may owe beyond its burst.
const DEBT_MAX: Nanos = 60 * MINUTE;

/// Beyond this, rounding a unit's worth to nanoseconds would tell.
pub const PER_MINUTE_MAX: u64 = 100_000_000;

/// So many units a minute, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub per_minute: u64,
    pub burst: u64,
}

impl Pace {
    /// How long it takes until so many units are there again.
    pub(super) fn worth(self, units: u64) -> Nanos {
        units.saturating_mul(self.unit())
    }

    fn unit(self) -> Nanos {
        MINUTE.div_ceil(self.per_minute.max(1))
    }

    /// How long a bucket takes to fill.
    pub(super) fn window(self) -> Nanos {
        self.worth(self.burst)
    }
}

/// When the bucket will be full; in the past, it is.
#[derive(Default)]
pub(super) struct Fill(AtomicU64);

impl Fill {
    /// Takes so many units: when the bucket will be full then, or else how long to wait for them.
    pub fn take(&self, pace: Pace, units: u64, now: Nanos) -> Result<Nanos, Nanos> {
        let (worth, latest) = (pace.worth(units), now.saturating_add(pace.window()));
        let next = |full: Nanos| full.max(now).saturating_add(worth);
        let take = |full| Some(next(full)).filter(|full| *full <= latest);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(full) => Ok(next(full)),
            Err(full) => Err(next(full) - latest),
        }
    }

    /// Gives back so many units that [`Fill::take`] took until `until`. What has come back by itself meanwhile is not
    /// given a second time.
    pub fn give_back(&self, pace: Pace, units: u64, until: Nanos, now: Nanos) {
        let worth = pace.worth(units).min(until.saturating_sub(now));
        let give = |full: Nanos| Some(full.saturating_sub(worth).max(full.min(now)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// Takes so many units, whether they are there or not.
    pub fn charge(&self, pace: Pace, units: u64, now: Nanos) {
        let latest = now.saturating_add(pace.window()).saturating_add(DEBT_MAX);
        let charge = |full: Nanos| Some(full.max(now).saturating_add(pace.worth(units)).min(latest.max(full)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
    }

    pub fn is_full(&self, now: Nanos) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }

    /// When it was or will be full.
    pub fn full_at(&self) -> Nanos {
        self.0.load(Ordering::Relaxed)
    }
}

/// The units that are left in a bucket that will be full at `full`.
pub(super) fn left(pace: Pace, full: Nanos, now: Nanos) -> u64 {
    pace.window().saturating_sub(full.saturating_sub(now)) / pace.unit()
}
