//! The e-variable of a block, in logarithms: see the mathematics on the page above.

use super::super::answers::{Answers, Worth};
use super::super::evidence::{ALTERNATIVES, LogFactors, alternatives, log_factor, within_margin};

/// With a null rate above this there is no worse to be told apart.
pub(super) const NULL_RATE_MAX: f64 = 0.9;

/// The answers of a block, with what they are worth.
pub(super) struct Sides<'a, const L: usize> {
    pub(super) canary: (&'a Answers<L>, &'a Worth<L>),
    pub(super) stable: (&'a Answers<L>, &'a Worth<L>),
}

pub(super) fn block_factors<const L: usize>(expected: f64, margin: f64, sides: &Sides<'_, L>) -> LogFactors {
    let expected = within_margin(expected);
    if expected + margin > NULL_RATE_MAX {
        return [0.0; ALTERNATIVES];
    }
    let (stable, canary) = (sides.stable.0.requests() as f64, sides.canary.0.requests() as f64);
    alternatives(expected + margin).map(|worse| {
        let null = nearest_null(stable, canary, expected, worse - margin, margin);
        log_ratio(sides.stable, expected, null) + log_ratio(sides.canary, worse, null + margin)
    })
}

/// ln of the likelihood of the answers at one rate over that at another.
fn log_ratio<const L: usize>((answers, worth): (&Answers<L>, &Worth<L>), at: f64, over: f64) -> f64 {
    answers.iter().map(|(level, requests)| requests as f64 * log_factor(worth[level], at, over)).sum()
}

/// Stable's rate a° in the point (a°, a° + δ) nearest to (a*, b*), where `high` = b* − δ > a* = `low`.
///
/// The root between `low` and `high` of nₐ(a − a*)·b(1−b) = n_b(b* − b)·a(1−a) with b = a + δ. The divergence is convex,
/// so the difference of the two sides changes its sign once. Newton's steps, kept inside a shrinking bracket; at
/// δ = 0 the first guess, the weighted mean, is the root. The mean of the block's factor is flat at the root: an
/// error of 1e-8 in it is one of 1e-16 there.
fn nearest_null(stable: f64, canary: f64, low: f64, high: f64, margin: f64) -> f64 {
    let (mut below, mut above) = (low, high);
    let mut a = (stable * low + canary * high) / (stable + canary);
    // Each step that Newton does not make well is a halving: 60 of them exhaust the precision.
    for _ in 0..60 {
        let b = a + margin;
        let (spread_a, spread_b) = (a * (1.0 - a), b * (1.0 - b));
        let difference = stable * (a - low) * spread_b - canary * (high - a) * spread_a;
        if difference > 0.0 {
            above = a;
        } else {
            below = a;
        }
        let slope =
            stable * (spread_b + (a - low) * (1.0 - 2.0 * b)) + canary * (spread_a - (high - a) * (1.0 - 2.0 * a));
        let newton = a - difference / slope;
        let next = if (below..=above).contains(&newton) { newton } else { 0.5 * (below + above) };
        if (next - a).abs() <= 1e-8 * a {
            return next;
        }
        a = next;
    }
    a
}

#[cfg(test)]
mod tests {
    use super::super::super::Tally;
    use super::super::super::answers::YES_NO;
    use super::*;

    fn yes_no(expected: f64, margin: f64, canary: Tally, stable: Tally) -> LogFactors {
        let (canary, stable) = (&canary.into(), &stable.into());
        block_factors(expected, margin, &Sides { canary: (canary, &YES_NO), stable: (stable, &YES_NO) })
    }

    /// The mean of the block's e-variable at the given rates, for the k-th alternative.
    fn mean(expected: f64, margin: f64, canary: u64, stable: u64, rates: (f64, f64), k: usize) -> f64 {
        let factor = |canary: Tally, stable: Tally| {
            // One request's factor depends on the block's numbers, so take it as a difference.
            let sizes = (Tally::new(canary.requests, 0), Tally::new(stable.requests, 0));
            (yes_no(expected, margin, canary, stable)[k], yes_no(expected, margin, sizes.0, sizes.1)[k])
        };
        let (all_good, _) = factor(Tally::new(canary, 0), Tally::new(stable, 0));
        let (canary_bad, _) = factor(Tally::new(canary, 1), Tally::new(stable, 0));
        let (stable_bad, _) = factor(Tally::new(canary, 0), Tally::new(stable, 1));
        // ln mean = ln(all good) + n_b ln(1 + θ_b(r_b − 1)) + nₐ ln(1 + θₐ(rₐ − 1)), r the bad-to-good ratios.
        let (bad_c, bad_s) = ((canary_bad - all_good).exp(), (stable_bad - all_good).exp());
        all_good + canary as f64 * (rates.1 * (bad_c - 1.0)).ln_1p() + stable as f64 * (rates.0 * (bad_s - 1.0)).ln_1p()
    }

    #[test]
    fn no_rates_that_keep_the_margin_give_a_block_a_mean_above_one() {
        for margin in [0.0, 0.001, 0.01, 0.2] {
            for expected in [1e-4, 0.005, 0.1, 0.6] {
                for (canary, stable) in [(1, 1), (1, 19), (1, 999), (8, 1), (40, 3), (500, 9_500)] {
                    for k in 0..ALTERNATIVES {
                        for step in 0..=200 {
                            let theta = f64::from(step) / 200.0;
                            let worst = (theta + margin).min(1.0);
                            let mean = mean(expected, margin, canary, stable, (theta, worst), k);
                            assert!(mean < 1e-9, "δ {margin} a* {expected} n {canary}:{stable} θ {theta}: {mean}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_mean_is_one_at_the_nearest_null() {
        let (expected, margin) = (0.01, 0.01);
        let worse = alternatives(expected + margin);
        for (k, worse) in worse.into_iter().enumerate() {
            let null = nearest_null(19.0, 1.0, expected, worse - margin, margin);
            assert!(null > expected && null + margin < worse);
            assert!(mean(expected, margin, 1, 19, (null, null + margin), k).abs() < 1e-12);
        }
    }

    #[test]
    fn without_margin_the_nearest_null_is_the_pooled_rate() {
        let null = nearest_null(19.0, 1.0, 0.01, 0.5, 0.0);
        assert!((null - (19.0 * 0.01 + 0.5) / 20.0).abs() < 1e-12);
    }
}
