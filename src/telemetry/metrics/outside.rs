//! How many health checks and Prometheus queries there were, and what became of them.

use std::sync::{Arc, Mutex};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::Family;
use super::lock;
use crate::telemetry::outside::{OutsideCounters, QueryResult};

pub(super) struct OutsideCollector {
    source: Arc<Mutex<Option<Arc<OutsideCounters>>>>,
    checks: Family,
    queries: Family,
}

impl OutsideCollector {
    pub(super) fn new(source: Arc<Mutex<Option<Arc<OutsideCounters>>>>) -> Self {
        Self {
            source,
            checks: Family::counter(
                "pointsman_health_checks_total",
                "Health checks of endpoints that ended, by whether they passed.",
                &["result"],
            ),
            queries: Family::counter(
                "pointsman_prometheus_queries_total",
                "Queries that guards sent to Prometheus, by what came back; all but `value` are no data.",
                &["result"],
            ),
        }
    }
}

impl Collector for OutsideCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.checks.desc(), self.queries.desc()]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(counters) = lock(&self.source).clone() else { return Vec::new() };
        let checks = [("success", counters.checks_passed()), ("failure", counters.checks_failed())];
        let checks = checks.map(|(result, count)| self.checks.sample(&[result], count as f64));
        let queries =
            QueryResult::ALL.map(|result| self.queries.sample(&[result.as_str()], counters.queries(result) as f64));
        vec![self.checks.with(checks.to_vec()), self.queries.with(queries.to_vec())]
    }
}
