//! What is one per process: build, configuration, table, the proxy's own counts, the access log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::Family;
use super::{Source, TableFigures, lock};
use crate::telemetry::access::AccessCounters;
use crate::telemetry::counters::{ErrorCode, ProxyCounters};
use crate::telemetry::reload::ReloadStatus;

pub(super) struct Sources {
    pub(super) reloads: Arc<ReloadStatus>,
    pub(super) proxy: Arc<[ProxyCounters]>,
    pub(super) access: Arc<Mutex<Option<Arc<AccessCounters>>>>,
    pub(super) table: Arc<Source<TableFigures>>,
    /// How many weights are shown.
    pub(super) limit: usize,
}

pub(super) struct InstanceCollector {
    sources: Sources,
    build: Family,
    reload_success: Family,
    reloads: Family,
    reload_time: Family,
    config: Family,
    epoch: Family,
    weight: Family,
    errors: Family,
    open: Family,
    access: Family,
    plain: Vec<(Family, Count)>,
}

/// Picks one of the plain counts of a worker.
type Count = fn(&ProxyCounters) -> &AtomicU64;

impl InstanceCollector {
    pub(super) fn new(sources: Sources) -> Self {
        let weight_help = format!(
            "Share of the agent's eligible requests that the live table gives to the version. At most {} series, in \
             label order.",
            sources.limit
        );
        Self {
            sources,
            build: Family::gauge("pointsman_build_info", "Always 1; says which release runs.", &["version"]),
            reload_success: Family::gauge(
                "pointsman_config_last_reload_success",
                "1 if the newest configuration is live, 0 if it was refused and the one before is.",
                &[],
            ),
            reloads: Family::counter(
                "pointsman_config_reloads_total",
                "Configurations read, by whether they took effect.",
                &["result"],
            ),
            reload_time: Family::gauge(
                "pointsman_config_last_reload_success_timestamp_seconds",
                "When a configuration last took effect, in Unix time.",
                &[],
            ),
            config: Family::gauge(
                "pointsman_config_info",
                "Always 1; says which configuration the live table is made of.",
                &["hash"],
            ),
            epoch: Family::gauge(
                "pointsman_table_epoch",
                "Number of the live routing table; grows by one with each that is published.",
                &[],
            ),
            weight: Family::gauge("pointsman_version_weight_ratio", &weight_help, &["environment", "agent", "version"]),
            errors: Family::counter(
                "pointsman_proxy_errors_total",
                "Requests that Pointsman itself answered with an error, by its code.",
                &["code"],
            ),
            open: Family::gauge("pointsman_client_connections_open", "Client connections open now.", &[]),
            access: Family::counter(
                "pointsman_access_log_records_total",
                "Access log records: written, dropped because the queue was full, or failed in writing.",
                &["result"],
            ),
            plain: plain(),
        }
    }

    fn proxy(&self, count: Count) -> f64 {
        self.sources.proxy.iter().map(|worker| count(worker).load(Ordering::Relaxed)).sum::<u64>() as f64
    }

    fn configuration(&self) -> [MetricFamily; 3] {
        let reloads = self.sources.reloads.read();
        let time = reloads.last_success.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let counts = [("success", reloads.succeeded), ("failure", reloads.failed)];
        [
            self.reload_success.with_one(if reloads.error.is_none() { 1.0 } else { 0.0 }),
            self.reloads.with(counts.map(|(result, count)| self.reloads.sample(&[result], count as f64)).to_vec()),
            self.reload_time
                .with(time.map(|time| self.reload_time.sample(&[], time.as_secs_f64())).into_iter().collect()),
        ]
    }

    fn table(&self) -> Vec<MetricFamily> {
        let Some(mut table) = self.sources.table.read() else { return Vec::new() };
        table.weights.sort_by(|a, b| a.labels.cmp(&b.labels));
        table.weights.dedup_by(|a, b| a.labels == b.labels);
        table.weights.truncate(self.sources.limit);
        let weights = table.weights.iter().map(|weight| {
            let labels = &weight.labels;
            self.weight.sample(&[&labels.environment, &labels.agent, &labels.version], weight.ratio)
        });
        vec![
            self.weight.with(weights.collect()),
            self.epoch.with_one(table.epoch as f64),
            self.config.with(vec![self.config.sample(&[&table.config_hash], 1.0)]),
        ]
    }

    fn connections_and_errors(&self) -> Vec<MetricFamily> {
        // `closed` first: a connection that ends between the two reads must not make the gauge negative.
        let closed = self.proxy(|worker| &worker.client_closed);
        let open = (self.proxy(|worker| &worker.client_accepted) - closed).max(0.0);
        let errors = ErrorCode::ALL.map(|code| {
            let count: u64 = self.sources.proxy.iter().map(|worker| worker.errors(code)).sum();
            self.errors.sample(&[code.as_str()], count as f64)
        });
        let mut families: Vec<_> =
            self.plain.iter().map(|(family, count)| family.with_one(self.proxy(*count))).collect();
        families.extend([self.open.with_one(open), self.errors.with(errors.to_vec())]);
        families
    }

    fn access_log(&self) -> Option<MetricFamily> {
        let counters = lock(&self.sources.access).clone()?;
        let counts = [("written", counters.written()), ("dropped", counters.dropped()), ("failed", counters.failed())];
        Some(self.access.with(counts.map(|(result, count)| self.access.sample(&[result], count as f64)).to_vec()))
    }
}

fn plain() -> Vec<(Family, Count)> {
    let counter = |name, help| Family::counter(name, help, &[]);
    vec![
        (counter("pointsman_client_connections_accepted_total", "Client connections accepted and served."), |worker| {
            &worker.client_accepted
        }),
        (
            counter("pointsman_client_connections_http2_total", "Accepted client connections that spoke HTTP/2."),
            |worker| &worker.client_http2,
        ),
        (
            counter(
                "pointsman_client_connections_held_total",
                "Times that new clients were held back, at limits.connections or for want of descriptors.",
            ),
            |worker| &worker.client_held,
        ),
        (
            counter(
                "pointsman_client_connections_refused_total",
                "Client connections closed at once, at limits.connections_per_address.",
            ),
            |worker| &worker.client_refused,
        ),
        (
            counter(
                "pointsman_client_floods_total",
                "HTTP/2 client connections ended at limits.stream_resets or limits.control_frames.",
            ),
            |worker| &worker.client_floods,
        ),
        (counter("pointsman_upstream_connections_opened_total", "Connections made to endpoints."), |worker| {
            &worker.upstream_opened
        }),
        (
            counter("pointsman_upstream_connections_reused_total", "Exchanges that took an idle pooled connection."),
            |worker| &worker.upstream_reused,
        ),
        (
            counter(
                "pointsman_upstream_connections_stale_total",
                "Pooled connections that the endpoint had closed while they were idle.",
            ),
            |worker| &worker.upstream_stale,
        ),
    ]
}

impl Collector for InstanceCollector {
    fn desc(&self) -> Vec<&Desc> {
        let families = [
            &self.build,
            &self.reload_success,
            &self.reloads,
            &self.reload_time,
            &self.config,
            &self.epoch,
            &self.weight,
            &self.errors,
            &self.open,
            &self.access,
        ];
        families.into_iter().chain(self.plain.iter().map(|(family, _)| family)).map(Family::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = vec![self.build.with(vec![self.build.sample(&[env!("CARGO_PKG_VERSION")], 1.0)])];
        families.extend(self.configuration());
        families.extend(self.table());
        families.extend(self.connections_and_errors());
        families.extend(self.access_log());
        families
    }
}
