//! What a decision costs, and what a publish costs: `cargo bench --bench routing`.
//!
//! Goals: `decide` with SHA-1 under 300 ns, ten thousand agents compiled in under 100 ms.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method};
use pointsman::routing::bucket::Bucketer;
use pointsman::routing::compile::compile;
use pointsman::routing::decide::decide;
use pointsman::routing::ids::{AgentId, EnvironmentId, VersionId, Weight};
use pointsman::routing::spec::*;
use pointsman::routing::table::{Head, RoutingTable};
use pointsman::telemetry::stats::StatsRegistry;

const AGENTS: usize = 10_000;
const KEY: &str = "5f1d7e84-1b0a-4a38-9a5e-0c2a4d9f6e11";

/// Agent `n` of many: a host of its own, a path prefix, two versions of two endpoints, a 5 % canary.
fn agent(n: usize) -> DesiredAgent {
    let endpoint = |port: usize| format!("http://10.0.{}.{}:{}", n / 256 % 256, n % 256, 7000 + port);
    let version = |first: usize| VersionSpec {
        endpoints: (first..first + 2).map(|port| endpoint(port).parse().expect("an address")).collect(),
    };
    let spec = AgentSpec {
        id: AgentId::new(format!("agent-{n:05}")),
        environment: EnvironmentId::new("production"),
        routes: vec![RouteSpec {
            host: Some(format!("agent-{n:05}.example.com")),
            path_prefix: Some("/v1/".into()),
            headers: vec![],
            max_request_body_bytes: None,
        }],
        bucketing: BucketingSpec {
            key: vec!["header:x-user-id".parse().expect("an attribute")],
            salt: "2026-q1".into(),
            scheme: Scheme::Sha1,
            seed: None,
            json_limit_bytes: 64 << 10,
        },
        versions: BTreeMap::from([(VersionId::new("1.4.2"), version(1)), (VersionId::new("1.5.0"), version(3))]),
        stable: VersionId::new("1.4.2"),
        segments: BTreeMap::new(),
        rules: vec![],
        split: None,
        exchange: ExchangeSpec::default(),
        conversations: None,
        streams: StreamSpec::default(),
    };
    let weight = Weight::new(5_000).expect("a share");
    let canary = CanaryShare { version: VersionId::new("1.5.0"), weight, audience: Audience::default() };
    DesiredAgent { spec: Arc::new(spec), barred: vec![], left: vec![], canary: Some(canary), notes: Default::default() }
}

fn desired(agents: usize) -> Desired {
    Desired { config_hash: "bench".into(), agents: (0..agents).map(agent).collect() }
}

fn table(desired: &Desired) -> RoutingTable {
    compile(desired, None, &StatsRegistry::new(2), 1).expect("a table")
}

/// The headers of an ordinary client, the key among them.
fn headers() -> HeaderMap {
    let pairs = [
        ("host", "agent-04711.example.com"),
        ("user-agent", "client/1.0"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("content-length", "512"),
        ("x-user-id", KEY),
        ("cookie", "theme=dark; sid=5f1d7e841b0a4a389a5e0c2a4d9f6e11; lang=de"),
    ];
    pairs.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
}

fn head<'a>(headers: &'a HeaderMap, path: &'a str) -> Head<'a> {
    Head {
        method: &Method::POST,
        host: "agent-04711.example.com",
        path,
        query: None,
        headers,
        client: [192, 0, 2, 7].into(),
        certificate: None,
        json: None,
        nonce: 0,
    }
}

fn decisions(c: &mut Criterion) {
    let (headers, table) = (headers(), table(&desired(1)));
    let head = head(&headers, "/v1/chat/completions");
    c.bench_function("decide/sha1 header", |b| b.iter(|| decide(black_box(&table.agents[0]), black_box(&head))));

    let mut by_cookie = desired(1);
    let mut spec = AgentSpec::clone(&by_cookie.agents[0].spec);
    spec.bucketing.key = vec!["cookie:sid".parse().expect("an attribute")];
    by_cookie.agents[0].spec = Arc::new(spec);
    let by_cookie = self::table(&by_cookie);
    c.bench_function("decide/sha1 cookie", |b| b.iter(|| decide(black_box(&by_cookie.agents[0]), black_box(&head))));
}

fn schemes(c: &mut Criterion) {
    for scheme in Scheme::ALL {
        let bucketer = Bucketer::new(scheme, "support-bot", "2026-q1", None);
        c.bench_function(&format!("bucket/{scheme}"), |b| {
            b.iter(|| black_box(&bucketer).bucket(black_box(KEY.as_bytes())))
        });
    }
}

fn matching(c: &mut Criterion) {
    let (headers, table) = (headers(), table(&desired(AGENTS)));
    let production = EnvironmentId::new("production");
    let head = head(&headers, "/v1/chat/completions");
    c.bench_function("route/10,000 agents", |b| b.iter(|| table.route(black_box(&production), black_box(&head))));
}

fn compiling(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    let desired = desired(AGENTS);
    group.bench_function("10,000 agents", |b| {
        b.iter_with_large_drop(|| compile(black_box(&desired), None, &StatsRegistry::new(2), 1))
    });

    let registry = StatsRegistry::new(2);
    let previous = compile(&desired, None, &registry, 1).expect("a table");
    let mut changed = desired.clone();
    changed.agents[4711].canary.as_mut().expect("a canary").weight = Weight::new(25_000).expect("a share");
    group.bench_function("one weight of 10,000 agents", |b| {
        b.iter_with_large_drop(|| compile(black_box(&changed), Some(&previous), &registry, 2))
    });

    // As after a reload: every spec has been read anew and is equal.
    group.bench_function("the same 10,000 agents read anew", |b| {
        b.iter_batched(
            || {
                let mut read_anew = changed.clone();
                for agent in &mut read_anew.agents {
                    agent.spec = Arc::new(AgentSpec::clone(&agent.spec));
                }
                read_anew
            },
            |read_anew| compile(&read_anew, Some(&previous), &registry, 2),
            BatchSize::PerIteration,
        )
    });
}

criterion_group!(benches, decisions, schemes, matching, compiling);
criterion_main!(benches);
