//! The rendered text, parsed again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::telemetry::commits::CommitFigures;
use crate::telemetry::conversations::{IdFault, OverrideEnd, TokenEnd};
use crate::telemetry::counters::{self, ErrorCode};
use crate::telemetry::outside::QueryResult;
use crate::telemetry::stats::{Exchange, Outcome, StatusClass, StreamEnd, Usage, VersionStats};
use crate::telemetry::tls::{CertificateFigures, Handshake};

/// All parts, with two workers.
struct Rig {
    stats: Arc<StatsRegistry>,
    reloads: Arc<ReloadStatus>,
    proxy: Arc<[ProxyCounters]>,
    metrics: Metrics,
}

impl Rig {
    fn new(limit: usize) -> Self {
        let (stats, reloads) = (Arc::new(StatsRegistry::new(2)), Arc::new(ReloadStatus::default()));
        let proxy = ProxyCounters::for_workers(2);
        let metrics = Metrics::with_limit(stats.clone(), reloads.clone(), proxy.clone(), limit);
        Self { stats, reloads, proxy, metrics }
    }

    fn version(&self, agent: &str, version: &str) -> Arc<VersionStats> {
        self.stats.version(labels("production", agent, version))
    }

    fn scrape(&self) -> Scrape {
        Scrape::parse(&self.metrics.render())
    }
}

fn labels(environment: &str, agent: &str, version: &str) -> VersionLabels {
    VersionLabels { environment: environment.into(), agent: agent.into(), version: version.into() }
}

fn serve(stats: &VersionStats, worker: usize, outcome: Outcome, status: u16, latency_ms: u64) {
    stats.started(worker);
    let latency = Duration::from_millis(latency_ms);
    let class = StatusClass::of(status);
    stats.ended(worker, &Exchange::plain(outcome, class, latency, Some(latency / 2)));
}

/// A stream of 40 output tokens after 10 of input, for 0.25 of the currency; `priced` or not.
fn stream(stats: &VersionStats, worker: usize, outcome: Outcome, end: StreamEnd, priced: bool) {
    stats.started(worker);
    let time = Duration::from_millis(64);
    stats.between_tokens(worker, time / 8);
    let plain = Exchange::plain(outcome, StatusClass::Success, 10 * time, Some(time));
    let usage = Usage { input_tokens: Some(10), output_tokens: Some(40) };
    let cost_nanos = priced.then_some(250_000_000);
    stats.ended(worker, &Exchange { stream: Some(end), first_token: Some(2 * time), usage, cost_nanos, ..plain });
}

/// Samples by name and labels as they stand in the text, and the names' help and type.
#[derive(Default)]
struct Scrape {
    samples: BTreeMap<String, f64>,
    help: BTreeMap<String, String>,
    types: BTreeMap<String, String>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                assert!(scrape.help.insert(name.to_owned(), help.to_owned()).is_none(), "{name} twice");
            } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                scrape.types.insert(name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                let value = value.parse().expect("a value is a number");
                assert!(scrape.samples.insert(series.to_owned(), value).is_none(), "{series} twice");
            }
        }
        scrape
    }

    fn of(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// Series whose name and labels begin so, e.g. `pointsman_requests_total{`.
    fn beginning(&self, prefix: &str) -> Vec<(&str, f64)> {
        self.samples.iter().filter(|(s, _)| s.starts_with(prefix)).map(|(s, v)| (s.as_str(), *v)).collect()
    }
}

/// A rig in which every metric has something to show.
fn full() -> Rig {
    let rig = Rig::new(MAX_LABELLED);
    let stable = rig.version("support-bot", "1.4.2");
    let canary = rig.version("support-bot", "1.5.0");
    serve(&stable, 0, Outcome::Success, 200, 3);
    serve(&stable, 1, Outcome::Success, 204, 700);
    serve(&canary, 0, Outcome::ServerError, 503, 5);
    canary.started(1);
    let streaming = rig.version("streaming-bot", "2.0.0");
    stream(&streaming, 0, Outcome::Success, StreamEnd::Complete, true);
    stream(&streaming, 1, Outcome::StreamError, StreamEnd::Error, true);
    stream(&streaming, 1, Outcome::ClientCancel, StreamEnd::Cancelled, false);
    rig.stats.agent("production".into(), "support-bot".into()).without_key(1);
    rig.reloads.succeeded("abc", UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    rig.metrics.set_table_source(Box::new(|| {
        let weight = |version, ratio| VersionWeight { labels: labels("production", "support-bot", version), ratio };
        TableFigures {
            epoch: 7,
            config_hash: "abc".into(),
            weights: vec![weight("1.4.2", 0.95), weight("1.5.0", 0.05)],
        }
    }));
    rig.metrics.set_deployment_source(Box::new(|| vec![deployment("1.5.0")]));
    rig.metrics
        .set_conversation_source(Box::new(|| vec![conversations("1.4.2", Some((3, 1))), conversations("1.5.0", None)]));
    rig.metrics.set_access_log(Arc::default());
    let outside = Arc::new(OutsideCounters::default());
    outside.checked(false);
    outside.queried(QueryResult::Empty);
    rig.metrics.set_outside(outside);
    let events = vec![("made", 4), ("expired", 1)];
    rig.metrics.set_pin_source(Box::new(move || PinFigures { pins: 3, max: 10, bytes: 1000, events: events.clone() }));
    rig.metrics.set_tls_source(Box::new(|| TlsFigures {
        certificates: vec![CertificateFigures {
            file: "/tls/a.pem".into(),
            not_after: UNIX_EPOCH + Duration::from_secs(1_900_000_000),
        }],
        renewed: 3,
        refused: 2,
        failing: 1,
    }));
    for worker in rig.proxy.iter() {
        worker.handshakes.count(Handshake::Resumed);
        worker.conversations.token(TokenEnd::Forged);
        worker.conversations.r#override(OverrideEnd::Unsigned);
        worker.conversations.id(IdFault::TooLong);
    }
    rig
}

fn conversations(version: &str, draining: Option<(u64, u64)>) -> ConversationFigures {
    let labels = labels("production", "support-bot", version);
    ConversationFigures { labels, held: Some((3, 1)), draining, to_migrate: draining.map(|(left, _)| left) }
}

fn deployment(version: &str) -> DeploymentFigures {
    let guard = "error_rate above 5% for 5m".to_owned();
    DeploymentFigures {
        labels: labels("production", "support-bot", version),
        state: "progressing".into(),
        weight_ratio: 0.05,
        guards: vec![GuardFigures {
            guard,
            value: Some(0.01),
            limit: Some(0.05),
            evidence_ratio: Some(0.2),
            query_success: Some(true),
        }],
        checks: [("tcp", Some(true)), ("tcp", Some(false)), ("command probe", None)]
            .map(|(check, healthy)| CheckFigures { check: check.into(), endpoint: "http://a:1".into(), healthy })
            .into(),
        rollbacks: vec![RollbackCount { cause: "error_rate".into(), count: 2 }],
    }
}

#[test]
fn every_figure_is_shown_where_it_belongs() {
    let scrape = full().scrape();
    let stable = r#"environment="production",agent="support-bot",version="1.4.2""#;
    let canary = r#"environment="production",agent="support-bot",version="1.5.0""#;
    let streaming = r#"environment="production",agent="streaming-bot",version="2.0.0""#;
    let agent = r#"environment="production",agent="support-bot""#;
    let guard = format!(r#"{agent},guard="error_rate above 5% for 5m""#);
    for (series, value) in [
        (format!(r#"pointsman_requests_total{{{stable},outcome="success",status_class="2xx"}}"#), 2.0),
        (format!(r#"pointsman_requests_total{{{canary},outcome="server_error",status_class="5xx"}}"#), 1.0),
        (format!("pointsman_requests_in_flight{{{stable}}}"), 0.0),
        (format!("pointsman_requests_in_flight{{{canary}}}"), 1.0),
        (format!("pointsman_request_duration_seconds_count{{{stable}}}"), 2.0),
        (format!("pointsman_request_duration_seconds_sum{{{stable}}}"), 0.703),
        (format!(r#"pointsman_request_duration_seconds_bucket{{{stable},le="0.002048"}}"#), 0.0),
        (format!(r#"pointsman_request_duration_seconds_bucket{{{stable},le="0.004096"}}"#), 1.0),
        (format!(r#"pointsman_request_duration_seconds_bucket{{{stable},le="0.524288"}}"#), 1.0),
        (format!(r#"pointsman_request_duration_seconds_bucket{{{stable},le="1.048576"}}"#), 2.0),
        (format!(r#"pointsman_request_duration_seconds_bucket{{{stable},le="+Inf"}}"#), 2.0),
        (format!(r#"pointsman_time_to_first_byte_seconds_bucket{{{stable},le="0.524288"}}"#), 2.0),
        (format!("pointsman_time_to_first_byte_seconds_sum{{{stable}}}"), 0.3515),
        (format!(r#"pointsman_streams_total{{{streaming},end="complete"}}"#), 1.0),
        (format!(r#"pointsman_streams_total{{{streaming},end="error"}}"#), 1.0),
        (format!(r#"pointsman_streams_total{{{streaming},end="cancelled"}}"#), 1.0),
        (format!("pointsman_gen_ai_server_time_to_first_token_seconds_count{{{streaming}}}"), 2.0),
        (format!("pointsman_gen_ai_server_time_to_first_token_seconds_sum{{{streaming}}}"), 0.256),
        (format!("pointsman_gen_ai_client_operation_time_per_output_chunk_seconds_count{{{streaming}}}"), 3.0),
        (format!(r#"pointsman_gen_ai_client_token_usage_count{{{streaming},gen_ai_token_type="output"}}"#), 2.0),
        (
            format!(r#"pointsman_gen_ai_client_token_usage_bucket{{{streaming},gen_ai_token_type="output",le="15"}}"#),
            0.0,
        ),
        (
            format!(r#"pointsman_gen_ai_client_token_usage_bucket{{{streaming},gen_ai_token_type="output",le="63"}}"#),
            2.0,
        ),
        (format!(r#"pointsman_gen_ai_client_token_usage_sum{{{streaming},gen_ai_token_type="input"}}"#), 20.0),
        (format!(r#"pointsman_gen_ai_tokens_total{{{streaming},gen_ai_token_type="output"}}"#), 120.0),
        (format!("pointsman_cost_total{{{streaming}}}"), 0.5),
        (format!("pointsman_unpriced_answers_total{{{streaming}}}"), 1.0),
        (format!("pointsman_bucketing_key_missing_total{{{agent}}}"), 1.0),
        (format!("pointsman_version_weight_ratio{{{stable}}}"), 0.95),
        (format!("pointsman_version_weight_ratio{{{canary}}}"), 0.05),
        ("pointsman_table_epoch".to_owned(), 7.0),
        (r#"pointsman_config_info{hash="abc"}"#.to_owned(), 1.0),
        ("pointsman_config_last_reload_success".to_owned(), 1.0),
        ("pointsman_config_last_reload_success_timestamp_seconds".to_owned(), 1_700_000_000.0),
        (r#"pointsman_config_reloads_total{result="success"}"#.to_owned(), 1.0),
        (r#"pointsman_config_reloads_total{result="failure"}"#.to_owned(), 0.0),
        (format!("pointsman_deployment_weight_ratio{{{canary}}}"), 0.05),
        (format!(r#"pointsman_deployment_state{{{canary},state="progressing"}}"#), 1.0),
        (format!("pointsman_guard_value{{{guard}}}"), 0.01),
        (format!("pointsman_guard_limit{{{guard}}}"), 0.05),
        (format!("pointsman_guard_evidence_ratio{{{guard}}}"), 0.2),
        (format!("pointsman_prometheus_query_success{{{guard}}}"), 1.0),
        (format!(r#"pointsman_health_check_success{{{canary},check="tcp",endpoint="http://a:1"}}"#), 0.0),
        (r#"pointsman_health_checks_total{result="failure"}"#.to_owned(), 1.0),
        (r#"pointsman_prometheus_queries_total{result="empty"}"#.to_owned(), 1.0),
        ("pointsman_pins".to_owned(), 3.0),
        ("pointsman_pins_limit".to_owned(), 10.0),
        ("pointsman_pins_bytes".to_owned(), 1000.0),
        (r#"pointsman_pin_events_total{event="made"}"#.to_owned(), 4.0),
        (r#"pointsman_pin_tokens_total{result="forged"}"#.to_owned(), 2.0),
        (r#"pointsman_pin_tokens_total{result="issued"}"#.to_owned(), 0.0),
        (r#"pointsman_overrides_total{result="unsigned"}"#.to_owned(), 2.0),
        (r#"pointsman_conversation_ids_missed_total{reason="too_long"}"#.to_owned(), 2.0),
        (r#"pointsman_tls_handshakes_total{result="resumed"}"#.to_owned(), 2.0),
        (r#"pointsman_tls_handshakes_total{result="full"}"#.to_owned(), 0.0),
        (r#"pointsman_tls_reloads_total{result="success"}"#.to_owned(), 3.0),
        (r#"pointsman_tls_reloads_total{result="failure"}"#.to_owned(), 2.0),
        ("pointsman_tls_reloads_failing".to_owned(), 1.0),
        (r#"pointsman_tls_certificate_expiry_timestamp_seconds{certificate="/tls/a.pem"}"#.to_owned(), 1_900_000_000.0),
        (format!(r#"pointsman_rollbacks_total{{{agent},cause="error_rate"}}"#), 2.0),
        (format!(r#"pointsman_conversations{{{agent},version="1.5.0"}}"#), 3.0),
        (format!(r#"pointsman_version_draining{{{agent},version="1.4.2",of="responses"}}"#), 1.0),
        (format!(r#"pointsman_migration_remaining{{{agent},version="1.4.2"}}"#), 3.0),
        (format!(r#"pointsman_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert_eq!(scrape.of(&series), Some(value), "{series}");
    }
    let of_streams =
        scrape.beginning("pointsman_streams_total{").len() + scrape.beginning("pointsman_cost_total{").len();
    assert_eq!(of_streams, 4, "versions without streams have no series of them");
    assert!(scrape.beginning("pointsman_health_check_success{").len() == 1, "what nobody knows is not shown");
    assert!(scrape.of("process_resident_memory_bytes").is_some_and(|bytes| bytes > 0.0));
}

#[test]
fn every_metric_has_help_and_the_suffix_of_its_unit() {
    let scrape = full().scrape();
    for (name, kind) in &scrape.types {
        assert!(scrape.help.get(name).is_some_and(|help| help.len() > 10), "{name} has no help");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        // The convention's unit of token usage is the token: no unit in the name.
        let has_unit = name.ends_with("_seconds") || name == "pointsman_gen_ai_client_token_usage";
        assert!(kind != "histogram" || has_unit, "{name} has no unit");
        assert!(name.starts_with("pointsman_") || name.starts_with("process_"), "{name}");
    }
}

#[test]
fn what_the_registry_was_told_of_is_all_shown() {
    // A family that is declared but never collected, or the other way round, is a defect.
    let rig = full();
    let scrape = rig.scrape();
    let own: BTreeSet<&str> = scrape.types.keys().map(String::as_str).filter(|n| n.starts_with("pointsman_")).collect();
    let collectors: [Box<dyn Collector>; 7] = [
        Box::new(tls::TlsCollector::new(Arc::default(), rig.proxy.clone(), 1)),
        Box::new(conversations::ConversationCollector::new(Arc::default(), 1)),
        Box::new(pins::PinCollector::new(Arc::default(), rig.proxy.clone())),
        Box::new(outside::OutsideCollector::new(Arc::default())),
        Box::new(versions::VersionCollector::new(rig.stats.clone(), 1)),
        Box::new(deployments::DeploymentCollector::new(Arc::default(), 1)),
        Box::new(instance::InstanceCollector::new(instance::Sources {
            reloads: rig.reloads.clone(),
            proxy: rig.proxy.clone(),
            access: Arc::default(),
            table: Arc::default(),
            limit: 1,
        })),
    ];
    let declared = collectors.iter().flat_map(|c| c.desc()).map(|desc| desc.fq_name.as_str()).collect();
    assert_eq!(own, declared);
}

#[test]
fn the_proxys_counts_are_summed_over_the_workers() {
    let rig = Rig::new(10);
    for worker in rig.proxy.iter() {
        for (counter, times) in [
            (&worker.client_accepted, 5),
            (&worker.client_closed, 3),
            (&worker.client_held, 2),
            (&worker.upstream_opened, 4),
            (&worker.upstream_reused, 6),
            (&worker.upstream_stale, 1),
            (&worker.retries, 7),
        ] {
            (0..times).for_each(|_| counters::add(counter));
        }
        worker.error(ErrorCode::NoRoute);
    }
    let scrape = rig.scrape();
    for (series, value) in [
        ("pointsman_client_connections_accepted_total", 10.0),
        ("pointsman_client_connections_open", 4.0),
        ("pointsman_client_connections_held_total", 4.0),
        ("pointsman_upstream_connections_opened_total", 8.0),
        ("pointsman_upstream_connections_reused_total", 12.0),
        ("pointsman_upstream_connections_stale_total", 2.0),
        ("pointsman_retries_total", 14.0),
        (r#"pointsman_proxy_errors_total{code="no_route"}"#, 2.0),
        (r#"pointsman_proxy_errors_total{code="bad_request"}"#, 0.0),
    ] {
        assert_eq!(scrape.of(series), Some(value), "{series}");
    }
    assert_eq!(scrape.beginning("pointsman_proxy_errors_total{").len(), ErrorCode::ALL.len());
}

#[test]
fn a_closing_seen_before_its_accepting_is_no_negative_gauge() {
    let rig = Rig::new(10);
    counters::add(&rig.proxy[1].client_closed);
    assert_eq!(rig.scrape().of("pointsman_client_connections_open"), Some(0.0));
}

#[test]
fn a_refused_configuration_shows_until_one_is_taken() {
    let rig = Rig::new(10);
    assert_eq!(rig.scrape().of("pointsman_config_last_reload_success"), Some(1.0));
    assert_eq!(rig.scrape().of("pointsman_config_last_reload_success_timestamp_seconds"), None);
    rig.reloads.failed("line 3: no such version".to_owned(), UNIX_EPOCH);
    assert_eq!(rig.scrape().of("pointsman_config_last_reload_success"), Some(0.0));
    assert_eq!(rig.scrape().of(r#"pointsman_config_reloads_total{result="failure"}"#), Some(1.0));
    rig.reloads.succeeded("abc", UNIX_EPOCH + Duration::from_millis(1_500));
    assert_eq!(rig.scrape().of("pointsman_config_last_reload_success"), Some(1.0));
    assert_eq!(rig.scrape().of("pointsman_config_last_reload_success_timestamp_seconds"), Some(1.5));
}

#[test]
fn what_has_no_source_is_absent_rather_than_zero() {
    let rig = Rig::new(10);
    rig.version("idle", "1.0.0");
    rig.stats.agent("production".into(), "idle".into());
    let scrape = rig.scrape();
    for prefix in ["requests", "table", "version_weight", "deployment", "guard", "rollbacks", "access", "bucketing"] {
        assert_eq!(scrape.beginning(&format!("pointsman_{prefix}")), [], "{prefix}");
    }
}

#[test]
fn access_log_records_are_shown_by_result() {
    let rig = full();
    let scrape = rig.scrape();
    for result in ["written", "dropped", "failed"] {
        assert_eq!(scrape.of(&format!(r#"pointsman_access_log_records_total{{result="{result}"}}"#)), Some(0.0));
    }
}

#[test]
fn beyond_the_limit_versions_add_to_other_and_no_count_is_lost() {
    let rig = Rig::new(2);
    let versions: Vec<_> = (0..5).map(|n| rig.version("bot", &format!("1.0.{n}"))).collect();
    rig.version("bot", "0.0.0-idle");
    for round in 1..=3u32 {
        for version in &versions {
            serve(version, 0, Outcome::Success, 200, 10);
            stream(version, 1, Outcome::Success, StreamEnd::Complete, true);
            version.started(1);
        }
        let scrape = rig.scrape();
        let requests = scrape.beginning("pointsman_requests_total{");
        assert_eq!(requests.len(), 3, "{requests:?}");
        assert_eq!(requests.iter().map(|(_, count)| count).sum::<f64>(), f64::from(10 * round));
        let other = r#"environment="production",agent="_other",version="_other""#;
        let count = |name: &str| scrape.of(&format!("pointsman_{name}{{{other}}}"));
        assert_eq!(count("request_duration_seconds_count"), Some(f64::from(6 * round)));
        assert_eq!(count("cost_total"), Some(0.75 * f64::from(round)));
        assert_eq!(count("gen_ai_server_time_to_first_token_seconds_count"), Some(f64::from(3 * round)));
        assert_eq!(count("requests_in_flight"), Some(f64::from(3 * round)));
    }
    // Three of the five go. `_other` keeps what they counted; those with names end.
    let kept: Vec<_> = versions.into_iter().skip(3).collect();
    rig.stats.prune();
    serve(&kept[0], 0, Outcome::Success, 200, 10);
    let scrape = rig.scrape();
    let requests = scrape.beginning("pointsman_requests_total{");
    let other = r#"pointsman_requests_total{environment="production",agent="_other",version="_other",outcome="success",status_class="2xx"}"#;
    assert_eq!(requests, [(other, 19.0)]);
}

#[test]
fn keyless_requests_and_gauges_are_bounded_too() {
    let rig = Rig::new(2);
    let agents: Vec<_> = (0..4).map(|n| rig.stats.agent("production".into(), format!("bot-{n}").into())).collect();
    agents.iter().for_each(|agent| agent.without_key(0));
    let weight = |n: u32| VersionWeight { labels: labels("production", "bot", &format!("1.0.{n}")), ratio: 0.25 };
    rig.metrics.set_table_source(Box::new(move || TableFigures {
        weights: (0..4).map(weight).collect(),
        ..TableFigures::default()
    }));
    rig.metrics.set_deployment_source(Box::new(|| (0..4).map(|n| deployment(&format!("1.0.{n}"))).collect()));
    let scrape = rig.scrape();
    assert_eq!(
        scrape.beginning("pointsman_bucketing_key_missing_total{"),
        [
            (r#"pointsman_bucketing_key_missing_total{environment="production",agent="_other"}"#, 2.0),
            (r#"pointsman_bucketing_key_missing_total{environment="production",agent="bot-0"}"#, 1.0),
            (r#"pointsman_bucketing_key_missing_total{environment="production",agent="bot-1"}"#, 1.0),
        ]
    );
    assert_eq!(scrape.beginning("pointsman_version_weight_ratio{").len(), 2);
    assert_eq!(scrape.beginning("pointsman_deployment_state{").len(), 2);
    // The same guard and the same agent's rollbacks, told four times, are shown once and not added up.
    assert_eq!(scrape.beginning("pointsman_guard_value{").len(), 1);
    let rollbacks = scrape.beginning("pointsman_rollbacks_total{");
    assert_eq!(rollbacks.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2.0]);
}

#[test]
fn figures_that_are_no_number_or_told_twice_cannot_break_the_scrape() {
    let rig = Rig::new(10);
    rig.metrics.set_deployment_source(Box::new(|| {
        let mut odd = deployment("1.5.0");
        odd.guards[0].value = Some(f64::NAN);
        odd.guards[0].limit = None;
        odd.guards[0].evidence_ratio = Some(f64::INFINITY);
        vec![odd.clone(), odd]
    }));
    let scrape = rig.scrape();
    assert_eq!(scrape.beginning("pointsman_guard"), []);
    assert_eq!(scrape.beginning("pointsman_deployment_state{").len(), 1);
}

#[test]
fn labels_from_outside_are_escaped() {
    let rig = Rig::new(10);
    rig.metrics
        .set_table_source(Box::new(|| TableFigures { config_hash: "a\"b\\c\nd".into(), ..TableFigures::default() }));
    assert_eq!(rig.scrape().of(r#"pointsman_config_info{hash="a\"b\\c\nd"}"#), Some(1.0));
}

#[test]
fn another_rooms_collector_is_shown_and_a_clash_of_names_refused() {
    let rig = Rig::new(10);
    let gauge = |name: &str| prometheus::IntGauge::new(name, "Of another room.").expect("a sound name");
    rig.metrics.register(Box::new(gauge("pointsman_store_revision"))).expect("a new name");
    assert_eq!(rig.scrape().of("pointsman_store_revision"), Some(0.0));
    assert!(rig.metrics.register(Box::new(gauge("pointsman_store_revision"))).is_err());
}

/// Rules and dashboard ask only for metrics that exist.
#[test]
fn what_deploy_asks_for_is_shown() {
    let rig = full();
    for collector in CommitFigures::default().collectors() {
        rig.metrics.register(collector).expect("a new name");
    }
    let scrape = rig.scrape();
    for file in ["alerts.yml", "alerts_test.yml", "grafana-dashboard.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
        let text = std::fs::read_to_string(&path).expect("deploy/ is there");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: BTreeSet<&str> =
            words.filter(|word| word.starts_with("pointsman_") || word.starts_with("process_")).collect();
        assert!(asked.len() > 5, "{file} asks for next to nothing");
        for name in asked {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let known = |name: &str| scrape.types.contains_key(name);
            assert!(known(name) || family.is_some_and(known), "{file} asks for {name}");
        }
    }
}

/// Prometheus' own linter on the whole text.
#[test]
fn promtool_finds_nothing_to_say() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        // tests/run installs promtool and asks for the check; a plain `cargo test` may do without.
        Err(error) if std::env::var_os("POINTSMAN_TEST_TOOLS").is_none() => {
            eprintln!("SKIPPED: promtool cannot be run ({error}); tests/run installs it");
            return;
        }
        Err(error) => panic!("promtool cannot be run: {error}"),
    };
    let text = full().metrics.render();
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads it all");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
