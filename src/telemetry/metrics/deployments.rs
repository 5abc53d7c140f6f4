//! How deployments and their guards stand, as control last told.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily};

use super::family::Family;
use super::{DeploymentFigures, GuardFigures, Source};

pub(super) struct DeploymentCollector {
    source: Arc<Source<Vec<DeploymentFigures>>>,
    /// How many deployments are shown, and how many guards and causes.
    limit: usize,
    weight: Family,
    state: Family,
    value: Family,
    guard_limit: Family,
    evidence: Family,
    query_success: Family,
    check_success: Family,
    rollbacks: Family,
}

/// A guard by environment, agent and its own name.
type Guards<'a> = BTreeMap<(&'a str, &'a str, &'a str), &'a GuardFigures>;

impl DeploymentCollector {
    pub(super) fn new(source: Arc<Source<Vec<DeploymentFigures>>>, limit: usize) -> Self {
        let guard = ["environment", "agent", "guard"];
        Self {
            source,
            limit,
            weight: Family::gauge(
                "pointsman_deployment_weight_ratio",
                "Share of eligible requests that the deployment's version has now.",
                &["environment", "agent", "version"],
            ),
            state: Family::gauge(
                "pointsman_deployment_state",
                "1 for the state that the deployment is in; other states have no series.",
                &["environment", "agent", "version", "state"],
            ),
            value: Family::gauge(
                "pointsman_guard_value",
                "What the guard measures now, in its metric's unit (a ratio, or seconds).",
                &guard,
            ),
            guard_limit: Family::gauge(
                "pointsman_guard_limit",
                "What the guard's value is held against, in the same unit.",
                &guard,
            ),
            evidence: Family::gauge(
                "pointsman_guard_evidence_ratio",
                "How much of the evidence that a breach takes is there; 1 or more is a breach.",
                &guard,
            ),
            query_success: Family::gauge(
                "pointsman_prometheus_query_success",
                "1 if the newest answer to the guard's query was a value, 0 if it was no data.",
                &guard,
            ),
            check_success: Family::gauge(
                "pointsman_health_check_success",
                "1 if the endpoint of the version on trial is healthy by this check, 0 if not; none while unknown.",
                &["environment", "agent", "version", "check", "endpoint"],
            ),
            rollbacks: Family::counter(
                "pointsman_rollbacks_total",
                "Deployments that were rolled back, by cause.",
                &["environment", "agent", "cause"],
            ),
        }
    }

    fn deployments(&self, all: &[DeploymentFigures]) -> [MetricFamily; 2] {
        let (mut weights, mut states) = (Vec::new(), Vec::new());
        for deployment in all {
            let labels = &deployment.labels;
            let names = [&*labels.environment, &labels.agent, &labels.version];
            weights.push(self.weight.sample(&names, deployment.weight_ratio));
            states.push(self.state.sample(&[names[0], names[1], names[2], &deployment.state], 1.0));
        }
        [self.weight.with(weights), self.state.with(states)]
    }

    fn guards(&self, all: &[DeploymentFigures]) -> [MetricFamily; 4] {
        let mut guards = Guards::new();
        for deployment in all {
            let labels = &deployment.labels;
            for guard in &deployment.guards {
                guards.insert((&labels.environment, &labels.agent, &guard.guard), guard);
            }
        }
        let shown = |family: &Family, figure: fn(&GuardFigures) -> Option<f64>| {
            let samples = guards.iter().take(self.limit).filter_map(|((environment, agent, name), guard)| {
                let value = figure(guard).filter(|value| value.is_finite())?;
                Some(family.sample(&[environment, agent, name], value))
            });
            family.with(samples.collect())
        };
        [
            shown(&self.value, |guard| guard.value),
            shown(&self.guard_limit, |guard| guard.limit),
            shown(&self.evidence, |guard| guard.evidence_ratio),
            shown(&self.query_success, |guard| guard.query_success.map(|success| f64::from(u8::from(success)))),
        ]
    }

    fn checks(&self, all: &[DeploymentFigures]) -> MetricFamily {
        let mut checks = BTreeMap::new();
        for deployment in all {
            let labels = &deployment.labels;
            for check in &deployment.checks {
                let names = [&*labels.environment, &*labels.agent, &*labels.version, &check.check, &check.endpoint];
                // Two checks may have one name, as commands do: the one that fails is the one to be seen.
                let healthy = checks.entry(names).or_insert(check.healthy);
                if check.healthy != Some(true) && *healthy != Some(false) {
                    *healthy = check.healthy;
                }
            }
        }
        let sample = |(names, healthy): (&[&str; 5], &Option<bool>)| {
            healthy.map(|healthy| self.check_success.sample(names, f64::from(u8::from(healthy))))
        };
        self.check_success.with(checks.iter().take(self.limit).filter_map(sample).collect())
    }

    fn rollbacks(&self, all: &[DeploymentFigures]) -> MetricFamily {
        let mut counts = BTreeMap::<_, u64>::new();
        for deployment in all {
            let labels = &deployment.labels;
            for rollback in &deployment.rollbacks {
                let count = counts.entry((&*labels.environment, &*labels.agent, &*rollback.cause)).or_default();
                // Each deployment tells its agent's total, so two of one agent must not be added up.
                *count = rollback.count.max(*count);
            }
        }
        let sample = |((environment, agent, cause), count): (&(&str, &str, &str), &u64)| -> Metric {
            self.rollbacks.sample(&[environment, agent, cause], *count as f64)
        };
        self.rollbacks.with(counts.iter().take(self.limit).map(sample).collect())
    }
}

impl Collector for DeploymentCollector {
    fn desc(&self) -> Vec<&Desc> {
        let guards = [&self.value, &self.guard_limit, &self.evidence, &self.query_success];
        let others = [&self.weight, &self.state, &self.check_success, &self.rollbacks];
        guards.into_iter().chain(others).map(Family::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut all = self.source.read().unwrap_or_default();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut families = vec![self.rollbacks(&all)];
        all.dedup_by(|a, b| a.labels == b.labels);
        all.truncate(self.limit);
        families.extend(self.deployments(&all));
        families.extend(self.guards(&all));
        families.push(self.checks(&all));
        families
    }
}
