//! What a guard can look at, and by which name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a guard looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    ErrorRate,
    LatencyP50,
    LatencyP90,
    LatencyP95,
    LatencyP99,
    TtfbP95,
}

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// 0..=1 of the requests.
    Share,
    /// In API figures: seconds.
    Duration,
}

impl Metric {
    pub const ALL: [Self; 6] =
        [Self::ErrorRate, Self::LatencyP50, Self::LatencyP90, Self::LatencyP95, Self::LatencyP99, Self::TtfbP95];

    /// The name in the configuration, the API and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::LatencyP50 => "latency_p50",
            Self::LatencyP90 => "latency_p90",
            Self::LatencyP95 => "latency_p95",
            Self::LatencyP99 => "latency_p99",
            Self::TtfbP95 => "ttfb_p95",
        }
    }

    /// Whether its limit is a share or a duration.
    pub fn unit(self) -> Unit {
        match self.quantile() {
            None => Unit::Share,
            Some(_) => Unit::Duration,
        }
    }

    /// The quantile that it is, if it is one.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::ErrorRate => None,
            Self::LatencyP50 => Some(0.50),
            Self::LatencyP90 => Some(0.90),
            Self::LatencyP95 | Self::TtfbP95 => Some(0.95),
            Self::LatencyP99 => Some(0.99),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl schemars::JsonSchema for Metric {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Metric".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": Self::ALL.map(Self::as_str) })
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A name that is no metric's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no metric is named {0:?}")]
pub struct UnknownMetric(pub String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == name).ok_or_else(|| UnknownMetric(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_metric() {
        for metric in Metric::ALL {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        assert_eq!("latency".parse::<Metric>(), Err(UnknownMetric("latency".into())));
    }

    #[test]
    fn quantiles_are_durations_and_rates_are_shares() {
        for metric in Metric::ALL {
            assert_eq!(metric.unit() == Unit::Duration, metric.quantile().is_some(), "{metric}");
        }
    }
}
