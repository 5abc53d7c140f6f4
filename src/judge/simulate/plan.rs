//! What to simulate, and the grid that is published.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::judge::{GuardSpec, GuardTest, Metric};

/// What to simulate. Every combination of traffic with the other lists is a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Judged together. Error rates only: the simulated requests have no latency.
    pub guards: Vec<GuardSpec>,
    pub false_alarms: FalseAlarmPlan,
    pub detection: DetectionPlan,
    pub seed: u64,
    /// Changes nothing in the result.
    #[serde(skip)]
    pub threads: NonZeroUsize,
}

/// How often is a good canary blamed? Judged after every request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DetectionPlan {
    pub traffic: Vec<Traffic>,
    /// By how much the bad canary's rate is above stable's.
    pub defects: Vec<f64>,
    /// Healthy canary requests before the defect.
    pub healthy_requests: Vec<u64>,
    /// A run gives up after this many canary requests with the defect.
    pub canary_requests: u64,
    /// How often the judge looks: the bell's pace.
    #[serde(rename = "lookEverySeconds", serialize_with = "seconds")]
    pub look_every: Duration,
    /// How many users there are; a canary request is of any of the canary's share of them.
    pub users: u64,
    /// Per row.
    pub runs: u64,
}

/// One row's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
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

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Plan {
    /// The published grid, in requests per second …
    pub const PACES: [f64; 3] = [20.0 / 3_600.0, 10.0, 5_000.0];
    /// … canary's shares …
    pub const SHARES: [f64; 4] = [0.01, 0.05, 0.25, 0.5];
    /// … and stable's error rates.
    pub const RATES: [f64; 4] = [0.001, 0.01, 0.05, 0.2];

    /// The guard of the published table against these versions; every combination of traffic, share and rate is judged
    /// for false alarms, and for detection.
    pub fn grid(
        (margin, confidence): (f64, f64),
        requests_per_second: &[f64],
        canary_shares: &[f64],
        stable_rates: &[f64],
    ) -> Self {
        let test = GuardTest::WorseThanStable { margin, slower_than: None, cap: None, confidence };
        let traffic = Traffic::grid(requests_per_second, canary_shares, stable_rates);
        Self {
            guards: vec![GuardSpec { metric: Metric::ErrorRate, test }],
            false_alarms: FalseAlarmPlan {
                traffic: traffic.clone(),
                excesses: vec![0.0],
                canary_requests: 500,
                requests_max: 20_000,
                runs: 10_000,
            },
            detection: DetectionPlan {
                traffic,
                defects: vec![0.01, 0.02, 0.05, 0.1, 0.5, 1.0],
                healthy_requests: vec![0, 10_000],
                canary_requests: 10_000,
                look_every: Duration::from_millis(10),
                users: 10_000,
                runs: 200,
            },
            seed: 1,
            threads: NonZeroUsize::MIN,
        }
    }
}

impl Default for Plan {
    /// The published grid. A defect of +1 % must be one, so the margin is less; detection is shown at a share of 5 %.
    fn default() -> Self {
        let mut plan = Self::grid((0.005, 0.999), &Self::PACES, &Self::SHARES, &Self::RATES);
        let [slow, _, fast] = Self::PACES;
        plan.detection.traffic = Traffic::grid(&[slow, fast], &[0.05], &Self::RATES[..3]);
        plan
    }
}
