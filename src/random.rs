//! A small generator of pseudo-random numbers: SplitMix64 (Steele, Lea & Flood 2014). Not for
//! secrets: for simulations, and for choices that need no more than to be spread evenly.

/// Sixty-four bits of state; every seed is a good one.
#[derive(Clone, Debug)]
pub struct Random(u64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ STEP))
    }

    /// A generator of its own for the `index`-th part of what this one's seed stands for.
    pub fn fork(&self, index: u64) -> Self {
        Self(mix(self.0 ^ mix(index.wrapping_add(STEP))))
    }

    pub fn draw(&mut self) -> u64 {
        let (next, number) = step(self.0);
        self.0 = next;
        number
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.draw() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(end)) >> 64) as u64
    }
}

/// The next state, and its number; for those who keep the state themselves.
pub fn step(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(STEP);
    (state, mix(state))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_come_true_as_often_as_they_should() {
        let mut random = Random::new(7);
        let often = (0..100_000).filter(|_| random.chance(0.05)).count();
        // Five standard deviations.
        assert!((4_655..5_345).contains(&often), "{often}");
        assert!(!random.chance(0.0) && random.chance(1.0));
    }

    #[test]
    fn below_is_even_and_within() {
        let mut random = Random::new(7);
        let mut seen = [0u32; 5];
        for _ in 0..50_000 {
            seen[random.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
    }

    #[test]
    fn forks_differ() {
        let root = Random::new(7);
        assert_ne!(root.fork(0).draw(), root.fork(1).draw());
        assert_eq!(root.fork(3).draw(), root.fork(3).draw());
    }
}
