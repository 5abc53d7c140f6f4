//! TLS: handshakes with clients, certificates and their renewal.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::Source;
use super::family::Family;
use crate::telemetry::counters::ProxyCounters;
use crate::telemetry::tls::{Handshake, TlsFigures};

pub(super) struct TlsCollector {
    source: Arc<Source<TlsFigures>>,
    proxy: Arc<[ProxyCounters]>,
    handshakes: Family,
    reloads: Family,
    failing: Family,
    expiry: Family,
    limit: usize,
}

impl TlsCollector {
    pub(super) fn new(source: Arc<Source<TlsFigures>>, proxy: Arc<[ProxyCounters]>, limit: usize) -> Self {
        Self {
            source,
            proxy,
            handshakes: Family::counter(
                "pointsman_tls_handshakes_total",
                "TLS handshakes with clients, by how they ended.",
                &["result"],
            ),
            reloads: Family::counter(
                "pointsman_tls_reloads_total",
                "Changed certificate files, by whether they came into use.",
                &["result"],
            ),
            failing: Family::gauge(
                "pointsman_tls_reloads_failing",
                "Places of the configuration whose certificate files cannot be used as they are now; the ones before \
                 are in use.",
                &[],
            ),
            expiry: Family::gauge(
                "pointsman_tls_certificate_expiry_timestamp_seconds",
                "When the certificate in use ends, in Unix time, by its file.",
                &["certificate"],
            ),
            limit,
        }
    }

    fn handshakes(&self) -> MetricFamily {
        let samples = Handshake::ALL.map(|result| {
            let count: u64 = self.proxy.iter().map(|worker| worker.handshakes.counted(result)).sum();
            self.handshakes.sample(&[result.as_str()], count as f64)
        });
        self.handshakes.with(samples.to_vec())
    }

    fn certificates(&self) -> Vec<MetricFamily> {
        let Some(figures) = self.source.read() else { return Vec::new() };
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let certificates = figures.certificates.iter().take(self.limit);
        let expiry =
            certificates.map(|certificate| self.expiry.sample(&[&certificate.file], seconds(certificate.not_after)));
        let counts = [("success", figures.renewed), ("failure", figures.refused)];
        vec![
            self.reloads.with(counts.map(|(result, count)| self.reloads.sample(&[result], count as f64)).to_vec()),
            self.failing.with_one(figures.failing as f64),
            self.expiry.with(expiry.collect()),
        ]
    }
}

impl Collector for TlsCollector {
    fn desc(&self) -> Vec<&Desc> {
        [&self.handshakes, &self.reloads, &self.failing, &self.expiry].map(Family::desc).to_vec()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = vec![self.handshakes()];
        families.extend(self.certificates());
        families
    }
}
