//! What the anytime-valid tests take in: how many requests gave which answer.
//!
//! A yes/no question has two levels, worth 0 and 1. An amount has [`super::scale::LEVELS`], each worth a share of the
//! guard's cap. The tests need no more of an answer than that it lies in 0..=1.

use super::Tally;

/// How many requests gave an answer of each level. What a level is worth is the asker's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answers<const L: usize>([u64; L]);

/// What the levels are worth, in 0..=1 and never falling.
pub(super) type Worth<const L: usize> = [f64; L];

/// Of a yes/no question.
pub(super) const YES_NO: Worth<2> = [0.0, 1.0];

impl<const L: usize> Default for Answers<L> {
    fn default() -> Self {
        Self([0; L])
    }
}

impl From<Tally> for Answers<2> {
    fn from(tally: Tally) -> Self {
        Self([tally.good(), tally.bad])
    }
}

impl<const L: usize> Answers<L> {
    pub(super) fn add(&mut self, level: usize, requests: u64) {
        self.0[level] = self.0[level].saturating_add(requests);
    }

    pub(super) fn requests(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|level| self.0[level].saturating_add(other.0[level])))
    }

    /// What came since `earlier`. Counts that ran back (a version's series began anew) give nothing.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|level| self.0[level].saturating_sub(earlier.0[level])))
    }

    /// Those there are: each level with its number of requests.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.iter().copied().enumerate().filter(|(_, requests)| *requests > 0)
    }

    pub(super) fn sum(&self, worth: &Worth<L>) -> Sum {
        let total = self.iter().map(|(level, requests)| worth[level] * requests as f64).sum();
        Sum { requests: self.requests(), total }
    }

    /// How many there are, and how many of them are worth more than half: the bad ones, for a yes/no question.
    pub(super) fn halves(&self, worth: &Worth<L>) -> Tally {
        let high = self.iter().filter(|(level, _)| worth[*level] > 0.5).map(|(_, requests)| requests);
        Tally::new(self.requests(), high.fold(0, u64::saturating_add))
    }
}

/// The sum of answers that each lie in 0..=1: all that an interval needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) requests: u64,
    /// Never more than `requests`.
    pub(super) total: f64,
}

impl From<Tally> for Sum {
    fn from(tally: Tally) -> Self {
        Self { requests: tally.requests, total: tally.bad as f64 }
    }
}

impl Sum {
    /// 0 where there were no requests.
    pub(super) fn mean(self) -> f64 {
        if self.requests == 0 { 0.0 } else { (self.total / self.requests as f64).min(1.0) }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { requests: self.requests.saturating_add(other.requests), total: self.total + other.total }
    }

    /// The same mean over half as many, so that running figures forget.
    pub(super) fn halved(self) -> Self {
        Self { requests: self.requests / 2, total: self.total / 2.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no_are_the_two_ends_of_the_scale() {
        let answers = Answers::from(Tally::new(10, 3));
        assert_eq!(answers.sum(&YES_NO), Sum { requests: 10, total: 3.0 });
        assert_eq!(answers.halves(&YES_NO), Tally::new(10, 3));
        assert_eq!(answers.iter().collect::<Vec<_>>(), [(0, 7), (1, 3)]);
    }

    #[test]
    fn answers_that_run_back_give_nothing() {
        let (more, fewer) = (Answers::from(Tally::new(50, 1)), Answers::from(Tally::new(10, 3)));
        assert_eq!(fewer.since(&more), Answers::from(Tally::new(2, 2)));
        assert_eq!(more.plus(&fewer).since(&more), fewer);
    }
}
