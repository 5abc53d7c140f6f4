//! What a right file means: defaults, the forms of values, what a deployment's identity is.

use super::*;

const AGENT: &str = "agents:
  bot:
    versions:
      1.4.2: { endpoints: [http://127.0.0.1:7001] }
      1.5.0: { endpoints: [http://127.0.0.1:7002] }
    stable: 1.4.2
";

/// The agent with `more` lines.
fn agent(more: &str) -> AgentIntent {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    parse(&format!("{AGENT}{more}")).agents.remove(0)
}

#[test]
fn what_is_left_out_has_a_default() {
    let config = parse("agents: {}");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address, "127.0.0.1:8080".parse().unwrap());
    assert_eq!((config.listeners[0].environment.as_str(), config.listeners[0].http2), ("production", true));
    assert_eq!(config.admin.address, "127.0.0.1:9901".parse().unwrap());
    assert_eq!(config.admin.token, None);
    assert_eq!(config.state_dir, Some(PathBuf::from("./state")));
    assert_eq!(parse("state_dir: none\nagents: {}").state_dir, None);
    assert!(config.workers >= 1 && config.version_header && config.access_log.is_none());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.hash.len(), 16);

    let agent = agent("");
    assert!(agent.spec.routes.is_empty() && agent.spec.split.is_none() && agent.deployment.is_none());
    assert_eq!(agent.spec.exchange, crate::routing::spec::ExchangeSpec::default());
    let key: Vec<_> = agent.spec.bucketing.key.iter().map(ToString::to_string).collect();
    assert_eq!(key, ["header:x-user-id", "header:x-session-id", "client_ip"]);
    assert_eq!(agent.spec.bucketing.json_limit_bytes, 64 << 10);
}

#[test]
fn ejection_is_on_unless_it_is_off_and_what_is_left_out_has_its_default() {
    let ejection = |more: &str| agent(more).spec.exchange.ejection.clone();
    let default = EjectionSpec::default();
    assert_eq!((ejection(""), ejection("ejection: {}")), (default.clone(), default.clone()));
    assert_eq!(ejection("ejection: off"), EjectionSpec { consecutive_failures: None, ..default.clone() });
    let own = ejection("ejection: { consecutive_failures: 2, statuses: [], base_time: 10m, max_ejected: 25% }");
    let ten_minutes = Duration::from_secs(600);
    let expected = EjectionSpec {
        consecutive_failures: Some(2),
        statuses: vec![],
        base_time: ten_minutes,
        // Never shorter than the first.
        max_time: ten_minutes,
        max_ejected: Weight::new(25_000).unwrap(),
    };
    assert_eq!(own, expected);
    let checks = agent("checks: [{ tcp: {} }, { http: {}, successes: 3 }]").checks;
    assert_eq!(checks.iter().map(|check| check.successes).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn each_strategy_has_its_steps() {
    type Steps<'a> = &'a [(u32, Option<Duration>)];
    let minutes = |n: u64| Some(Duration::from_secs(n * 60));
    let cases: [(&str, Steps<'_>, u64); 4] = [
        ("immediate", &[(100_000, None)], 0),
        ("blue-green", &[(100_000, None)], 10),
        ("canary", &[(1_000, minutes(10)), (5_000, minutes(30)), (25_000, minutes(60)), (100_000, None)], 10),
        ("rolling", &[(50_000, minutes(1)), (100_000, minutes(1))], 10),
    ];
    for (strategy, steps, bake) in cases {
        let agent = agent(&format!("deployment: {{ version: 1.5.0, strategy: {strategy} }}"));
        let deployment = agent.deployment.unwrap();
        let got: Vec<_> = deployment.steps.iter().map(|step| (step.weight.get(), step.hold)).collect();
        assert_eq!(got, steps, "{strategy}");
        assert_eq!(deployment.bake, Duration::from_secs(bake * 60), "{strategy}");
        assert_eq!((deployment.on_breach, deployment.cooldown), (OnBreach::Rollback, Duration::ZERO), "{strategy}");
    }
    let canary = agent("deployment: { version: 1.5.0 }").deployment.unwrap();
    assert_eq!(canary.strategy, Strategy::Canary);
}

#[test]
fn guards_come_in_three_kinds() {
    let agent = agent(
        "deployment:
  version: 1.5.0
  guards:
    - { metric: error_rate, above: 5% }
    - { metric: latency_p99, above: 1500ms, confidence: 99.9% }
    - { metric: ttfb_p95, worse_than_stable_by: 0.5%, slower_than: 1s, confidence: 99% }",
    );
    let tests: Vec<_> = agent.deployment.unwrap().guards.into_iter().map(|guard| guard.test).collect();
    let limit = Limit::Duration(Duration::from_millis(1500));
    let windowed = GuardTest::Windowed { limit: Limit::Rate(0.05), window: Duration::from_secs(300), min_requests: 50 };
    let stable = GuardTest::WorseThanStable {
        margin: 0.005,
        slower_than: Some(Duration::from_secs(1)),
        cap: None,
        confidence: 0.99,
    };
    assert_eq!(tests, [windowed, GuardTest::Above { limit, cap: None, confidence: 0.999 }, stable]);
}

#[test]
fn guards_on_means_take_numbers_and_a_cap() {
    let agent = agent(
        "deployment:
  version: 1.5.0
  guards:
    - { metric: output_tokens_mean, above: 1500, confidence: 99.9% }
    - { metric: output_tokens_mean, above: 1500.5, cap: '${WORKERS}000', confidence: 99.9% }
    - { metric: cost_per_request_mean, worse_than_stable_by: 0.01, cap: 1, confidence: 99% }
    - { metric: inter_token_p95, above: 200ms }",
    );
    let guards = agent.deployment.unwrap().guards;
    let above = |limit, cap| GuardTest::Above { limit: Limit::Mean(limit), cap: Some(cap), confidence: 0.999 };
    assert_eq!(guards[0].test, above(1500.0, 6000.0), "four times the limit");
    assert_eq!(guards[1].test, above(1500.5, 3000.0));
    let worse = GuardTest::WorseThanStable { margin: 0.01, slower_than: None, cap: Some(1.0), confidence: 0.99 };
    assert_eq!(guards[2].test, worse);
    assert!(matches!(guards[3].test, GuardTest::Windowed { min_requests: 1_000, .. }), "gaps, of which there are many");
    assert!(guards.iter().all(|guard| guard.check().is_ok()));
}

#[test]
fn streams_are_as_given_and_prices_are_for_all_agents() {
    let plain = parse(AGENT);
    assert_eq!(plain.agents[0].spec.streams, StreamSpec::default());
    let text =
        format!("prices: {{ m: {{ input: 0.1, output: '${{WORKERS}}' }} }}\n{AGENT}    streams: {{ dialect: off }}\n");
    let streams = &parse(&text).agents[0].spec.streams;
    assert_eq!(streams.dialect, Dialect::Off);
    let usage = Usage { input_tokens: Some(10), output_tokens: Some(1) };
    assert_eq!(streams.prices.cost_nanos("m", usage), Some(1_000 + 3_000));
    assert_eq!(streams.prices.cost_nanos("n", usage), None);
}

#[test]
fn values_come_from_the_environment() {
    let config = parse(
        "listeners: [{ address: '127.0.0.1:${PORT}' }]
workers: ${WORKERS}
version_header: ${HEADER:-false}
admin: { address: 0.0.0.0:9901, token: '${TOKEN}' }
state_dir: $${PORT}
agents:
  bot:
    versions: { '${VERSION}': { endpoints: ['${URL:-http://127.0.0.1:7001}'] } }
    stable: ${VERSION}
",
    );
    assert_eq!(config.listeners[0].address.port(), 8080);
    assert_eq!((config.workers, config.version_header), (3, false));
    assert_eq!(config.admin.token, Some(Secret::new("a-secret".into())));
    assert_eq!(config.state_dir, Some(PathBuf::from("${PORT}")));
    assert_eq!(config.agents[0].spec.stable.as_str(), "1.5.0");
}

#[test]
fn a_deployment_is_its_content() {
    let fingerprint = |more: &str| agent(more).deployment.unwrap().fingerprint;
    let first = fingerprint("deployment: { version: 1.5.0, strategy: canary, bake: 5m }");
    assert_eq!(first.len(), 40);
    let same = [
        "deployment: { strategy: canary, bake: 5m, version: 1.5.0 }",
        "deployment: { strategy: \"canary\", bake: '5m', version: '${VERSION}' }",
        "# why\ndeployment:\n  bake: 5m # how long\n  strategy: canary\n  version: 1.5.0\nhost: endpoint",
    ];
    for text in same {
        assert_eq!(fingerprint(text), first, "{text}");
    }
    for text in ["deployment: { version: 1.5.0, strategy: canary, bake: 6m }", "deployment: { version: 1.5.0 }"] {
        assert_ne!(fingerprint(text), first, "{text}");
    }
    let other = AGENT.replace("bot", "bat") + "    deployment: { version: 1.5.0, strategy: canary, bake: 5m }\n";
    assert_ne!(parse(&other).agents[0].deployment.as_ref().unwrap().fingerprint, first);
}

#[test]
fn queries_take_numbers_and_the_units_of_the_file() {
    let queries = |above: &str| {
        let text = format!(
            "prometheus: {{ url: 'http://[::1]:9090/prom/' }}\n{AGENT}    deployment: {{ version: 1.5.0, guards: [{{ query: up, {above} }}] }}\n"
        );
        let config = parse(&text);
        assert_eq!(config.prometheus.as_ref().unwrap().prefix, "/prom");
        config.agents[0].deployment.as_ref().unwrap().queries.clone()
    };
    for (text, limit) in [
        ("above: 0.05", QueryLimit::Above(0.05)),
        ("above: 5%", QueryLimit::Above(0.05)),
        ("above: 1500ms", QueryLimit::Above(1.5)),
        ("below: -1e3", QueryLimit::Below(-1000.0)),
        ("below: 1", QueryLimit::Below(1.0)),
    ] {
        let queries = queries(text);
        assert_eq!((queries.len(), queries[0].limit), (1, limit), "{text}");
        assert_eq!((queries[0].interval, queries[0].failures), (Duration::from_secs(30), 1));
    }
}

#[test]
fn a_deployment_has_its_own_checks_or_the_agent_s() {
    let deployment = |health: &str| {
        let agent = agent(&format!("health: [{{ tcp: {{}} }}]\ndeployment: {{ version: 1.5.0{health} }}"));
        assert_eq!(agent.health.len(), 1);
        agent.deployment.unwrap().health
    };
    assert_eq!(deployment("")[0].kind, CheckKind::Tcp);
    assert_eq!(deployment(", health: []"), []);
    let own = deployment(", health: [{ http: {} }]");
    assert_eq!(own[0].kind.to_string(), "GET /");
    assert_eq!((own[0].interval, own[0].timeout, own[0].retries), (Duration::from_secs(5), Duration::from_secs(2), 2));
}

#[test]
fn a_token_of_prometheus_is_in_no_debug_text() {
    let config = parse("prometheus: { url: 'http://p:9090', token: '${TOKEN}' }\nagents: {}");
    assert!(config.prometheus.as_ref().unwrap().authorization.is_some());
    assert!(!format!("{config:?}").contains("a-secret"));
}

#[test]
fn aliases_stand_for_whole_values() {
    let config = parse(
        "agents:
  one:
    match: [{ host: one.example.com }]
    versions: &versions { 1.0.0: { endpoints: [http://127.0.0.1:7001] } }
    stable: 1.0.0
  two: { match: [{ host: two.example.com }], versions: *versions, stable: 1.0.0 }
",
    );
    assert_eq!(config.agents[0].spec.versions, config.agents[1].spec.versions);
}

#[test]
fn routes_are_put_in_one_form() {
    let agent = agent("match: [{ host: Support.Example.COM, headers: { X-B: '2', x-a: '1' } }]");
    let route = &agent.spec.routes[0];
    assert_eq!(route.host.as_deref(), Some("support.example.com"));
    let headers: Vec<_> = route.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("x-a", "1"), ("x-b", "2")]);
}

#[test]
fn the_intent_carries_the_hash() {
    let config = parse(AGENT);
    let intent = config.intent();
    assert_eq!(intent.config_hash, config.hash);
    assert_eq!(intent.agents, config.agents);
    assert_ne!(parse("agents: {} # other").hash, config.hash);
}

/// Ten thousand agents are one reading and one pass: nothing in it is quadratic.
#[test]
fn ten_thousand_agents_are_read() {
    let agent = |n: usize| {
        format!(
            "  agent-{n}:
    match: [{{ host: agent-{n}.example.com, path_prefix: /v1/ }}]
    versions:
      1.0.0: {{ endpoints: [http://127.0.0.1:7001] }}
      1.1.0: {{ endpoints: [http://127.0.0.1:7002] }}
    stable: 1.0.0
    deployment: {{ version: 1.1.0, guards: [{{ metric: error_rate, above: 5% }}] }}
"
        )
    };
    let text = format!("agents:\n{}", (0..10_000).map(agent).collect::<String>());
    assert_eq!(parse(&text).agents.len(), 10_000);
}

#[test]
fn what_is_done_about_failures_has_a_safe_default_and_each_part_its_own() {
    use crate::routing::resilience::{Backoff, BreakerSpec, Budget, ErrorShare, Priority, Resilience, RetrySpec};
    assert_eq!(agent("").spec.exchange.resilience, Resilience::default());
    let given = agent(
        "retries: { attempts: 1, statuses: [503, 429, 503], per_try_timeout: 2s, backoff: { base: 1s },
    budget: { ratio: 12.5%, per_second: 3 } }
circuit_breaker: { max_concurrent: 100, max_pending: 10, consecutive_failures: 5, error_share: 50%, window: 1m,
    min_requests: 7, open_for: 30s, half_open_requests: 1 }
priority: high",
    );
    let seconds = Duration::from_secs;
    let retries = RetrySpec {
        attempts: 1,
        statuses: vec![503, 429],
        per_try_timeout: Some(seconds(2)),
        backoff: Backoff { base: seconds(1), max: seconds(1) },
        budget: Budget { ratio_millionths: 125_000, per_second: 3 },
    };
    let breaker = BreakerSpec {
        max_concurrent: Some(100),
        max_pending: Some(10),
        consecutive_failures: Some(5),
        error_share: Some(ErrorShare { millionths: 500_000, window: seconds(60), min_requests: 7 }),
        open_for: seconds(30),
        half_open_requests: 1,
    };
    let expected = Resilience { retries, breaker: Some(breaker), priority: Priority::High };
    assert_eq!(given.spec.exchange.resilience, expected);

    assert_eq!(parse("agents: {}").load_shedding, LoadShedding::default());
    let given = parse("load_shedding: { lateness: 0, interval: 2s, requests_in_flight: 5 }\nagents: {}");
    let expected = LoadShedding { lateness: None, interval: seconds(2), requests_in_flight: Some(5) };
    assert_eq!(given.load_shedding, expected);
}
