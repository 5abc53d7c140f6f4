//! One metric family: its name, help and labels, and samples made to fit.

use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::telemetry::stats::{Distribution, bucket_end};

/// The exported boundaries, as powers of two in microseconds: 1.024 ms to 268 s, each an edge of the fine
/// buckets, so that summing those up to it is exact.
const BOUNDARY_POWERS: std::ops::RangeInclusive<u32> = 10..=28;

/// Those of whole numbers, each second power: 1, 4, 16 … 67,108,864.
const COUNT_POWERS: std::ops::RangeInclusive<u32> = 0..=26;

/// What a family is, without its samples.
pub(super) struct Family {
    desc: Desc,
    kind: MetricType,
}

impl Family {
    pub(super) fn counter(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(name, help, labels, MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(name, help, labels, MetricType::GAUGE)
    }

    pub(super) fn histogram(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(name, help, labels, MetricType::HISTOGRAM)
    }

    fn new(name: &str, help: &str, labels: &[&str], kind: MetricType) -> Self {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, std::collections::HashMap::new());
        // Names are constants of this room, and a unit test builds every one of them.
        Self { desc: desc.expect("a valid metric name"), kind }
    }

    pub(super) fn desc(&self) -> &Desc {
        &self.desc
    }

    /// The family with these samples.
    pub(super) fn with(&self, metrics: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric(metrics);
        family
    }

    /// The family with its one unlabelled sample.
    pub(super) fn with_one(&self, value: f64) -> MetricFamily {
        self.with(vec![self.sample(&[], value)])
    }

    /// A counter's or a gauge's sample, with the label values in the order of the names.
    pub(super) fn sample(&self, values: &[&str], value: f64) -> Metric {
        let mut metric = self.labelled(values);
        match self.kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metric
    }

    pub(super) fn histogram_sample(&self, values: &[&str], distribution: &Distribution) -> Metric {
        let mut metric = self.labelled(values);
        metric.set_histogram(of_times(distribution));
        metric
    }

    /// As [`Self::histogram_sample`], of whole numbers.
    pub(super) fn histogram_of_counts(&self, values: &[&str], distribution: &Distribution) -> Metric {
        let mut metric = self.labelled(values);
        metric.set_histogram(of_counts(distribution));
        metric
    }

    fn labelled(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(values.len(), self.desc.variable_labels.len(), "{}", self.desc.fq_name);
        let pair = |(name, value): (&String, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value((*value).to_owned());
            pair
        };
        Metric::from_label(self.desc.variable_labels.iter().zip(values).map(pair).collect())
    }
}

/// The fine buckets added up to the boundaries, each an edge of theirs; `shown` says how a boundary and the sum read.
fn coarse(
    distribution: &Distribution,
    boundaries: impl Iterator<Item = u64>,
    boundary_shown: fn(u64) -> f64,
    sum_shown: fn(u64) -> f64,
) -> Histogram {
    let mut buckets = Vec::new();
    let mut boundaries = boundaries.peekable();
    let mut cumulative = 0;
    for (index, count) in distribution.counts().enumerate() {
        cumulative += count;
        if let Some(boundary) = boundaries.next_if_eq(&bucket_end(index)) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(boundary_shown(boundary));
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(sum_shown(distribution.sum));
    histogram
}

fn of_times(distribution: &Distribution) -> Histogram {
    coarse(distribution, BOUNDARY_POWERS.map(|power| 1 << power), seconds, seconds)
}

/// Of whole numbers: those below a boundary are those up to the number before it.
fn of_counts(distribution: &Distribution) -> Histogram {
    coarse(distribution, COUNT_POWERS.step_by(2).map(|power| 1 << power), |count| (count - 1) as f64, |sum| sum as f64)
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_boundary_is_there_and_in_order() {
        let histogram = of_times(&Distribution::default());
        let bounds: Vec<f64> = histogram.get_bucket().iter().map(Bucket::upper_bound).collect();
        assert_eq!(bounds.len(), 19);
        assert_eq!((bounds[0], bounds[18]), (0.001024, 268.435456));
        assert!(bounds.windows(2).all(|pair| pair[1] == 2.0 * pair[0]));
    }

    #[test]
    fn each_value_is_below_the_boundaries_above_it_and_no_other() {
        for us in [0, 1, 1_023, 1_024, 1_025, 5_000, (1 << 20) - 1, 1 << 20, (1 << 28) - 1, 1 << 28, 1 << 40] {
            let mut distribution = Distribution::default();
            distribution.record(Duration::from_micros(us));
            let histogram = of_times(&distribution);
            for bucket in histogram.get_bucket() {
                let expected = u64::from((us as f64) < bucket.upper_bound() * 1e6);
                assert_eq!(bucket.cumulative_count(), expected, "{us} µs, le {}", bucket.upper_bound());
            }
            assert_eq!(histogram.get_sample_count(), 1);
            assert_eq!(histogram.get_sample_sum(), us as f64 / 1e6);
        }
    }

    #[test]
    fn whole_numbers_are_at_or_below_their_boundary() {
        for count in [0, 1, 3, 4, 15, 16, 4_095, 4_096, 16_384, 67_108_863, 67_108_864, 1 << 40] {
            let mut distribution = Distribution::default();
            distribution.record_units(count);
            let histogram = of_counts(&distribution);
            assert_eq!(histogram.get_bucket().len(), 14);
            for bucket in histogram.get_bucket() {
                let expected = u64::from(count as f64 <= bucket.upper_bound());
                assert_eq!(bucket.cumulative_count(), expected, "{count}, le {}", bucket.upper_bound());
            }
            assert_eq!(histogram.get_sample_sum(), count as f64);
        }
    }
}
