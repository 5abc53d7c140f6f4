//! What an agent's exchanges may do when an endpoint fails, and when a version is not asked at all.
//!
//! Facts only. [`super::budget`] and [`super::breaker`] say what follows from them; the proxy does it.

use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resilience {
    pub retries: RetrySpec,
    /// `None`: a version is asked whatever it answers.
    pub breaker: Option<BreakerSpec>,
    pub priority: Priority,
}

/// When a request is sent again, that an endpoint may have acted on. What none can have acted on is sent again in any
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySpec {
    /// After the first; 0: none.
    pub attempts: u32,
    /// Answers that are as good as none.
    pub statuses: Vec<u16>,
    /// How long an attempt may take to its head while another may follow it.
    pub per_try_timeout: Option<Duration>,
    pub backoff: Backoff,
    pub budget: Budget,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            attempts: 2,
            statuses: vec![502, 503, 504],
            per_try_timeout: None,
            backoff: Backoff::default(),
            budget: Budget::default(),
        }
    }
}

/// How long to wait before an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// Anything from nothing to the whole, which doubles with each retry ("full jitter"), so that clients which failed
    /// together do not come back together. At least what the endpoint has asked for, where that is no more than `max`.
    pub fn wait(&self, retry: u32, asked: Option<Duration>, random: u64) -> Duration {
        let whole = self.base.saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX)).min(self.max);
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        whole.mul_f64(share).max(asked.unwrap_or_default().min(self.max))
    }
}

/// How many retries a version may have, all workers together: see [`super::budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In millionths of its requests.
    pub ratio_millionths: u32,
    pub per_second: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { ratio_millionths: 200_000, per_second: 10 }
    }
}

/// When a version is not asked: see [`super::breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSpec {
    /// Exchanges with the version at a time.
    pub max_concurrent: Option<u32>,
    /// Of them, those that wait for a connection or for their next attempt.
    pub max_pending: Option<u32>,
    /// So many failures one after the other open it.
    pub consecutive_failures: Option<u32>,
    pub error_share: Option<ErrorShare>,
    /// How long it stays open before it lets a few through to see.
    pub open_for: Duration,
    /// That many, which must all go well.
    pub half_open_requests: u32,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            max_concurrent: None,
            max_pending: None,
            consecutive_failures: None,
            error_share: None,
            open_for: Duration::from_secs(5),
            half_open_requests: 3,
        }
    }
}

/// A share of failures that opens the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorShare {
    pub millionths: u32,
    pub window: Duration,
    /// Fewer exchanges in the window say nothing.
    pub min_requests: u32,
}

/// Who is refused first when there is too much to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    Low,
    #[default]
    Normal,
    /// Never refused for that.
    High,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_most_and_is_anything_below() {
        let backoff = Backoff::default();
        let ms = |retry, random| backoff.wait(retry, None, random).as_millis();
        assert_eq!(
            [0, 1, 2, 3, 4, 31, 32, 99].map(|retry| ms(retry, u64::MAX)),
            [25, 50, 100, 200, 250, 250, 250, 250]
        );
        assert_eq!([ms(0, 0), ms(9, 0)], [0, 0]);
        assert_eq!(ms(1, u64::MAX / 2), 25);
    }

    #[test]
    fn what_an_endpoint_asks_for_is_the_least_up_to_the_most() {
        let backoff = Backoff::default();
        let asked = |ms, random| backoff.wait(0, Some(Duration::from_millis(ms)), random).as_millis();
        assert_eq!([asked(0, 0), asked(20, 0), asked(10, u64::MAX), asked(60_000, 0)], [0, 20, 25, 250]);
    }
}
