//! When endpoints are ejected, as an author says it.

use std::time::Duration;

use crate::routing::ids::Weight;

/// When endpoints are ejected, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EjectionSpec {
    /// `None`: no request ejects an endpoint; checks still do.
    pub consecutive_failures: Option<u32>,
    /// Statuses that are failures of the endpoint.
    pub statuses: Vec<u16>,
    /// How long the first ejection in a row lasts, at most; and how long a good endpoint takes to live one down.
    pub base_time: Duration,
    pub max_time: Duration,
    /// The share of a version's endpoints that may be out at a time; at least one may, and never all.
    pub max_ejected: Weight,
}

impl Default for EjectionSpec {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            statuses: vec![502, 503, 504],
            base_time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
            max_ejected: Weight::new(50_000).unwrap_or(Weight::FULL),
        }
    }
}

impl EjectionSpec {
    pub fn is_failure(&self, status: u16) -> bool {
        status >= 400 && self.statuses.contains(&status)
    }

    /// How many of so many endpoints may be out.
    pub(super) fn most_out(&self, endpoints: usize) -> usize {
        let share = endpoints as u64 * u64::from(self.max_ejected.get()) / u64::from(Weight::FULL.get());
        (share as usize).max(1).min(endpoints.saturating_sub(1))
    }

    /// After so many ejections in a row: between four fifths of the doubled time and all of it.
    pub(super) fn time(&self, in_a_row: u32, random: u64) -> Duration {
        let doubled = self.base_time.saturating_mul(1_u32.checked_shl(in_a_row).unwrap_or(u32::MAX));
        let most = doubled.min(self.max_time);
        most - most / 5 * (random % 1_024) as u32 / 1_024
    }
}
