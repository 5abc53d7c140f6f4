//! The budget of a version's retries: a share of its requests and so many a second, so that a version which fails is
//! not asked several times as much for it.
//!
//! A token bucket that nobody fills. What has been earned since the beginning is known whenever it is asked: the
//! workers count the requests anyway, and the rest is the clock. Only what is spent is kept, in one atomic that
//! workers share and that a request which is not sent again never touches.
//!
//! Bound: what may be saved up is what [`SAVED_SECONDS`] of `per_second` give, and at least [`SAVED_LEAST`] retries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::resilience::Budget;

const SAVED_SECONDS: u64 = 10;
const SAVED_LEAST: u64 = 10;

/// One retry, in the unit of account.
const RETRY: u64 = 1_000_000;

impl Budget {
    /// Takes one retry, if there is one. `requests` have begun in the time `elapsed`; both only grow.
    pub fn take(&self, spent: &AtomicU64, requests: u64, elapsed: Duration) -> bool {
        let (saved, earned) = (self.saved(), self.earned(requests, elapsed));
        let mut granted = false;
        let settled = spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
            let next = spend(spent, earned, saved);
            granted = next.is_ok();
            next.map_or_else(|right| right, Some)
        });
        settled.is_ok() && granted
    }

    fn saved(&self) -> u64 {
        (SAVED_SECONDS * u64::from(self.per_second)).max(SAVED_LEAST) * RETRY
    }

    /// A version begins with all that may be saved.
    fn earned(&self, requests: u64, elapsed: Duration) -> u64 {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let by_time = micros.saturating_mul(u64::from(self.per_second));
        let by_requests = requests.saturating_mul(u64::from(self.ratio_millionths));
        self.saved().saturating_add(by_time).saturating_add(by_requests)
    }
}

/// What is spent after one retry more. `Err`: there is none left; what is spent, where that is to be set right.
fn spend(spent: u64, earned: u64, saved: u64) -> Result<u64, Option<u64>> {
    // More than was ever there: the budget was larger before a reload. It goes on from empty.
    if spent > earned.saturating_add(saved) {
        return Err(Some(earned));
    }
    let next = spent.max(earned.saturating_sub(saved)).saturating_add(RETRY);
    if next <= earned { Ok(next) } else { Err(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `wanted` retries are granted.
    fn granted(budget: Budget, spent: &AtomicU64, requests: u64, seconds: u64, wanted: u64) -> u64 {
        (0..wanted).filter(|_| budget.take(spent, requests, Duration::from_secs(seconds))).count() as u64
    }

    fn budget(percent: u32, per_second: u32) -> Budget {
        Budget { ratio_millionths: percent * 10_000, per_second }
    }

    #[test]
    fn a_share_of_the_requests_and_so_many_a_second_beyond_what_is_saved() {
        for (percent, per_second, requests, seconds, expected) in [
            (20, 10, 0, 0, 100),
            (20, 10, 1_000, 0, 100),
            (20, 0, 0, 3_600, 10),
            (0, 1, 1_000_000, 0, 10),
            (0, 0, 1_000_000, 3_600, 10),
        ] {
            let (spent, budget) = (AtomicU64::new(0), budget(percent, per_second));
            assert_eq!(granted(budget, &spent, requests, seconds, 10_000), expected, "{budget:?}");
        }
    }

    #[test]
    fn what_is_earned_while_it_is_spent_is_exact() {
        let (spent, budget) = (AtomicU64::new(0), budget(20, 10));
        let mut all = 0;
        for second in 0..100 {
            for tenth in 0..10 {
                let elapsed = Duration::from_millis(second * 1_000 + tenth * 100);
                let requests = (second * 10 + tenth) * 10;
                all += (0..10).filter(|_| budget.take(&spent, requests, elapsed)).count();
            }
        }
        // Saved, of 99.9 s, of 9,990 requests.
        assert_eq!(all, 100 + 999 + 1_998);
    }

    #[test]
    fn no_more_than_ten_seconds_are_saved() {
        let (spent, budget) = (AtomicU64::new(0), budget(20, 10));
        assert_eq!(granted(budget, &spent, 0, 0, 1_000), 100);
        assert_eq!(granted(budget, &spent, 0, 3, 1_000), 30);
        assert_eq!(granted(budget, &spent, 1_000_000, 3_600, 1_000), 100);
    }

    #[test]
    fn a_budget_that_was_lowered_goes_on_from_empty_and_one_that_was_raised_from_full() {
        let (spent, large, small) = (AtomicU64::new(0), budget(100, 100), budget(0, 1));
        // Spends as it goes, so that much is spent.
        for second in 0..1_000 {
            granted(large, &spent, 0, second, 1_000);
        }
        assert_eq!(granted(small, &spent, 0, 1_000, 10), 0);
        assert_eq!(granted(small, &spent, 0, 1_005, 10), 5);
        assert_eq!(granted(large, &spent, 0, 1_005, 5_000), 1_000);
    }

    #[test]
    fn no_retry_is_granted_twice() {
        let (spent, budget) = (AtomicU64::new(0), budget(20, 10));
        let all: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| granted(budget, &spent, 0, 0, 1_000))).collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
        });
        assert_eq!(all, 100);
    }

    #[test]
    fn no_number_is_too_large() {
        let spent = AtomicU64::new(0);
        assert!(budget(100, u32::MAX).take(&spent, u64::MAX, Duration::MAX));
    }
}
