//! One simulated deployment: traffic, two versions, and the real judge.

use std::collections::HashSet;
use std::time::Duration;

use super::Traffic;
use crate::judge::{Counts, GuardSpec, Judge, Verdict};
use crate::random::Random;

/// One run's traffic, versions and judge.
#[derive(Clone)]
pub(super) struct World {
    judge: Judge,
    pub(super) random: Random,
    pub(super) canary: Counts,
    pub(super) stable: Counts,
    now: Duration,
    gap: Duration,
    last_look: Duration,
    pub(super) traffic: Traffic,
    pub(super) canary_rate: f64,
    canary_users: u64,
    pub(super) users_hit: HashSet<u64>,
}

impl World {
    pub(super) fn new(guards: &[GuardSpec], traffic: Traffic, users: u64, random: Random) -> Self {
        let (canary, stable) = (Counts::default(), Counts::default());
        Self {
            judge: Judge::new(guards, &canary, &stable, Duration::ZERO),
            random,
            canary,
            stable,
            now: Duration::ZERO,
            gap: Duration::from_secs_f64(1.0 / traffic.requests_per_second.clamp(1e-6, 1e9)),
            last_look: Duration::ZERO,
            traffic,
            canary_rate: traffic.stable_rate,
            canary_users: ((users as f64 * traffic.canary_share) as u64).max(1),
            users_hit: HashSet::new(),
        }
    }

    /// Goes on until a breach or `done`, with a look at most every `look_every`.
    pub(super) fn run_until(&mut self, look_every: Duration, done: impl Fn(&Self) -> bool) -> Verdict {
        while !done(self) {
            self.request();
            if self.now - self.last_look < look_every {
                continue;
            }
            self.last_look = self.now;
            self.judge.observe(self.now, &self.canary, &self.stable);
            if self.judge.has_breached() {
                return Verdict::Breach;
            }
        }
        Verdict::Hold
    }

    fn request(&mut self) {
        self.now += self.gap;
        if self.random.chance(self.traffic.canary_share) {
            self.canary.judged += 1;
            if self.random.chance(self.canary_rate) {
                self.canary.errors += 1;
                self.users_hit.insert(self.random.below(self.canary_users));
            }
        } else {
            self.stable.judged += 1;
            self.stable.errors += u64::from(self.random.chance(self.traffic.stable_rate));
        }
    }
}
