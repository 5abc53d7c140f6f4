//! Circuit breakers and load shedding. Only versions with a breaker have series here.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::Family;
use super::{BreakerFigures, Source};
use crate::telemetry::counters::ProxyCounters;
use crate::telemetry::shedding::Shedding;
use crate::telemetry::stats::BreakerPhase;

const VERSION: [&str; 3] = ["environment", "agent", "version"];

pub(super) struct ProtectionCollector {
    source: Arc<Source<Vec<BreakerFigures>>>,
    proxy: Arc<[ProxyCounters]>,
    /// How many versions are shown.
    limit: usize,
    state: Family,
    opened: Family,
    shed: Family,
    level: Family,
    lateness: Family,
}

impl ProtectionCollector {
    pub(super) fn new(source: Arc<Source<Vec<BreakerFigures>>>, proxy: Arc<[ProxyCounters]>, limit: usize) -> Self {
        let bound = format!("At most {limit} versions, in label order.");
        Self {
            source,
            proxy,
            limit,
            state: Family::gauge(
                "pointsman_circuit_breaker_state",
                &format!("1 for the state that the version's circuit breaker is in. {bound}"),
                &["environment", "agent", "version", "state"],
            ),
            opened: Family::counter(
                "pointsman_circuit_breaker_opened_total",
                &format!("Times that the version's circuit breaker opened. {bound}"),
                &VERSION,
            ),
            shed: Family::counter(
                "pointsman_load_shed_total",
                "Requests refused because there was too much to do, by the priority of their agent.",
                &["priority"],
            ),
            level: Family::gauge(
                "pointsman_load_shedding_level",
                "Whom the worker that is worst off refuses for being late: 0 nobody, 1 low, 2 normal priority too.",
                &[],
            ),
            lateness: Family::gauge(
                "pointsman_worker_lateness_seconds",
                "How long what was ready has waited for the worker that is worst off, at its last heartbeat.",
                &[],
            ),
        }
    }

    fn breakers(&self) -> [MetricFamily; 2] {
        let mut breakers = self.source.read().unwrap_or_default();
        breakers.sort_by(|a, b| a.labels.cmp(&b.labels));
        breakers.truncate(self.limit);
        let (mut states, mut opened) = (Vec::new(), Vec::new());
        for BreakerFigures { labels, phase, opened: times } in &breakers {
            let [environment, agent, version] = [&*labels.environment, &labels.agent, &labels.version];
            for state in BreakerPhase::ALL {
                let value = if state == *phase { 1.0 } else { 0.0 };
                states.push(self.state.sample(&[environment, agent, version, state.as_str()], value));
            }
            opened.push(self.opened.sample(&[environment, agent, version], *times as f64));
        }
        [self.state.with(states), self.opened.with(opened)]
    }

    fn shedding(&self) -> [MetricFamily; 3] {
        let workers = || self.proxy.iter().map(|worker| &worker.shedding);
        let shed = [("low", Shedding::Low), ("normal", Shedding::Normal)].map(|(priority, by)| {
            let count: u64 = workers().map(|worker| worker.refusals(by)).sum();
            self.shed.sample(&[priority], count as f64)
        });
        let level = workers().map(|worker| worker.level()).max().unwrap_or_default();
        let lateness = workers().map(|worker| worker.lateness()).max().unwrap_or_default();
        [
            self.shed.with(shed.to_vec()),
            self.level.with_one(level as f64),
            self.lateness.with_one(lateness.as_secs_f64()),
        ]
    }
}

impl Collector for ProtectionCollector {
    fn desc(&self) -> Vec<&Desc> {
        [&self.state, &self.opened, &self.shed, &self.level, &self.lateness].map(Family::desc).to_vec()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.breakers().into_iter().chain(self.shedding()).collect()
    }
}
