//! Guards that ask Prometheus, and the server that they ask.

use std::time::Duration;

use http::HeaderValue;

use super::super::file;
use super::super::scalar::{Amount, Text};
use super::agent::Checked;
use super::endpoint_tls;
use super::guard::Guard;
use super::scope::Scope;
use crate::control::prometheus::{
    DEFAULT_TIMEOUT, FAILURES, INTERVALS, NAMES, PrometheusServer, QueryGuard, QueryLimit,
};
use crate::control::template;
use crate::routing::spec::EndpointAddress;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// `None`: the report says why.
pub(super) fn check(guard: file::Guard, place: &mut Guard<'_, '_, '_>) -> Option<QueryGuard> {
    let of_metrics = [
        ("window", guard.window.is_some()),
        ("min_requests", guard.min_requests.is_some()),
        ("worse_than_stable_by", guard.worse_than_stable_by.is_some()),
        ("slower_than", guard.slower_than.is_some()),
        ("cap", guard.cap.is_some()),
        ("confidence", guard.confidence.is_some()),
    ];
    for (key, _) in of_metrics.into_iter().filter(|(_, given)| *given) {
        place.error(key, "goes with `metric`; of a query, PromQL says such things itself");
    }
    let Text(query) = guard.query?;
    if query.trim().is_empty() {
        place.error("query", "there is no query; expected PromQL that gives one number");
    }
    if let Err(message) = template::check(&query, &NAMES) {
        place.error("query", message);
    }
    let name = guard.name.map(|Text(name)| name);
    if name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().count() > 80) {
        place.error("name", "expected 1 to 80 characters");
    }
    let limit = match (guard.above, guard.below) {
        (Some(Text(above)), None) => QueryLimit::Above(number(above)),
        (None, Some(Text(below))) => QueryLimit::Below(number(below)),
        (Some(_), Some(_)) => {
            place.error("below", "a guard has one limit; remove `above`, or make it a guard of its own");
            return None;
        }
        (None, None) => {
            place.error("", "the guard has no limit; expected `above` or `below`, such as `above: 0.05`");
            return None;
        }
    };
    let path = |key: &str| format!("{}.{key}", place.path);
    let (interval, failures) = (path("interval"), path("failures"));
    let range = u64::from(*FAILURES.start())..=u64::from(*FAILURES.end());
    Some(QueryGuard {
        name,
        query,
        limit,
        interval: place.scope.duration(&interval, guard.interval, DEFAULT_INTERVAL, INTERVALS),
        failures: place.scope.count(&failures, guard.failures, 1, range) as u32,
    })
}

/// In the unit that Prometheus has: ratios and seconds.
fn number(amount: Amount) -> f64 {
    match amount {
        Amount::Share(share) => share,
        Amount::Time(time) => time.as_secs_f64(),
        Amount::Number(number) => number,
    }
}

pub(super) fn server(given: file::Prometheus, scope: &mut Scope<'_, '_>) -> PrometheusServer {
    let Text(url) = given.url;
    let authorization = given.token.and_then(|Text(token)| {
        let printable = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| printable);
        if value.is_none() {
            scope.error("prometheus.token", "expected printable characters without spaces, and at least one");
        }
        value.map(|mut value| {
            value.set_sensitive(true);
            value
        })
    });
    let range = Duration::from_millis(10)..=Duration::from_secs(120);
    let timeout = scope.duration("prometheus.timeout", given.timeout, DEFAULT_TIMEOUT, range);
    let is_https = matches!(url.address, EndpointAddress::Https { .. });
    if given.tls.is_some() && !is_https && !scope.is_damaged("prometheus.url") {
        scope.error("prometheus.tls", "the server is not asked over TLS; write https:// in `url`, or remove `tls`");
    }
    let tls = given.tls.map(|given| endpoint_tls::check(given, "prometheus.tls", scope)).unwrap_or_default();
    PrometheusServer { address: url.address, prefix: url.prefix, authorization, timeout, tls: tls.into() }
}

/// A query that nobody is there to answer is a slip.
pub(super) fn check_server(agents: &[Checked], given: bool, scope: &mut Scope<'_, '_>) {
    if given || scope.is_damaged("prometheus") {
        return;
    }
    for intent in agents.iter().map(|agent| &agent.intent) {
        if intent.deployment.as_ref().is_some_and(|deployment| !deployment.queries.is_empty()) {
            let message =
                "a guard with `query` needs a server to ask; set `prometheus: { url: http://127.0.0.1:9090 }`";
            scope.error(&format!("agents.{}.deployment.guards", intent.spec.id), message);
        }
    }
}
