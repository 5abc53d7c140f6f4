//! A log-linear histogram with one writer, and its sums as plain numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bump;

/// Whole microseconds; what no `u64` can hold counts as the longest that it can.
fn micros(value: Duration) -> u64 {
    u64::try_from(value.as_micros()).unwrap_or(u64::MAX)
}

const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
pub(super) const TOP_OCTAVE: u32 = 32;
/// 464 buckets, 3.6 KiB: every microsecond below 16 µs, then 16 buckets an octave (at most 6.25 % wide),
/// up to 71 min; what is longer counts in the last one.
pub const HISTOGRAM_BUCKETS: usize = ((TOP_OCTAVE - SUB_BITS + 1) as usize) << SUB_BITS;

pub(super) fn bucket_of(us: u64) -> usize {
    if us < SUB {
        return us as usize;
    }
    let octave = us.ilog2().min(TOP_OCTAVE - 1);
    let us = us.min((1 << TOP_OCTAVE) - 1);
    let sub = (us >> (octave - SUB_BITS)) & (SUB - 1);
    (((octave - SUB_BITS + 1) as usize) << SUB_BITS) + sub as usize
}

/// The smallest value above bucket `index`, in microseconds.
pub fn bucket_end_us(index: usize) -> u64 {
    let (octave, sub) = ((index >> SUB_BITS) as u32, index as u64 & (SUB - 1));
    if octave == 0 {
        return sub + 1;
    }
    (SUB + sub + 1) << (octave - 1)
}

pub(super) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Histogram {
    pub fn new() -> Self {
        let buckets = (0..HISTOGRAM_BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, sum_us: AtomicU64::new(0) }
    }

    pub fn record(&self, value: Duration) {
        self.record_units(micros(value));
    }

    /// What is no duration is counted in whole units of its own.
    pub fn record_units(&self, value: u64) {
        bump(&self.buckets[bucket_of(value)], 1);
        bump(&self.sum_us, value);
    }
}

/// A histogram's counts at one moment, in microseconds; sums and differences are histograms too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    pub counts: Box<[u64]>,
    pub sum_us: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { counts: vec![0; HISTOGRAM_BUCKETS].into(), sum_us: 0 }
    }
}

impl Distribution {
    /// For tests and models: the hot path records into the shard's atomic form.
    pub fn record(&mut self, value: Duration) {
        let us = micros(value);
        self.counts[bucket_of(us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.sum_us = 0;
    }

    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (count, bucket) in self.counts.iter_mut().zip(&histogram.buckets) {
            *count += bucket.load(Ordering::Relaxed);
        }
        self.sum_us = self.sum_us.saturating_add(histogram.sum_us.load(Ordering::Relaxed));
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came in since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then));
        Self { counts: counts.collect(), sum_us: self.sum_us.saturating_sub(earlier.sum_us) }
    }

    /// The upper end of the bucket that holds the quantile: above the true value, by at most 6.25 % or
    /// 1 µs. `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_micros(bucket_end_us(index)));
            }
        }
        None
    }

    /// How many were longer than `limit`, to the bucket's precision: those of the limit's own bucket are not.
    pub fn above(&self, limit: Duration) -> u64 {
        self.counts[bucket_of(micros(limit)) + 1..].iter().sum()
    }
}
