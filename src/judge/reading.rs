//! What the judge says, for people and for the API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GuardSpec, Unit};

/// What the judge says of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Not enough data, or not clear enough: stay.
    Hold,
    /// The condition holds, on enough data: go on.
    Pass,
    /// The condition is broken: go back.
    Breach,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Pass => "pass",
            Self::Breach => "breach",
        }
    }

    /// Any breach is a breach; all must pass to pass; no guards pass.
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Pass;
        for verdict in verdicts {
            match verdict {
                Self::Breach => return Self::Breach,
                Self::Hold => all = Self::Hold,
                Self::Pass => {}
            }
        }
        all
    }
}

/// All guards together.
pub fn overall(readings: &[Reading]) -> Verdict {
    Verdict::all(readings.iter().map(|reading| reading.verdict))
}

/// What one version did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// That the guard counts: over its window, or since the deployment began.
    pub requests: u64,
    /// Failed, or slower than the limit; of a mean, those above the limit, or above the cap where stable is the limit.
    pub bad: u64,
    /// In the reading's unit (seconds where that is a duration); `None` without requests.
    pub estimate: Option<f64>,
    /// Which true figures are compatible with it: for a window at 95 %, at this one look; for an
    /// anytime-valid guard at the guard's confidence, at all looks together.
    pub interval: Option<(f64, f64)>,
}

/// A breach to come: if `bad` of the next `requests` are bad, the good ones first.
///
/// Computed by playing them to a copy of the guard, with stable as usual. Another order can only trip earlier, or within
/// a request of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    pub bad: u64,
    pub requests: u64,
}

impl Forecast {
    /// The least number of bad ones among `requests` that trips, where at least all of them do. The more bad ones, the
    /// sooner it trips; so by halving.
    pub(super) fn search(requests: u64, trips: impl Fn(u64) -> bool) -> Option<Self> {
        if !trips(requests) {
            return None;
        }
        let (mut too_few, mut enough) = (0, requests);
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            if trips(middle) { enough = middle } else { too_few = middle }
        }
        Some(Self { bad: enough, requests })
    }
}

/// What the judge says of one guard, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    pub guard: GuardSpec,
    pub verdict: Verdict,
    /// Of the figures and the limit. A quantile with a confidence is judged, and shown, as the share of
    /// slower requests.
    pub unit: Unit,
    pub canary: Figures,
    /// Where the guard compares with it.
    pub stable: Option<Figures>,
    /// What the canary's figure must not exceed just now; `None` where stable has shown nothing yet.
    pub limit: Option<f64>,
    /// Grows towards 1; a breach at 1 or more.
    pub evidence: f64,
    /// How many bad requests in a row (of a mean: requests at the cap) would be a breach; `None` where no number up to 1,000 would, or it is one.
    pub bad_to_breach: Option<u64>,
    /// What among the next requests would be a breach; `None` where nothing would, or it is one.
    pub forecast: Option<Forecast>,
    /// One sentence for people.
    pub explanation: String,
}
