//! Which rates are compatible with the answers seen.
//!
//! Both intervals are the set {p : n · KL(bad/n ‖ p) ≤ budget}, found by bisection; they differ in the budget.
//!
//! - At one moment: ln(2/α), Chernoff's bound on each side.
//! - At all moments at once: ln(1/α) + ½ ln n + ln 2. The Krichevsky–Trofimov mixture of all rates, divided by
//!   the likelihood of the true one, is a martingale, so by Ville it stays under 1/α for ever with chance 1 − α;
//!   and the mixture is nowhere more than ½ ln n + ln 2 below the best rate's likelihood.
//!
//! Answers between 0 and 1 are treated as if that share of them were bad: Chernoff's bound is Hoeffding's then (1963),
//! and the mixture of their linear factors is, by Jensen's inequality, at least that of the shares.

use super::answers::Sum;

/// For a look at one moment.
pub(super) fn at_once(seen: Sum, alpha: f64) -> (f64, f64) {
    compatible(seen, (2.0 / alpha).ln())
}

/// For looks at every moment: with chance 1 − `alpha` none of all these intervals misses a constant true rate.
pub(super) fn anytime(seen: Sum, alpha: f64) -> (f64, f64) {
    let requests = seen.requests.max(1) as f64;
    compatible(seen, (1.0 / alpha).ln() + 0.5 * requests.ln() + std::f64::consts::LN_2)
}

fn compatible(seen: Sum, budget: f64) -> (f64, f64) {
    if seen.requests == 0 {
        return (0.0, 1.0);
    }
    let mean = seen.mean();
    let budget = budget / seen.requests as f64;
    (farthest(mean, 0.0, budget), farthest(mean, 1.0, budget))
}

/// The rate between `seen` and `end` at which the divergence reaches `budget`.
fn farthest(seen: f64, end: f64, budget: f64) -> f64 {
    let (mut inside, mut outside) = (seen, end);
    // 50 halvings: the result is exact to 1e-15.
    for _ in 0..50 {
        let middle = 0.5 * (inside + outside);
        if divergence(seen, middle) <= budget {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    // A result rounds outwards, and the end itself is kept where nothing excludes it.
    outside
}

/// Of Bernoulli(p) from Bernoulli(q), in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let term = |p: f64, q: f64| if p == 0.0 { 0.0 } else { p * (p / q).ln() };
    term(p, q) + term(1.0 - p, 1.0 - q)
}

#[cfg(test)]
mod tests {
    use super::super::Tally;
    use super::*;
    use crate::random::Random;

    #[test]
    fn nothing_seen_excludes_nothing() {
        assert_eq!(anytime(Tally::default().into(), 0.001), (0.0, 1.0));
        assert_eq!(at_once(Tally::default().into(), 0.05), (0.0, 1.0));
    }

    #[test]
    fn holds_the_seen_rate_and_narrows_with_more() {
        let (few_low, few_high) = anytime(Tally::new(20, 1).into(), 0.01);
        let (low, high) = anytime(Tally::new(20_000, 1_000).into(), 0.01);
        assert!(few_low < low && low < 0.05 && 0.05 < high && high < few_high, "{low} {high} in {few_low} {few_high}");
        assert!((high - low) < 0.015);
    }

    #[test]
    fn no_mean_of_amounts_is_missed_more_often_than_promised_whatever_their_shape() {
        // Two-point, at 0 and 1 or between, with the same mean; a look after each request.
        for (low, high, chance) in [(0.0, 1.0, 0.25), (0.0, 0.5, 0.5), (0.2, 0.4, 0.25), (0.125, 0.25, 1.0)] {
            let truth = low + chance * (high - low);
            let missed = |seed| {
                let (mut random, mut seen) = (Random::new(seed), Sum::default());
                (0..200).any(|_| {
                    let answer = if random.chance(chance) { high } else { low };
                    seen = seen.plus(Sum { requests: 1, total: answer });
                    let (least, most) = anytime(seen, 0.1);
                    !(least..=most).contains(&truth)
                })
            };
            let missed = (0..500).filter(|seed| missed(*seed)).count();
            assert!(missed <= 50, "{low} {high}: {missed}");
        }
    }

    #[test]
    fn no_errors_still_leaves_a_rate_possible() {
        let (low, high) = at_once(Tally::new(100, 0).into(), 0.05);
        assert!(low.abs() < 1e-12);
        // −ln(1 − p) = ln 40 / 100
        assert!((high - (1.0 - 40f64.powf(-0.01))).abs() < 1e-9, "{high}");
    }
}
