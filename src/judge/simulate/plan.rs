//! What to simulate, and the grid that is published.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::judge::{GuardSpec, GuardTest, Metric};

/// What to simulate. Every combination of traffic with the other lists is a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Judged together. Error rates only: the simulated requests have no latency.
    pub guards: Vec<GuardSpec>,
    pub false_alarms: FalseAlarmPlan,
    pub detection: DetectionPlan,
    pub seed: u64,
    pub threads: NonZeroUsize,
}

/// How often is a good canary blamed? Judged after every request.
#[derive(Clone, Debug, PartialEq)]
pub struct FalseAlarmPlan {
    pub traffic: Vec<Traffic>,
    /// By how much the good canary's rate is above stable's; up to a guard's margin it is good.
    pub excesses: Vec<f64>,
    /// A run ends after this many canary requests, or this many of both versions, whichever is first.
    pub canary_requests: u64,
    pub requests_max: u64,
    /// Per row.
    pub runs: u64,
}

/// What does it take to find a bad one?
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionPlan {
    pub traffic: Vec<Traffic>,
    /// By how much the bad canary's rate is above stable's.
    pub defects: Vec<f64>,
    /// Healthy canary requests before the defect.
    pub healthy_requests: Vec<u64>,
    /// A run gives up after this many canary requests with the defect.
    pub canary_requests: u64,
    /// How often the judge looks: the bell's pace.
    pub look_every: Duration,
    /// How many users there are; a canary request is of any of the canary's share of them.
    pub users: u64,
    /// Per row.
    pub runs: u64,
}

/// One row's traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// Stable's share of bad requests.
    pub stable_rate: f64,
    /// The canary's share of the traffic.
    pub canary_share: f64,
    /// Of both versions together.
    pub requests_per_second: f64,
}

impl Traffic {
    /// Every combination.
    pub fn grid(requests_per_second: &[f64], canary_shares: &[f64], stable_rates: &[f64]) -> Vec<Self> {
        let mut grid = Vec::with_capacity(requests_per_second.len() * canary_shares.len() * stable_rates.len());
        for requests_per_second in requests_per_second.iter().copied() {
            for canary_share in canary_shares.iter().copied() {
                let row = |stable_rate| Self { stable_rate, canary_share, requests_per_second };
                grid.extend(stable_rates.iter().copied().map(row));
            }
        }
        grid
    }
}

impl Default for Plan {
    /// The grid of the published table; a few minutes in a release build on two cores.
    fn default() -> Self {
        let test = GuardTest::WorseThanStable { margin: 0.01, slower_than: None, confidence: 0.999 };
        let per_hour = |requests: f64| requests / 3_600.0;
        Self {
            guards: vec![GuardSpec { metric: Metric::ErrorRate, test }],
            false_alarms: FalseAlarmPlan {
                traffic: Traffic::grid(
                    &[per_hour(20.0), 10.0, 5_000.0],
                    &[0.01, 0.05, 0.25, 0.5],
                    &[0.001, 0.01, 0.05, 0.2],
                ),
                excesses: vec![0.0],
                canary_requests: 1_000,
                requests_max: 50_000,
                runs: 10_000,
            },
            detection: DetectionPlan {
                traffic: Traffic::grid(&[per_hour(20.0), 5_000.0], &[0.01, 0.05, 0.25], &[0.001, 0.01, 0.05]),
                defects: vec![0.01, 0.02, 0.05, 0.1, 0.5, 1.0],
                healthy_requests: vec![0, 10_000],
                canary_requests: 2_000,
                look_every: Duration::from_millis(10),
                users: 10_000,
                runs: 200,
            },
            seed: 1,
            threads: NonZeroUsize::MIN,
        }
    }
}
