//! Guards as their author writes them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::counts::Amount;
use super::{Metric, Unit};

/// A condition on a version's live figures that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuardSpec {
    pub metric: Metric,
    pub test: GuardTest,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum GuardTest {
    /// Breach when the figure over the last `window` is above `limit` and at least `min_requests` are in it.
    Windowed {
        limit: Limit,
        #[serde(rename = "windowSeconds", serialize_with = "seconds", deserialize_with = "from_seconds")]
        #[schemars(with = "f64")]
        window: Duration,
        min_requests: u64,
    },
    /// Anytime-valid against a fixed limit: the chance of ever blaming a version that keeps the limit is at most 1 − confidence.
    Above {
        limit: Limit,
        /// For a mean, and only there: no request counts for more than this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cap: Option<f64>,
        confidence: f64,
    },
    /// Anytime-valid against stable: the canary's rate, or its mean, may exceed stable's by at most `margin`.
    /// For a latency metric `slower_than` says what counts as slow; for a mean `cap` is the most that one request counts.
    WorseThanStable {
        margin: f64,
        #[serde(
            rename = "slowerThanSeconds",
            serialize_with = "maybe_seconds",
            deserialize_with = "maybe_from_seconds"
        )]
        #[schemars(with = "Option<f64>")]
        slower_than: Option<Duration>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cap: Option<f64>,
        confidence: f64,
    },
}

/// A limit in the metric's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// For error rates, 0..=1.
    Rate(f64),
    /// For latency metrics.
    #[serde(rename = "seconds", serialize_with = "seconds", deserialize_with = "from_seconds")]
    Duration(#[schemars(with = "f64")] Duration),
    /// For means, in the metric's unit.
    Mean(f64),
}

/// Whether a guard's parts fit together, for those who read guards from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("{0} is a share: its limit is a percentage")]
    WantsShare(Metric),
    #[error("{0} is a time: its limit is a duration")]
    WantsDuration(Metric),
    #[error("{0} is a time: to compare it with stable, say what is slow with slower_than")]
    WantsSlowerThan(Metric),
    #[error("slower_than makes sense only for a latency, and {0} is none")]
    NoLatency(Metric),
    #[error("{0} is a mean: its limit is a number")]
    WantsNumber(Metric),
    #[error("{0} is a mean: to judge it with a confidence, say with cap how much one request may count at most")]
    WantsCap(Metric),
    #[error("a cap makes sense only for a mean that is judged with a confidence")]
    NoCap,
    #[error("the cap must be above the limit, and no more than the figures can tell apart")]
    CapOutOfRange,
    #[error("an amount must be above 0")]
    AmountOutOfRange,
    #[error("{0} counts many times in one request: it takes a window and no confidence")]
    NotPerRequest(Metric),
    #[error("a share must be within 0 % and 100 %")]
    ShareOutOfRange,
    #[error("the confidence must be above 0 % and below 100 %")]
    ConfidenceOutOfRange,
    #[error("the window must be longer than nothing")]
    EmptyWindow,
}

impl GuardSpec {
    /// Every guard that passes this is judged as it says; one that does not can do no harm but never breaches.
    pub fn check(&self) -> Result<(), GuardError> {
        match self.test {
            GuardTest::Windowed { limit, window, .. } => {
                self.check_limit(limit)?;
                if window.is_zero() { Err(GuardError::EmptyWindow) } else { Ok(()) }
            }
            GuardTest::Above { limit, cap, confidence } => {
                self.check_limit(limit)?;
                self.check_cap(cap, if let Limit::Mean(limit) = limit { limit } else { 0.0 })?;
                self.check_confidence(confidence)
            }
            GuardTest::WorseThanStable { margin, slower_than, cap, confidence } => {
                if self.metric.is_mean() {
                    check_amount(margin)?
                } else {
                    check_share(margin)?
                }
                self.check_cap(cap, margin)?;
                match (self.metric.unit(), slower_than) {
                    (Unit::Duration, None) => Err(GuardError::WantsSlowerThan(self.metric)),
                    (Unit::Duration, _) | (_, None) => self.check_confidence(confidence),
                    (_, Some(_)) => Err(GuardError::NoLatency(self.metric)),
                }
            }
        }
    }

    fn check_limit(&self, limit: Limit) -> Result<(), GuardError> {
        match (self.metric.unit(), limit) {
            (Unit::Share, Limit::Rate(rate)) => check_share(rate),
            (Unit::Duration, Limit::Duration(_)) => Ok(()),
            (Unit::Tokens | Unit::Cost, Limit::Mean(mean)) => check_amount(mean),
            (Unit::Share, _) => Err(GuardError::WantsShare(self.metric)),
            (Unit::Duration, _) => Err(GuardError::WantsDuration(self.metric)),
            (Unit::Tokens | Unit::Cost, _) => Err(GuardError::WantsNumber(self.metric)),
        }
    }

    fn check_cap(&self, cap: Option<f64>, above: f64) -> Result<(), GuardError> {
        let most = self.metric.amount().map(Amount::cap_max);
        match (most, cap) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(GuardError::NoCap),
            (Some(_), None) => Err(GuardError::WantsCap(self.metric)),
            (Some(most), Some(cap)) if above < cap && cap <= most => Ok(()),
            (Some(_), Some(_)) => Err(GuardError::CapOutOfRange),
        }
    }

    fn check_confidence(&self, confidence: f64) -> Result<(), GuardError> {
        if !self.metric.is_per_request() {
            return Err(GuardError::NotPerRequest(self.metric));
        }
        if confidence > 0.0 && confidence < 1.0 { Ok(()) } else { Err(GuardError::ConfidenceOutOfRange) }
    }
}

fn check_amount(amount: f64) -> Result<(), GuardError> {
    if amount > 0.0 && amount.is_finite() { Ok(()) } else { Err(GuardError::AmountOutOfRange) }
}

fn check_share(share: f64) -> Result<(), GuardError> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(GuardError::ShareOutOfRange) }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn maybe_from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let seconds = Option::<f64>::deserialize(deserializer)?;
    seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
}

fn maybe_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|d| d.as_secs_f64()).serialize(serializer)
}
