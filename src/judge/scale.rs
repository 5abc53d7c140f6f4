//! Amounts as answers in 0..=1: the mean's half of the mathematics.
//!
//! A mean can be tested soundly at any moment only where one request cannot outweigh all the others. So a guard on
//! a mean has a *cap*: each request counts with min(amount, cap)/cap, which lies in 0..=1 (it is winsorised). The
//! price is power: what single requests take beyond the cap is not seen.
//!
//! With `above`, the hypothesis that the mean amount is at most the limit implies that the mean of these is at most
//! limit/cap: what is promised of the one holds of the other. With `worse_than_stable_by` it does not, for the cap
//! takes from stable's mean as well: where stable's rests on few amounts beyond the cap and the version on trial takes
//! more below it, the winsorised mean may be worse though the plain one is not. The promise there is about winsorised
//! means only: a version whose own is within the margin of stable's trips with at most the chance that is given.
//!
//! The factor of `judge/evidence.rs` is linear in the answer,
//!
//! > e(x) = x·p₁/p₀ + (1−x)·(1−p₁)/(1−p₀),
//!
//! so its mean is at most 1 under the null for *every* distribution on 0..=1 with that mean, and all that is said there
//! of products, mixtures and batches holds word for word; likewise the blocks of `judge/against.rs`, whose proof uses
//! only that the mean factor is linear in the mean answer. A batch is counts by level, and its logarithm a sum over levels.
//!
//! The levels are the buckets of the data plane's histogram below the cap, down to 1/256 of it; what is smaller is
//! level 0. A level is worth the lower end of its bucket where the version on trial is meant and the upper end where
//! stable is: both in the version's favour, so the guarantee stays, and an excess of up to 6.25 % may go unseen.

use super::answers::{Answers, Worth};
use crate::telemetry::stats::{Distribution, bucket_end, bucket_of, bucket_start};

/// One at or below 1/256 of the cap, sixteen for each octave from there, that which holds the cap and what is above.
pub(super) const LEVELS: usize = 130;

/// The largest cap, in the histogram's units: it knows no difference between larger amounts.
pub(super) const CAP_MAX: u64 = 1 << 32;

/// How a histogram of amounts becomes answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    cap: u64,
    /// The bucket of level 0, which takes in all below.
    lowest: usize,
}

impl Scale {
    /// `cap` in the histogram's units.
    pub(super) fn new(cap: u64) -> Self {
        let cap = cap.clamp(1, CAP_MAX);
        Self { cap, lowest: bucket_of(cap).saturating_sub(LEVELS - 2) }
    }

    pub(super) fn answers(&self, amounts: &Distribution) -> Answers<LEVELS> {
        let mut answers = Answers::default();
        for (bucket, requests) in amounts.counts().enumerate().filter(|(_, requests)| *requests > 0) {
            answers.add(self.level(bucket), requests);
        }
        answers
    }

    fn level(&self, bucket: usize) -> usize {
        bucket.saturating_sub(self.lowest).min(LEVELS - 1)
    }

    /// Where what is not known counts for nothing: the version on trial.
    pub(super) fn worth_at_least(&self) -> Worth<LEVELS> {
        std::array::from_fn(|level| if level == 0 { 0.0 } else { self.share(bucket_start(self.lowest + level)) })
    }

    /// Where what is not known counts in full: what it is compared with.
    pub(super) fn worth_at_most(&self) -> Worth<LEVELS> {
        std::array::from_fn(|level| self.share(bucket_end(self.lowest + level)))
    }

    /// For figures that people read.
    pub(super) fn worth_about(&self) -> Worth<LEVELS> {
        let (least, most) = (self.worth_at_least(), self.worth_at_most());
        std::array::from_fn(|level| 0.5 * (least[level] + most[level]))
    }

    /// In the histogram's units.
    pub(super) fn cap(&self) -> f64 {
        self.cap as f64
    }

    /// An amount in the histogram's units, as a share of the cap.
    pub(super) fn share_of(&self, amount: f64) -> f64 {
        (amount / self.cap()).min(1.0)
    }

    fn share(&self, amount: u64) -> f64 {
        self.share_of(amount as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_amount_is_worth_its_share_of_the_cap_to_a_sixteenth_and_on_the_right_side() {
        for cap in [1, 7, 100, 4_000, 65_536, 1_000_003, CAP_MAX] {
            let scale = Scale::new(cap);
            let (least, most) = (scale.worth_at_least(), scale.worth_at_most());
            assert!(least.is_sorted() && most.is_sorted());
            for amount in [0, 1, 2, 15, 16, 17, 99, 100, 101, 3_999, 4_001, 70_000, 999_999, 1 << 31, u64::MAX] {
                let mut amounts = Distribution::default();
                amounts.record_units(amount);
                let answers = scale.answers(&amounts);
                let (level, _) = answers.iter().next().expect("one amount, one level");
                let exact = (amount as f64 / cap as f64).min(1.0);
                assert!(least[level] <= exact && exact <= most[level], "{amount} of {cap}: {level}");
                let slack = (exact / 15.0).max(1.0 / 240.0).max(1.0 / cap as f64) + 1e-12;
                assert!(most[level] - least[level] <= slack, "{amount} of {cap}: {} {}", least[level], most[level]);
            }
        }
    }
}
