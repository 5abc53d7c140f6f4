//! The evidence that the canary is worse than stable, valid whenever one looks and whatever hits both.
//!
//! # What is tested
//!
//! Stable's rate of bad requests is not a constant: a bad hour of a backend that both versions use raises it.
//! A confidence bound on stable's rate so far would then blame the canary for the hour. So the two are compared
//! in matched time. Requests are gathered into blocks that hold some of each version, and the null hypothesis
//! is: in each block the canary's rate exceeds stable's *in that block* by at most the margin δ. From block to
//! block the rates may move as they like.
//!
//! # The e-variable of a block
//!
//! A block has nₐ requests of stable and n_b of the canary. For an alternative (a*, b*) with b* > a* + δ, let
//! (a°, b°) with b° = a° + δ be the point of the null nearest to it, in Kullback–Leibler divergence weighted
//! with nₐ and n_b. The likelihood ratio
//!
//! > E = Π over stable's requests of f(a*)/f(a°) · Π over the canary's of f(b*)/f(b°)
//!
//! has mean at most 1 under the null (Turner, Ly & Grünwald 2021, "Generic E-variables for exact sequential
//! k-sample tests that allow for optional stopping", and their extension to effect sizes): the mean factor of a
//! request is linear in its rate, 1 − κₐ·(θ − a°) for stable and 1 + κ_b·(θ − b°) for the canary, with κ ≥ 0.
//! So ln(mean of E) is concave along the boundary, and that (a°, b°) is nearest says that nₐκₐ = n_bκ_b, that
//! is, that its slope is 0 there: the maximum is at (a°, b°), where it is 0. By concavity (Jensen) the same
//! holds where rates move *within* the block, as long as their means keep the null.
//!
//! With many requests of stable to one of the canary, a° stays near a*, and the test is nearly as sharp as one
//! against a known rate. When stable fails too, its factors fall as fast as the canary's rise: no blame.
//!
//! Blocks multiply, and the mixture over starting blocks and alternatives is that of [`super::evidence`], with
//! the same guarantee by Ville's inequality. a* is what stable did in earlier blocks, forgetting slowly; it is
//! fixed before the block, so the e-variable is valid however wrong it is; it only costs power. That stable
//! never failed is therefore no obstacle: a* is then small, and p₀ near the margin.
//!
//! # When a block ends
//!
//! By counts of requests alone, never by how they ended: with at least one of each, and half as many of stable
//! to one of the canary as has been usual, or [`CANARY_MAX`] of the canary. While no canary request has come,
//! only the last [`STABLE_KEPT`] to twice as many of stable are kept, so that a rare canary request is compared
//! with its own time. One block may straddle the onset of a common outage; it gives one canary request's worth
//! of evidence, and the next block takes it back.
//!
//! # When stable is silent
//!
//! At 100 % there may be no request to stable, and a block would never end. Once so many canary requests came
//! without one of stable's that at the usual ratio this is a chance of about e⁻¹⁶, they are tested alone, against
//! stable's anytime-valid upper bound over all that is known of it, plus the margin (design §8), until stable
//! speaks again. Here, and only here, an outage that would have hit stable too is the canary's. Half of
//! α = 1 − confidence is spent on blocks, a quarter on stable's bound and a quarter on the test against it.
//!
//! Without a single request to stable, ever, nothing is known and nothing is judged.

mod factors;

use super::answers::{Answers, Sum, Worth};
use super::evidence::{Evidence, Odds, share_of_threshold, threshold};
use super::interval;
use factors::{NULL_RATE_MAX, Sides, block_factors};

/// A block is judged with this many canary requests even if few of stable came with them.
const CANARY_MAX: u64 = 8;

/// How many requests of stable wait for the canary, at least.
const STABLE_KEPT: u64 = 512;

/// Stable's running rate forgets by half when it stands for this many requests.
const EXPECTED_MAX: u64 = 2_000;

/// The usual ratio forgets by half at this many canary requests.
const RATIO_CANARY_MAX: f64 = 64.0;

/// How unusual a silence of stable must be before the canary is judged alone, in nats.
const SILENCE_NATS: f64 = 16.0;

/// An anytime-valid test of the canary against stable.
#[derive(Clone, Debug)]
pub(super) struct AgainstTest<const L: usize> {
    margin: f64,
    alpha: f64,
    /// What an answer of the canary is worth, and what one of stable.
    worth: (Worth<L>, Worth<L>),
    blocks: Evidence,
    block: Block<L>,
    expected: Expected,
    ratio: Ratio,
    alone: Evidence,
    /// All that is known of stable.
    history: Sum,
    judged: u64,
    /// Whether stable is silent, and what the canary is tested against meanwhile.
    silence: Option<Reference<L>>,
}

impl<const L: usize> AgainstTest<L> {
    /// `history` is what stable did before; it shapes expectations only.
    pub(super) fn new(margin: f64, confidence: f64, worth: (Worth<L>, Worth<L>), history: &Answers<L>) -> Self {
        let history = history.sum(&worth.1);
        Self {
            margin: margin.max(0.0),
            alpha: (1.0 - confidence).clamp(1e-12, 1.0),
            worth,
            blocks: Evidence::new(),
            block: Block::default(),
            expected: Expected::from(history),
            ratio: Ratio { stable: 1.0, canary: 1.0 },
            alone: Evidence::new(),
            history,
            judged: 0,
            silence: None,
        }
    }

    /// Takes in what ended since the last look.
    pub(super) fn take(&mut self, canary: &Answers<L>, stable: &Answers<L>) {
        if stable.requests() > 0 {
            self.silence = None;
            self.history = self.history.plus(stable.sum(&self.worth.1));
            if let Some(forgotten) = self.block.add_stable(stable) {
                self.expected.take(forgotten.sum(&self.worth.1));
            }
        }
        self.block.canary = self.block.canary.plus(canary);
        let waiting = self.block.canary.requests();
        if waiting == 0 {
            return;
        }
        if self.block.stable().requests() > 0 {
            if self.block.is_ready(&self.ratio) {
                self.judge_block();
            }
        } else if self.silence.is_some() || waiting as f64 >= self.ratio.patience() {
            self.judge_alone();
        }
    }

    pub(super) fn is_reached(&self) -> bool {
        self.values().iter().any(|(value, threshold)| value >= threshold)
    }

    /// Of the test in blocks and of that without stable, each with its threshold.
    fn values(&self) -> [(f64, f64); 2] {
        let confidence = 1.0 - self.alpha;
        [(self.blocks.value(), threshold(confidence, 2.0)), (self.alone.value(), threshold(confidence, 4.0))]
    }

    /// From 0 to 1, on the logarithm's scale; a breach at 1.
    pub(super) fn evidence(&self) -> f64 {
        let [blocks, alone] = self.values();
        share_of_threshold(blocks.0, blocks.1).max(share_of_threshold(alone.0, alone.1))
    }

    /// Canary requests that were compared with something.
    pub(super) fn judged(&self) -> u64 {
        self.judged
    }

    /// How many requests of stable come with `canary` requests, as has been usual; none while it is silent.
    pub(super) fn usual_stable(&self, canary: u64) -> u64 {
        if self.silence.is_some() { 0 } else { (self.ratio.stable_per_canary() * canary as f64).ceil() as u64 }
    }

    fn judge_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        let (canary, stable) = (block.canary, block.stable());
        let sides = Sides { canary: (&canary, &self.worth.0), stable: (&stable, &self.worth.1) };
        let factors = block_factors(self.expected.rate(), self.margin, &sides);
        self.blocks.take(canary.halves(&self.worth.0), &factors);
        self.expected.take(stable.sum(&self.worth.1));
        self.ratio.take(canary.requests(), stable.requests());
        self.judged = self.judged.saturating_add(canary.requests());
    }

    fn judge_alone(&mut self) {
        let canary = std::mem::take(&mut self.block).canary;
        let (history, margin, alpha) = (self.history, self.margin, self.alpha / 4.0);
        let worth = &self.worth.0;
        let reference = self.silence.get_or_insert_with(|| Reference::of(history, margin, alpha, worth));
        let Some(odds) = &reference.0 else { return };
        self.alone.take(canary.halves(worth), &odds.log_factors(&canary));
        self.judged = self.judged.saturating_add(canary.requests());
    }
}

/// What the canary is held against while stable is silent; no odds where too little is known of stable.
#[derive(Clone, Debug)]
struct Reference<const L: usize>(Option<Box<Odds<L>>>);

impl<const L: usize> Reference<L> {
    fn of(history: Sum, margin: f64, alpha: f64, worth: &Worth<L>) -> Self {
        let null_rate = interval::anytime(history, alpha).1 + margin;
        Self((null_rate <= NULL_RATE_MAX).then(|| Odds::against(null_rate, worth).into()))
    }
}

/// What waits to be compared.
#[derive(Clone, Debug, Default)]
struct Block<const L: usize> {
    canary: Answers<L>,
    stable_before: Answers<L>,
    stable_recent: Answers<L>,
}

impl<const L: usize> Block<L> {
    fn stable(&self) -> Answers<L> {
        self.stable_before.plus(&self.stable_recent)
    }

    /// Returns what was forgotten: requests of stable too long before any of the canary.
    fn add_stable(&mut self, stable: &Answers<L>) -> Option<Answers<L>> {
        let full = self.canary.requests() == 0 && self.stable_recent.requests() >= STABLE_KEPT;
        let forgotten =
            full.then(|| std::mem::replace(&mut self.stable_before, std::mem::take(&mut self.stable_recent)));
        self.stable_recent = self.stable_recent.plus(stable);
        forgotten
    }

    /// Looks at the numbers of requests only.
    fn is_ready(&self, ratio: &Ratio) -> bool {
        let (canary, stable) = (self.canary.requests(), self.stable().requests());
        canary >= CANARY_MAX || 2.0 * stable as f64 >= ratio.stable_per_canary() * canary as f64
    }
}

/// Stable's rate as its recent past leads one to expect it.
#[derive(Clone, Debug)]
struct Expected(Sum);

impl From<Sum> for Expected {
    fn from(history: Sum) -> Self {
        let requests = history.requests.min(EXPECTED_MAX);
        Self(Sum { requests, total: history.mean() * requests as f64 })
    }
}

impl Expected {
    fn take(&mut self, stable: Sum) {
        self.0 = self.0.plus(stable);
        while self.0.requests > EXPECTED_MAX {
            self.0 = self.0.halved();
        }
    }

    /// 5 % while nothing is known; never 0.
    fn rate(&self) -> f64 {
        (self.0.total + 0.5) / (self.0.requests as f64 + 10.0)
    }
}

/// How many requests of stable usually come to one of the canary.
#[derive(Clone, Debug)]
struct Ratio {
    stable: f64,
    canary: f64,
}

impl Ratio {
    fn take(&mut self, canary: u64, stable: u64) {
        self.canary += canary as f64;
        self.stable += stable as f64;
        if self.canary > RATIO_CANARY_MAX {
            let keep = 0.5 * RATIO_CANARY_MAX / self.canary;
            self.canary *= keep;
            self.stable *= keep;
        }
    }

    fn stable_per_canary(&self) -> f64 {
        self.stable / self.canary
    }

    /// After this many canary requests in a row, stable is silent: at its usual share s the chance of it is
    /// (1 − s)ⁿ < e⁻ⁿˢ.
    fn patience(&self) -> f64 {
        SILENCE_NATS * (1.0 + self.canary / self.stable)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tally;
    use super::super::answers::YES_NO;
    use super::*;

    fn against(history: Tally) -> AgainstTest<2> {
        AgainstTest::new(0.01, 0.999, (YES_NO, YES_NO), &history.into())
    }

    #[test]
    fn a_canary_waits_for_stable_and_is_judged_alone_only_after_an_unusual_silence() {
        let mut test = against(Tally::new(100_000, 500));
        for _ in 0..100 {
            test.take(&Tally::new(1, 0).into(), &Tally::new(3, 0).into());
        }
        assert_eq!(test.judged(), 100);
        let mut alone = 0;
        while test.judged() == 100 {
            test.take(&Tally::new(1, 0).into(), &Tally::default().into());
            alone += 1;
        }
        assert!((17..40).contains(&alone), "{alone}");
        assert_eq!(test.judged(), 100 + alone);
        test.take(&Tally::new(1, 0).into(), &Tally::new(3, 0).into());
        assert!(test.silence.is_none());
    }

    #[test]
    fn with_no_word_of_stable_ever_nothing_is_judged() {
        let mut test = against(Tally::default());
        for _ in 0..1_000 {
            test.take(&Tally::new(1, 1).into(), &Tally::default().into());
        }
        assert_eq!((test.judged(), test.evidence()), (0, 0.0));
    }

    #[test]
    fn stable_that_waits_for_a_canary_is_bounded() {
        let mut test = against(Tally::default());
        for _ in 0..100_000 {
            test.take(&Tally::default().into(), &Tally::new(1, 0).into());
        }
        assert!(test.block.stable().requests() <= 2 * STABLE_KEPT);
    }
}
