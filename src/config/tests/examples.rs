//! Every file of config/ loads, and says what its comments say.

use super::*;
use crate::routing::path::EncodedSlash;
use crate::routing::rate::Pace;
use crate::routing::resilience::Priority;
use crate::routing::spec::{EndpointTls, Protocol, TlsAttribute};
use crate::tls::server::{MinVersion, ServerSpec};

fn example(name: &str) -> Config {
    let path = repository().join("config").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# yaml-language-server: $schema=./pointsman.schema.json\n"), "{name} names its schema");
    Config::parse(name, &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn each_is_known_here() {
    let names: Vec<_> = files_in("config", "yaml").iter().map(|p| p.file_name().unwrap().to_owned()).collect();
    let known = [
        "blue-green.yaml",
        "canary.yaml",
        "conversations.yaml",
        "endpoints-tls.yaml",
        "endpoints.yaml",
        "gated.yaml",
        "grpc.yaml",
        "launchdarkly.yaml",
        "limits.yaml",
        "many-agents.yaml",
        "quickstart.yaml",
        "rate-limits.yaml",
        "resilient.yaml",
        "segments.yaml",
        "streams.yaml",
        "tls.yaml",
    ];
    assert_eq!(names, known, "an example without a test below");
}

#[test]
fn quickstart() {
    let config = example("quickstart.yaml");
    assert_eq!(config.listeners[0].address, "127.0.0.1:8080".parse().unwrap());
    let split = config.agents[0].spec.split.as_ref().unwrap();
    let arms: Vec<_> = split.arms.iter().map(|(version, weight)| (version.as_str(), weight.get())).collect();
    assert_eq!(arms, [("1.4.2", 95_000), ("1.5.0", 5_000)]);
}

#[test]
fn canary() {
    let config = example("canary.yaml");
    let deployment = config.agents[0].deployment.as_ref().unwrap();
    let steps: Vec<_> = deployment.steps.iter().map(|step| (step.weight.to_string(), step.hold)).collect();
    let minutes = |n: u64| Some(Duration::from_secs(n * 60));
    let want = [("1%", minutes(10)), ("5%", minutes(30)), ("25%", minutes(60)), ("100%", None)];
    assert_eq!(steps, want.map(|(weight, hold)| (weight.to_owned(), hold)));
    assert_eq!(deployment.bake, Duration::from_secs(3600));
    assert_eq!(deployment.cooldown, Duration::from_secs(600));
    assert_eq!(deployment.guards.len(), 3);
    let margin = GuardTest::WorseThanStable { margin: 0.01, slower_than: None, cap: None, confidence: 0.999 };
    assert_eq!(deployment.guards[2].test, margin);
}

#[test]
fn limits() {
    let config = example("limits.yaml");
    assert_eq!((config.limits.connections_per_address, config.limits.stream_resets), (Some(200), 200));
    assert!(
        config.trusted_proxies.contain([10, 1, 2, 3].into()) && !config.trusted_proxies.contain([11, 1, 2, 3].into())
    );
    assert_eq!(config.paths.slashes, EncodedSlash::Keep);
    let spec = &config.agents[0].spec;
    let bodies: Vec<_> = spec.routes.iter().map(|route| route.max_request_body_bytes).collect();
    assert_eq!(bodies, [Some(1 << 20), Some(256 << 20)]);
    assert_eq!(spec.exchange.request_timeout, Some(Duration::from_secs(120)));
}

#[test]
fn endpoints() {
    let config = example("endpoints.yaml");
    let [agent] = &config.agents[..] else { panic!("one agent") };
    let (rule, default) = (&agent.spec.exchange.ejection, EjectionSpec::default());
    assert_eq!(rule.max_ejected.to_string(), "67%");
    assert_eq!(EjectionSpec { max_ejected: default.max_ejected, ..rule.clone() }, default, "the defaults else");
    let [check] = &agent.checks[..] else { panic!("one check") };
    assert_eq!((check.kind.to_string().as_str(), check.retries, check.successes), ("GET /healthz", 2, 2));
}

#[test]
fn conversations() {
    let config = example("conversations.yaml");
    assert_eq!((config.pins.max, config.pins.keys.len()), (1_000_000, 1));
    assert!(config.keys().tokens.is_some() && config.keys().overrides.is_some_and(|overrides| !overrides.forward));
    let [chat, tools] = [0, 1].map(|agent| config.agents[agent].spec.conversations.as_ref().unwrap());
    assert_eq!((chat.policy, chat.ttl, chat.id.len()), (PinPolicy::Pinned, Duration::from_secs(43_200), 2));
    assert_eq!(chat.token, Some(TokenPlace::Cookie("pointsman-pin".into())));
    assert!(chat.evict_on_rollback && tools.evict_on_rollback);
    assert_eq!(tools.policy, PinPolicy::UpgradeAtTurn { grace: Duration::from_secs(30) });
    assert_eq!(tools.response_id, [ResponseId::Header("mcp-session-id".parse().unwrap())]);
    let deployment = config.agents[0].deployment.as_ref().unwrap();
    assert_eq!(deployment.drain_timeout, Some(Duration::from_secs(86_400)));
}

#[test]
fn resilient() {
    let config = example("resilient.yaml");
    let [bot, batch] = [0, 1].map(|agent| &config.agents[agent].spec.exchange.resilience);
    assert_eq!((bot.retries.attempts, bot.retries.per_try_timeout), (2, Some(Duration::from_secs(3))));
    let breaker = bot.breaker.unwrap();
    assert_eq!((breaker.max_concurrent, breaker.max_pending, breaker.consecutive_failures), (Some(500), None, None));
    assert_eq!(breaker.error_share.map(|share| (share.millionths, share.min_requests)), Some((500_000, 20)));
    assert_eq!((bot.priority, batch.priority), (Priority::High, Priority::Low));
    assert_eq!((batch.retries.attempts, batch.breaker), (0, None));
    assert_eq!(config.load_shedding, LoadShedding { requests_in_flight: Some(10_000), ..LoadShedding::default() });
}

#[test]
fn blue_green() {
    let config = example("blue-green.yaml");
    let agent = &config.agents[0];
    assert_eq!(agent.spec.exchange.host, HostPolicy::Endpoint);
    let deployment = agent.deployment.as_ref().unwrap();
    assert_eq!(deployment.strategy, Strategy::BlueGreen);
    assert_eq!(deployment.steps.iter().map(|step| step.weight).collect::<Vec<_>>(), [Weight::FULL]);
    assert_eq!(deployment.bake, Duration::from_secs(1800));
}

#[test]
fn gated() {
    let config = example("gated.yaml");
    let server = config.prometheus.as_ref().unwrap();
    assert_eq!((server.address.to_string().as_str(), server.prefix.as_str()), ("http://127.0.0.1:9090", ""));
    let agent = &config.agents[0];
    assert_eq!(agent.health.iter().map(|check| &check.kind).collect::<Vec<_>>(), [&CheckKind::Tcp]);
    let deployment = agent.deployment.as_ref().unwrap();
    let checks = &deployment.health;
    assert_eq!((checks.len(), checks[0].retries, checks[1].retries), (2, 3, 2));
    let CheckKind::Http(http) = &checks[0].kind else { panic!("{checks:?}") };
    assert_eq!((http.path.as_str(), http.status.to_string().as_str()), ("/healthz", "200"));
    assert!(matches!(&checks[1].kind, CheckKind::Command(argv) if argv[2] == "{{endpoint}}"));
    assert_eq!(deployment.guards.len(), 1);
    let query = &deployment.queries[0];
    assert_eq!(
        (query.limit, query.failures, query.label().as_str()),
        (QueryLimit::Above(0.05), 3, "tool calls that fail")
    );
    assert!(!query.query.contains('\n'));
}

#[test]
fn endpoints_tls() {
    let config = example("endpoints-tls.yaml");
    let exchange = &config.agents[0].spec.exchange;
    let tls = EndpointTls { server_name: Some("support-bot.internal".into()), ..EndpointTls::default() };
    assert_eq!((exchange.protocol, &*exchange.tls), (Protocol::Http2, &tls));
}

#[test]
fn grpc() {
    let config = example("grpc.yaml");
    let exchange = &config.agents[0].spec.exchange;
    assert_eq!((exchange.protocol, exchange.pool_idle), (Protocol::Http2, Duration::from_secs(60)));
}

#[test]
fn segments() {
    let config = example("segments.yaml");
    let spec = &config.agents[0].spec;
    assert_eq!(spec.bucketing.key[0], Attribute::Jwt("sub".into()));
    assert_eq!(spec.segments["staff"].any.len(), 2);
    assert_eq!(spec.rules[0].version.as_str(), "3.2.0-rc.1");
    let audience = &spec.split.as_ref().unwrap().audience;
    assert_eq!(audience.include[0].as_str(), "beta");
    assert_eq!(audience.exclude[0].as_str(), "enterprise");
}

#[test]
fn many_agents() {
    let config = example("many-agents.yaml");
    let environments: Vec<_> = config.agents.iter().map(|agent| agent.spec.environment.as_str()).collect();
    assert_eq!(environments, ["production", "production", "production", "staging"]);
    assert_eq!((config.workers, config.limits.connections), (2, 20_000));
    let summarizer = config.agents[2].deployment.as_ref().unwrap();
    let weights: Vec<_> = summarizer.steps.iter().map(|step| step.weight.get()).collect();
    assert_eq!(weights, [33_333, 66_666, 100_000]);
    let search = &config.agents[1].spec.versions["0.9.0"];
    assert_eq!(search.endpoints, [EndpointAddress::Unix("/run/support-search.sock".into())]);
}

#[test]
fn streams() {
    let config = example("streams.yaml");
    let agent = &config.agents[0];
    let streams = &agent.spec.streams;
    assert_eq!((streams.dialect, streams.encoded), (Dialect::Auto, Encoded::Decode));
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!((streams.stall_timeout, streams.heartbeat), (seconds(45), seconds(15)));
    assert_eq!(streams.output_tokens_header.as_ref().map(|name| name.as_str()), Some("x-usage-output-tokens"));
    let million = Usage { input_tokens: Some(1_000_000), output_tokens: Some(1_000_000) };
    let cost = |model| streams.prices.cost_nanos(model, million).map(|nanos| nanos as f64 / 1e9);
    let costs = ["gpt-5-mini", "gpt-5-mini-2025-08-07", "claude-sonnet-4-5", "own-model"].map(cost);
    assert_eq!(costs, [Some(2.25), Some(11.25), Some(18.0), Some(30.0)]);
    let guards = &agent.deployment.as_ref().unwrap().guards;
    assert_eq!(guards.len(), 6);
    let above = GuardTest::Above { limit: Limit::Mean(0.05), cap: Some(0.5), confidence: 0.999 };
    assert_eq!(guards[4].test, above);
    assert!(guards.iter().all(|guard| guard.check().is_ok()));
}

#[test]
fn tls() {
    let config = example("tls.yaml");
    let (listener, admin) = (config.listeners[0].tls.as_ref().unwrap(), config.admin.tls.as_ref().unwrap());
    assert_eq!(listener.certificates, admin.certificates);
    assert_eq!(listener.certificates[0].cert, Path::new("/etc/pointsman/tls/tls.crt"));
    let required = |spec: &ServerSpec| spec.client_auth.as_ref().map(|auth| auth.required);
    assert_eq!((required(listener), required(admin)), (Some(false), Some(true)));
    assert_eq!((listener.min_version, admin.min_version), (MinVersion::Tls12, MinVersion::Tls13));
    let spec = &config.agents[0].spec;
    assert_eq!(spec.bucketing.key[0], Attribute::Tls(TlsAttribute::Fingerprint));
    assert_eq!(spec.segments["partners"].all[0].attribute, Attribute::Tls(TlsAttribute::San));
}

#[test]
fn rate_limits() {
    let config = example("rate-limits.yaml");
    let limits = &config.agents[0].spec.rate_limits;
    let names: Vec<_> = limits.iter().map(|limit| (&*limit.name, limit.of_environment)).collect();
    assert_eq!(names, [("tokens", false), ("free-plan", false), ("per-address", true), ("everything", true)]);
    let tokens = limits[0].tokens.unwrap();
    assert_eq!((tokens.pace, tokens.estimate), (Pace { per_minute: 100_000, burst: 200_000 }, 1500));
    assert_eq!(limits[1].requests, Some(Pace { per_minute: 20, burst: 3 }));
    assert_eq!((limits[1].concurrent, limits[1].max_keys), (Some(2), 50_000));
    assert_eq!(limits[2].key, [Attribute::ClientIp]);
    assert!(limits[2].fields && !limits[3].fields);
}

#[test]
fn launchdarkly() {
    let config = example("launchdarkly.yaml");
    let bucketing = &config.agents[0].spec.bucketing;
    assert_eq!(bucketing.scheme, Scheme::LaunchDarkly);
    assert_eq!(bucketing.seed, None);
}

#[test]
fn the_schema_is_current() {
    let text = format!("{:#}\n", schema());
    compare_golden(&repository().join("config/pointsman.schema.json"), &text);
}
