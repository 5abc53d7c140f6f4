//! A log-linear histogram with one writer, and its sums as plain numbers.
//!
//! Its unit is the microsecond where it holds times, one token where it holds tokens and a millionth of the
//! currency where it holds costs.

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
/// 464 buckets, 3.6 KiB: every unit below 16, then 16 buckets an octave (at most 6.25 % wide), up to 2³² (of
/// microseconds, 71 min); what is larger counts in the last one.
pub const HISTOGRAM_BUCKETS: usize = ((TOP_OCTAVE - SUB_BITS + 1) as usize) << SUB_BITS;

/// The bucket that counts `value`, in the histogram's units.
pub fn bucket_of(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let octave = value.ilog2().min(TOP_OCTAVE - 1);
    let value = value.min((1 << TOP_OCTAVE) - 1);
    let sub = (value >> (octave - SUB_BITS)) & (SUB - 1);
    (((octave - SUB_BITS + 1) as usize) << SUB_BITS) + sub as usize
}

/// The smallest value in bucket `index`.
pub fn bucket_start(index: usize) -> u64 {
    if index == 0 { 0 } else { bucket_end(index - 1) }
}

/// The smallest value above bucket `index`.
pub fn bucket_end(index: usize) -> u64 {
    let (octave, sub) = ((index >> SUB_BITS) as u32, index as u64 & (SUB - 1));
    if octave == 0 {
        return sub + 1;
    }
    (SUB + sub + 1) << (octave - 1)
}

pub(super) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub fn new() -> Self {
        let buckets = (0..HISTOGRAM_BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, sum: AtomicU64::new(0) }
    }

    pub fn record(&self, value: Duration) {
        self.record_units(micros(value));
    }

    pub fn record_many(&self, value: Duration, count: u32) {
        let (value, count) = (micros(value), u64::from(count));
        bump(&self.buckets[bucket_of(value)], count);
        bump(&self.sum, value.saturating_mul(count));
    }

    /// As [`Self::record`], of what is no time.
    pub fn record_units(&self, value: u64) {
        bump(&self.buckets[bucket_of(value)], 1);
        bump(&self.sum, value);
    }
}

/// A histogram's counts at one moment, in its unit; sums and differences are histograms too.
///
/// Takes memory from its first count on: figures that a version does not have cost nothing to carry about.
#[derive(Debug, Default)]
pub struct Distribution {
    /// By bucket; empty while nothing was ever counted.
    counts: Box<[u64]>,
    pub sum: u64,
}

impl Clone for Distribution {
    fn clone(&self) -> Self {
        Self { counts: self.counts.clone(), sum: self.sum }
    }

    /// Into the buffer that is there.
    fn clone_from(&mut self, from: &Self) {
        self.counts.clone_from(&from.counts);
        self.sum = from.sum;
    }
}

impl PartialEq for Distribution {
    fn eq(&self, other: &Self) -> bool {
        self.sum == other.sum && self.counts().eq(other.counts())
    }
}

impl Eq for Distribution {}

impl Distribution {
    /// For tests and models: the hot path records into the shard's atomic form.
    pub fn record(&mut self, value: Duration) {
        self.record_units(micros(value));
    }

    /// As [`Self::record`], of what is no time.
    pub fn record_units(&mut self, value: u64) {
        self.buckets()[bucket_of(value)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Of each of the [`HISTOGRAM_BUCKETS`], in order.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().copied().chain(std::iter::repeat(0)).take(HISTOGRAM_BUCKETS)
    }

    fn buckets(&mut self) -> &mut [u64] {
        if self.counts.is_empty() {
            self.counts = vec![0; HISTOGRAM_BUCKETS].into();
        }
        &mut self.counts
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.sum = 0;
    }

    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (count, bucket) in self.buckets().iter_mut().zip(&histogram.buckets) {
            *count += bucket.load(Ordering::Relaxed);
        }
        self.sum = self.sum.saturating_add(histogram.sum.load(Ordering::Relaxed));
    }

    /// Adds what came in between `earlier` and `now`.
    pub fn add_growth(&mut self, now: &Self, earlier: &Self) {
        if now.counts.is_empty() {
            return;
        }
        for (sum, (now, earlier)) in self.buckets().iter_mut().zip(now.counts().zip(earlier.counts())) {
            *sum += now.saturating_sub(earlier);
        }
        self.sum = self.sum.saturating_add(now.sum.saturating_sub(earlier.sum));
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came in since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self::default();
        since.add_growth(self, earlier);
        since
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
        for (index, count) in self.counts().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_micros(bucket_end(index)));
            }
        }
        None
    }

    /// How many were longer than `limit`, to the bucket's precision: those of the limit's own bucket are not.
    pub fn above(&self, limit: Duration) -> u64 {
        self.above_units(micros(limit))
    }

    /// As [`Self::above`], of what is no time.
    pub fn above_units(&self, limit: u64) -> u64 {
        self.counts.get(bucket_of(limit) + 1..).map_or(0, |above| above.iter().sum())
    }
}
