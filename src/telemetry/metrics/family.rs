//! One metric family: its name, help and labels, and samples made to fit.

use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::telemetry::stats::{Distribution, HISTOGRAM_BUCKETS, bucket_end_us};

/// The exported boundaries, as powers of two in microseconds: 1.024 ms to 268 s, each an edge of the fine
/// buckets, so that summing those up to it is exact.
const BOUNDARY_POWERS: std::ops::RangeInclusive<u32> = 10..=28;

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
        metric.set_histogram(coarse(distribution));
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

/// The fine buckets added up to the exported boundaries, in seconds.
fn coarse(distribution: &Distribution) -> Histogram {
    let mut buckets = Vec::with_capacity(BOUNDARY_POWERS.count());
    let mut boundaries = BOUNDARY_POWERS.map(|power| 1u64 << power).peekable();
    let mut cumulative = 0;
    for (index, count) in (0..HISTOGRAM_BUCKETS).zip(&distribution.counts) {
        cumulative += count;
        if let Some(boundary) = boundaries.next_if_eq(&bucket_end_us(index)) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(boundary));
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(seconds(distribution.sum_us));
    histogram
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
        let histogram = coarse(&Distribution::default());
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
            let histogram = coarse(&distribution);
            for bucket in histogram.get_bucket() {
                let expected = u64::from((us as f64) < bucket.upper_bound() * 1e6);
                assert_eq!(bucket.cumulative_count(), expected, "{us} µs, le {}", bucket.upper_bound());
            }
            assert_eq!(histogram.get_sample_count(), 1);
            assert_eq!(histogram.get_sample_sum(), us as f64 / 1e6);
        }
    }
}
