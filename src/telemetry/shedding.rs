//! What a worker counts about having too much to do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counters::add;

/// Whom a worker refuses just now, the least important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Shedding {
    #[default]
    Nobody,
    Low,
    /// And low.
    Normal,
}

/// Of one worker.
#[derive(Debug, Default)]
pub struct SheddingCounters {
    low: AtomicU64,
    normal: AtomicU64,
    lateness_us: AtomicU64,
    level: AtomicU64,
}

impl SheddingCounters {
    /// Counts a request that was refused, by the least that would have refused it.
    pub fn refused(&self, by: Shedding) {
        add(if by == Shedding::Low { &self.low } else { &self.normal });
    }

    pub fn refusals(&self, by: Shedding) -> u64 {
        let counter = if by == Shedding::Low { &self.low } else { &self.normal };
        counter.load(Ordering::Relaxed)
    }

    /// How the worker is doing now.
    pub fn set(&self, lateness: Duration, level: Shedding) {
        let micros = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX);
        self.lateness_us.store(micros, Ordering::Relaxed);
        self.level.store(level as u64, Ordering::Relaxed);
    }

    pub fn lateness(&self) -> Duration {
        Duration::from_micros(self.lateness_us.load(Ordering::Relaxed))
    }

    /// As a number: 0 is nobody.
    pub fn level(&self) -> u64 {
        self.level.load(Ordering::Relaxed)
    }
}
