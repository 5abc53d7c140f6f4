//! What a guard can look at, and by which name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::counts::{Amount, Share, Timing};

/// What a guard looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    ErrorRate,
    LatencyP50,
    LatencyP90,
    LatencyP95,
    LatencyP99,
    /// To the first byte.
    TtfbP95,
    /// To the first event with content.
    TtftP95,
    /// Between one event with content and the next.
    InterTokenP95,
    OutputTokensMean,
    CostPerRequestMean,
    /// Of the answers that are streams.
    StreamErrorRate,
}

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// 0..=1 of the requests.
    Share,
    /// In API figures: seconds.
    Duration,
    Tokens,
    /// In the currency of the price table.
    Cost,
}

impl Metric {
    pub const ALL: [Self; 11] = [
        Self::ErrorRate,
        Self::LatencyP50,
        Self::LatencyP90,
        Self::LatencyP95,
        Self::LatencyP99,
        Self::TtfbP95,
        Self::TtftP95,
        Self::InterTokenP95,
        Self::OutputTokensMean,
        Self::CostPerRequestMean,
        Self::StreamErrorRate,
    ];

    /// The name in the configuration, the API and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::LatencyP50 => "latency_p50",
            Self::LatencyP90 => "latency_p90",
            Self::LatencyP95 => "latency_p95",
            Self::LatencyP99 => "latency_p99",
            Self::TtfbP95 => "ttfb_p95",
            Self::TtftP95 => "ttft_p95",
            Self::InterTokenP95 => "inter_token_p95",
            Self::OutputTokensMean => "output_tokens_mean",
            Self::CostPerRequestMean => "cost_per_request_mean",
            Self::StreamErrorRate => "stream_error_rate",
        }
    }

    /// What it is made of: all that the judge needs to know of a metric.
    pub(super) fn figure(self) -> Figure {
        match self {
            Self::ErrorRate => Figure::Share(Share::Failed),
            Self::LatencyP50 => Figure::Quantile(Timing::Total, 0.50),
            Self::LatencyP90 => Figure::Quantile(Timing::Total, 0.90),
            Self::LatencyP95 => Figure::Quantile(Timing::Total, 0.95),
            Self::LatencyP99 => Figure::Quantile(Timing::Total, 0.99),
            Self::TtfbP95 => Figure::Quantile(Timing::FirstByte, 0.95),
            Self::TtftP95 => Figure::Quantile(Timing::FirstToken, 0.95),
            Self::InterTokenP95 => Figure::Quantile(Timing::BetweenTokens, 0.95),
            Self::OutputTokensMean => Figure::Mean(Amount::OutputTokens),
            Self::CostPerRequestMean => Figure::Mean(Amount::Cost),
            Self::StreamErrorRate => Figure::Share(Share::StreamFailed),
        }
    }

    /// Whether its limit is a share, a duration or an amount.
    pub fn unit(self) -> Unit {
        match self.figure() {
            Figure::Share(_) => Unit::Share,
            Figure::Quantile(..) => Unit::Duration,
            Figure::Mean(Amount::OutputTokens) => Unit::Tokens,
            Figure::Mean(Amount::Cost) => Unit::Cost,
        }
    }

    /// The quantile that it is, if it is one.
    pub fn quantile(self) -> Option<f64> {
        match self.figure() {
            Figure::Quantile(_, quantile) => Some(quantile),
            Figure::Share(_) | Figure::Mean(_) => None,
        }
    }

    /// Whether it counts something in each request and takes the mean.
    pub fn is_mean(self) -> bool {
        self.amount().is_some()
    }

    /// What it is the mean of, if it is a mean.
    pub(super) fn amount(self) -> Option<Amount> {
        match self.figure() {
            Figure::Mean(amount) => Some(amount),
            Figure::Share(_) | Figure::Quantile(..) => None,
        }
    }

    /// The largest cap that its guards may have, for a mean.
    pub fn cap_max(self) -> Option<f64> {
        self.amount().map(Amount::cap_max)
    }

    /// Whether each request has one say in it. The gaps between one stream's tokens come and go together: a few
    /// hundred of them are no more evidence than one request, so no confidence can be promised on them.
    pub fn is_per_request(self) -> bool {
        !matches!(self.figure(), Figure::Quantile(Timing::BetweenTokens, _))
    }
}

/// A share of yes answers, a quantile of times, or a mean of amounts: the kinds of figure that can be judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Figure {
    Share(Share),
    Quantile(Timing, f64),
    Mean(Amount),
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
    fn quantiles_are_durations_and_means_are_amounts() {
        for metric in Metric::ALL {
            assert_eq!(metric.unit() == Unit::Duration, metric.quantile().is_some(), "{metric}");
            assert_eq!(matches!(metric.unit(), Unit::Tokens | Unit::Cost), metric.is_mean(), "{metric}");
        }
    }
}
