//! The evidence against a rate limit, valid whenever one looks.
//!
//! Null hypothesis: given all that ended before, the next request is bad with probability at most p₀. For an
//! alternative p₁ > p₀ the factor e = p₁/p₀ for a bad and (1−p₁)/(1−p₀) for a good request has mean at most 1
//! under the null, so the product of factors from any moment on is a non-negative supermartingale (Waudby-Smith
//! & Ramdas 2024, "Estimating means of bounded random variables by betting").
//!
//! A defect may begin at any moment, so the evidence is a mixture over starting moments (Shin, Ramdas & Rinaldo
//! 2023, "E-detectors"), each with a weight; a weight that has not been spent yet counts as itself. With
//! weights that sum to at most 1 the whole,
//!
//! > M = unspent + mean over p₁ of Σₛ wₛ · Π(factors since s),
//!
//! starts at 1 and is a non-negative supermartingale, and by Ville's inequality the chance that it *ever*
//! reaches 1/α under the null is at most α. Unlike an e-detector, which bounds how often it cries wolf, this
//! spends weights that sum to 1 and so bounds whether it ever does.
//!
//! **Weights.** Nothing asks that a weight be fixed in advance: it may depend on all that came before its batch. So
//! the weight is spent by two clocks, half by each. One counts requests. The other counts *suspicions*: bad requests
//! that came before the evidence of the bad ones just before them had died away (a CUSUM of the middle alternative).
//! After n ticks a clock has W(n) of its half left, W(n) = 1/(1 + ¼ ln(1+n)), whose tail is heavier than that of
//! 1/(t(t+1)). A long healthy run is many requests and few suspicions: so a defect after 10,000 healthy requests finds
//! most of the second half unspent, and costs some three nats where the first clock alone would ask ln 10,000 + 3.8.
//!
//! **Batches.** Counts come in batches whose inner order is unknown. A start lies only between batches: its
//! product takes in whole batches, and a product does not depend on the order within. The weight of a start is
//! fixed by what came *before* its batch, so it cannot depend on what is in it; and a batch ends
//! by the clock or the caller's wake-up, that is, at a stopping time, where a supermartingale is one still.
//! So Ville's inequality holds for the values at the looks. Batches of one are the full mixture.
//!
//! **Amounts.** An answer need not be yes or no: the factor x·p₁/p₀ + (1−x)·(1−p₁)/(1−p₀) has mean at most 1 for
//! every x in 0..=1 whose mean is at most p₀. `judge/scale.rs` makes such answers of tokens and costs. For them the
//! "bad" requests that the second clock counts are those worth more than half of the cap.
//!
//! **Alternatives.** Five, spread over the log-odds between p₀ and 95 %: a defect between two of them costs a
//! few per cent of the growth. What grows beyond 10³⁰⁰ is a breach since long and stands there; what falls below
//! 10⁻³⁰⁰ is lost, which errs on the canary's side. O(1) memory and time per look.

use super::Tally;
use super::answers::{Answers, Worth};

/// How many alternatives are mixed.
pub(super) const ALTERNATIVES: usize = 5;

/// One logarithm for each alternative.
pub(super) type LogFactors = [f64; ALTERNATIVES];

/// Where the alternatives lie between p₀ (0) and the top (1), in log-odds.
const SPREAD: [f64; ALTERNATIVES] = [0.08, 0.2, 0.4, 0.65, 1.0];

/// The top alternative is this rate, or one unit of log-odds above p₀.
const TOP_RATE: f64 = 0.95;

/// No limit is taken as sharper than one in a million, nor as within one in a million of everything.
const MARGIN_OF_RATES: f64 = 1e-6;

/// How slowly the start weights are spent: the ¼ in W.
const SPENDING: f64 = 0.25;

/// The alternative whose CUSUM tells a suspicion from a stray bad request.
const MIDDLE: usize = 2;

/// No sum grows above this, and no batch multiplies one by more.
const SUM_MAX: f64 = 1e300;

/// A mixture over starting moments and alternatives.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// Per alternative, Σₛ wₛ · Π(factors since s) of its share of the weight.
    sums: LogFactors,
    /// Of the clock of requests, and of that of suspicions.
    unspent: [f64; 2],
    requests: u64,
    suspicions: u64,
    /// In nats; 0 when no bad request is fresh.
    cusum: f64,
}

impl Evidence {
    pub(super) fn new() -> Self {
        Self { sums: [0.0; ALTERNATIVES], unspent: [0.5; 2], requests: 0, suspicions: 0, cusum: 0.0 }
    }

    /// Takes in a batch, of which each alternative made these logarithms of its factors' product.
    pub(super) fn take(&mut self, batch: Tally, log_factors: &LogFactors) {
        let weight = self.spend() / ALTERNATIVES as f64;
        for (sum, log_factor) in self.sums.iter_mut().zip(log_factors) {
            *sum = ((*sum + weight) * log_factor.min(SUM_MAX.ln()).exp()).min(SUM_MAX);
        }
        self.requests = self.requests.saturating_add(batch.requests);
        // Of a batch that begins without suspicion, the first bad request raises it.
        let stray = u64::from(self.cusum == 0.0);
        self.suspicions = self.suspicions.saturating_add(batch.bad.saturating_sub(stray));
        self.cusum = (self.cusum + log_factors[MIDDLE]).clamp(0.0, SUM_MAX);
    }

    /// The weight of a start just now.
    fn spend(&mut self) -> f64 {
        let left = [self.requests.saturating_add(1), self.suspicions].map(|ticks| 0.5 * unspent_after(ticks));
        let spent = self.unspent.iter().sum::<f64>() - left.iter().sum::<f64>();
        self.unspent = left;
        spent.max(0.0)
    }

    /// M. Breach at 1/α.
    pub(super) fn value(&self) -> f64 {
        self.unspent.iter().sum::<f64>() + self.sums.iter().sum::<f64>()
    }
}

fn unspent_after(ticks: u64) -> f64 {
    1.0 / (1.0 + SPENDING * (ticks as f64).ln_1p())
}

/// The alternatives to a null rate, all above it and below 1.
pub(super) fn alternatives(null_rate: f64) -> [f64; ALTERNATIVES] {
    let log_odds = |p: f64| (p / (1.0 - p)).ln();
    let bottom = log_odds(within_margin(null_rate));
    let top = log_odds(TOP_RATE).max(bottom + 1.0);
    SPREAD.map(|at| 1.0 / (1.0 + (-(bottom + at * (top - bottom))).exp()))
}

pub(super) fn within_margin(rate: f64) -> f64 {
    rate.clamp(MARGIN_OF_RATES, 1.0 - MARGIN_OF_RATES)
}

/// ln of the factor of an answer worth `x`, for one rate over another.
pub(super) fn log_factor(x: f64, at: f64, over: f64) -> f64 {
    (x * (at / over) + (1.0 - x) * ((1.0 - at) / (1.0 - over))).ln()
}

/// The logarithms of the factors of an answer of each level against a fixed null rate.
#[derive(Clone, Debug)]
pub(super) struct Odds<const L: usize>([LogFactors; L]);

impl<const L: usize> Odds<L> {
    pub(super) fn against(null_rate: f64, worth: &Worth<L>) -> Self {
        let null_rate = within_margin(null_rate);
        let alternatives = alternatives(null_rate);
        Self(worth.map(|x| alternatives.map(|p| log_factor(x, p, null_rate))))
    }

    pub(super) fn log_factors(&self, batch: &Answers<L>) -> LogFactors {
        let mut sums = [0.0; ALTERNATIVES];
        for (level, requests) in batch.iter() {
            for (sum, log_factor) in sums.iter_mut().zip(&self.0[level]) {
                *sum += requests as f64 * log_factor;
            }
        }
        sums
    }
}

/// An anytime-valid test of a fixed limit.
#[derive(Clone, Debug)]
pub(super) struct AboveTest<const L: usize> {
    worth: Worth<L>,
    odds: Odds<L>,
    evidence: Evidence,
    threshold: f64,
}

impl<const L: usize> AboveTest<L> {
    pub(super) fn new(null_rate: f64, confidence: f64, worth: Worth<L>) -> Self {
        let odds = Odds::against(null_rate, &worth);
        Self { worth, odds, evidence: Evidence::new(), threshold: threshold(confidence, 1.0) }
    }

    pub(super) fn take(&mut self, batch: &Answers<L>) {
        let halves = batch.halves(&self.worth);
        if halves.requests > 0 {
            self.evidence.take(halves, &self.odds.log_factors(batch));
        }
    }

    pub(super) fn is_reached(&self) -> bool {
        self.evidence.value() >= self.threshold
    }

    /// From 0 to 1, on the logarithm's scale; a breach at 1.
    pub(super) fn evidence(&self) -> f64 {
        share_of_threshold(self.evidence.value(), self.threshold)
    }
}

/// 1/α's multiple: where several tests share α, each gets its part.
pub(super) fn threshold(confidence: f64, parts: f64) -> f64 {
    parts / (1.0 - confidence).clamp(1e-12, 1.0)
}

/// A test that needs no evidence at all (confidence 0) is reached at once.
pub(super) fn share_of_threshold(value: f64, threshold: f64) -> f64 {
    if value >= threshold { (value.ln() / threshold.ln()).max(1.0) } else { (value.ln() / threshold.ln()).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::answers::YES_NO;

    fn above(null_rate: f64, confidence: f64) -> AboveTest<2> {
        AboveTest::new(null_rate, confidence, YES_NO)
    }

    #[test]
    fn starts_at_one_and_never_spends_more_than_its_weight() {
        let mut evidence = Evidence::new();
        assert_eq!(evidence.value(), 1.0);
        // With factors of 1, whatever was spent is still there, by whichever clock.
        for requests in [1, 1, 7, 100, 1, 1_000_000, 3, u64::MAX, 1] {
            evidence.take(Tally::new(requests, requests / 2), &[0.0; ALTERNATIVES]);
            assert!((evidence.value() - 1.0).abs() < 1e-9, "{}", evidence.value());
        }
    }

    #[test]
    fn healthy_requests_with_stray_errors_raise_no_suspicion_and_a_defect_does() {
        let mut test = above(0.05, 0.999);
        for request in 0..10_000 {
            test.take(&Tally::new(1, u64::from(request % 100 == 0)).into());
        }
        assert_eq!((test.evidence.suspicions, test.evidence.unspent[1]), (0, 0.5));
        for request in 0..20 {
            test.take(&Tally::new(1, request % 2).into());
        }
        assert_eq!(test.evidence.suspicions, 9);
    }

    #[test]
    fn each_alternative_is_fair_at_the_limit() {
        for null_rate in [1e-6, 0.001, 0.05, 0.5, 0.95, 0.99] {
            let Odds([good, bad]) = Odds::against(null_rate, &YES_NO);
            for k in 0..ALTERNATIVES {
                let mean = null_rate * bad[k].exp() + (1.0 - null_rate) * good[k].exp();
                assert!((mean - 1.0).abs() < 1e-9, "{null_rate} {k} {mean}");
                assert!(bad[k] > 0.0 && good[k] < 0.0);
            }
        }
    }

    #[test]
    fn mean_over_every_short_history_is_one_at_the_limit() {
        // Exact, not sampled: all 2¹² histories at p₀, each weighted with its probability.
        let (null_rate, length) = (0.3, 12);
        let mut mean = 0.0;
        for history in 0u32..1 << length {
            let mut test = above(null_rate, 0.99);
            for request in 0..length {
                test.take(&Tally::new(1, u64::from(history >> request & 1)).into());
            }
            let bad = history.count_ones() as i32;
            mean += null_rate.powi(bad) * (1.0 - null_rate).powi(length - bad) * test.evidence.value();
        }
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn a_batch_of_good_requests_cannot_overflow_or_breach() {
        let mut test = above(0.05, 0.999);
        for _ in 0..100 {
            test.take(&Tally::new(1_000_000_000_000, 0).into());
        }
        assert!(test.evidence.value().is_finite());
        assert!(test.evidence() < 1e-9);
    }

    #[test]
    fn a_limit_of_zero_or_one_is_no_trap() {
        let mut none_allowed = above(0.0, 0.999);
        none_allowed.take(&Tally::new(1, 1).into());
        assert!(none_allowed.evidence() >= 1.0);
        let mut all_allowed = above(1.0, 0.999);
        all_allowed.take(&Tally::new(1_000, 1_000).into());
        assert!(all_allowed.evidence() < 0.1);
    }
}
