//! How a version's endpoints stand, and how often they were ejected: by version, never by address.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::Family;
use super::{EndpointFigures, Source};

pub(super) struct EndpointCollector {
    source: Arc<Source<Vec<EndpointFigures>>>,
    /// How many versions are shown.
    limit: usize,
    endpoints: Family,
    ejections: Family,
}

impl EndpointCollector {
    pub(super) fn new(source: Arc<Source<Vec<EndpointFigures>>>, limit: usize) -> Self {
        Self {
            source,
            limit,
            endpoints: Family::gauge(
                "pointsman_endpoints",
                "Endpoints of versions that new requests may get, by state: in_service, kept (it fails, but too many \
                 others are out), ejected, unhealthy (its checks fail).",
                &["environment", "agent", "version", "state"],
            ),
            ejections: Family::counter(
                "pointsman_endpoint_ejections_total",
                "Times that an endpoint was taken out of service, by what was wrong with it last.",
                &["environment", "agent", "version", "reason"],
            ),
        }
    }
}

impl Collector for EndpointCollector {
    fn desc(&self) -> Vec<&Desc> {
        [&self.endpoints, &self.ejections].map(Family::desc).into()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut all = self.source.read().unwrap_or_default();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all.truncate(self.limit);
        let shown = |family: &Family, figures: fn(&EndpointFigures) -> &[(&'static str, u64)]| {
            let of_version = |version: &EndpointFigures| {
                let labels = version.labels.clone();
                let sample = move |(value, count): &(&'static str, u64)| {
                    let names = [&*labels.environment, &*labels.agent, &*labels.version, *value];
                    family.sample(&names, *count as f64)
                };
                figures(version).iter().map(sample).collect::<Vec<_>>()
            };
            family.with(all.iter().flat_map(of_version).collect())
        };
        vec![shown(&self.endpoints, |version| &version.states), shown(&self.ejections, |version| &version.ejections)]
    }
}
