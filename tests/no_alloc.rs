//! Routing and deciding allocate nothing: the hot path's rule, counted. Nor does a look of the judge.
//!
//! A counting allocator is the one way to prove it, and implementing one takes `unsafe`. This is the
//! named exception to the package's ban on it, and the reason that this is a test binary of its own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use pointsman::judge::{Counts, Feed, GuardSpec, GuardTest, Judge, Limit, Metric};
use pointsman::routing::compile::compile;
use pointsman::routing::decide::decide;
use pointsman::routing::ids::{AgentId, EnvironmentId, SegmentId, VersionId, Weight};
use pointsman::routing::spec::*;
use pointsman::routing::table::{Head, Reason, RoutingTable};
use pointsman::telemetry::stats::{Exchange, Outcome, StatsRegistry, StatusClass, StreamEnd, Usage, VersionLabels};

/// The system's allocator, which counts how often this thread asks it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more; it is none of ours.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; counting
// touches a thread-local integer only, which neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// A 5 % canary for everybody but a segment, keyed by the given source.
fn table(key: &str, scheme: Scheme) -> RoutingTable {
    let staff = [
        Condition { attribute: "header:x-staff".parse().expect("an attribute"), test: Test::Eq("yes".into()) },
        Condition { attribute: "client_ip".parse().expect("an attribute"), test: Test::In(vec!["10.0.0.0/8".into()]) },
        Condition { attribute: "header:x-app".parse().expect("an attribute"), test: Test::Gte("1.2.0".into()) },
    ];
    let staff = (SegmentId::new("staff"), SegmentSpec { all: vec![], any: staff.into() });
    let versions = ["1.4.2", "1.5.0"].map(|name| (VersionId::new(name), VersionSpec { endpoints: vec![] }));
    let spec = AgentSpec {
        id: AgentId::new("support-bot"),
        environment: EnvironmentId::new("production"),
        routes: vec![RouteSpec {
            host: Some("*.example.com".into()),
            path_prefix: Some("/v1/".into()),
            headers: vec![(http::HeaderName::from_static("x-tenant"), "acme".into())],
            max_request_body_bytes: None,
        }],
        bucketing: BucketingSpec {
            key: vec!["header:x-none".parse().expect("an attribute"), key.parse().expect(key)],
            salt: "2026-q1".into(),
            scheme,
            seed: None,
            json_limit_bytes: 0,
        },
        versions: versions.into(),
        stable: VersionId::new("1.4.2"),
        segments: BTreeMap::from([staff]),
        rules: vec![],
        split: None,
        exchange: ExchangeSpec::default(),
        streams: StreamSpec::default(),
        conversations: None,
    };
    let audience = Audience { include: vec![], exclude: vec![SegmentId::new("staff")] };
    let weight = Weight::new(5_000).expect("a share");
    let canary = Some(CanaryShare { version: VersionId::new("1.5.0"), weight, audience });
    let agents =
        vec![DesiredAgent { spec: Arc::new(spec), barred: vec![], left: vec![], canary, notes: Default::default() }];
    compile(&Desired { config_hash: "".into(), agents }, None, &StatsRegistry::new(1), 1).expect("a table")
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}

#[test]
fn routing_and_deciding_allocate_nothing() {
    let headers: HeaderMap = [
        ("x-user-id", "5f1d7e84-1b0a-4a38-9a5e-0c2a4d9f6e11"),
        ("cookie", "theme=dark; sid=5f1d7e841b0a4a389a5e0c2a4d9f6e11"),
        ("x-tenant", "acme"),
        ("x-app", "1.0.0"),
    ]
    .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
    .into_iter()
    .collect();
    let head = Head {
        method: &Method::POST,
        host: "Support.Example.COM",
        path: "/v1/chat/completions",
        query: Some("user=u1&lang=de"),
        headers: &headers,
        client: "2001:db8::7".parse().expect("an address"),
        certificate: None,
        json: None,
        nonce: 7,
    };
    let production = EnvironmentId::new("production");
    for key in ["header:x-user-id", "cookie:sid", "query:user", "client_ip", "request"] {
        for scheme in Scheme::ALL {
            let table = table(key, scheme);
            let mut reason = None;
            let count = allocations(|| {
                let agent = table.route(&production, &head);
                reason = agent.map(|index| black_box(decide(&table.agents[index], &head)).reason);
            });
            assert_eq!(reason, Some(Reason::Split), "{key} {scheme}: the whole path was walked");
            assert_eq!(count, 0, "{key} {scheme}");
        }
    }
}

/// One of each kind, on errors and on latency.
fn guards() -> [GuardSpec; 4] {
    let (limit, window) = (Limit::Duration(Duration::from_secs(3)), Duration::from_secs(60));
    let confidence = 0.999;
    [
        (Metric::ErrorRate, GuardTest::Windowed { limit: Limit::Rate(0.05), window, min_requests: 50 }),
        (Metric::LatencyP95, GuardTest::Windowed { limit, window, min_requests: 50 }),
        (Metric::ErrorRate, GuardTest::Above { limit: Limit::Rate(0.05), cap: None, confidence }),
        (Metric::ErrorRate, GuardTest::WorseThanStable { margin: 0.01, slower_than: None, cap: None, confidence }),
    ]
    .map(|(metric, test)| GuardSpec { metric, test })
}

/// One of each kind, on means.
fn means() -> [GuardSpec; 3] {
    let (window, confidence) = (Duration::from_secs(60), 0.999);
    let (mean, cap) = (Limit::Mean(1_000.0), Some(4_000.0));
    [
        (Metric::CostPerRequestMean, GuardTest::Windowed { limit: mean, window, min_requests: 50 }),
        (Metric::OutputTokensMean, GuardTest::Above { limit: mean, cap, confidence }),
        (Metric::OutputTokensMean, GuardTest::WorseThanStable { margin: 200.0, slower_than: None, cap, confidence }),
    ]
    .map(|(metric, test)| GuardSpec { metric, test })
}

#[test]
fn a_million_observations_allocate_nothing_once_the_windows_are_full() {
    let (mut canary, mut stable) = (Counts::default(), Counts::default());
    let mut judge = Judge::new(&guards(), &canary, &stable, Duration::ZERO);
    let mut look = |number: u64| {
        canary.judged += 1;
        canary.errors += u64::from(number.is_multiple_of(200));
        canary.latency.record(Duration::from_millis(100 + number % 50));
        stable.judged += 19;
        stable.errors += u64::from(number.is_multiple_of(10));
        judge.observe(Duration::from_millis(10 * number), &canary, &stable);
        assert!(!judge.has_breached());
    };
    const WARM_UP: u64 = 20_000;
    (0..WARM_UP).for_each(&mut look);
    assert_eq!(allocations(|| (WARM_UP..WARM_UP + 1_000_000).for_each(&mut look)), 0);
}

#[test]
fn a_look_at_live_counters_allocates_nothing() {
    let registry = StatsRegistry::new(2);
    let labels = |version: &str| VersionLabels {
        environment: "production".into(),
        agent: "support-bot".into(),
        version: version.into(),
    };
    let (canary, stable) = (registry.version(labels("1.5.0")), registry.version(labels("1.4.2")));
    let guards = [&guards()[..], &means()].concat();
    let (mut of_canary, mut of_stable) = (Feed::of_canary(&guards), Feed::of_stable(&guards));
    let mut judge = Judge::new(&guards, of_canary.read(&canary), of_stable.read(&stable), Duration::ZERO);
    let (latency, first_byte) = (Duration::from_millis(100), Some(Duration::from_millis(50)));
    let end = Exchange {
        stream: Some(StreamEnd::Complete),
        usage: Usage { input_tokens: Some(10), output_tokens: Some(500) },
        ..Exchange::plain(Outcome::Success, StatusClass::Success, latency, first_byte)
    };
    let mut look = |number: u64| {
        for version in [&canary, &stable] {
            version.started(0);
            version.ended(0, &end);
        }
        judge.observe(Duration::from_millis(10 * number), of_canary.read(&canary), of_stable.read(&stable));
    };
    const WARM_UP: u64 = 20_000;
    (0..WARM_UP).for_each(&mut look);
    assert_eq!(allocations(|| (WARM_UP..2 * WARM_UP).for_each(&mut look)), 0);
    let readings = judge.readings(Duration::from_millis(20 * WARM_UP));
    assert_eq!(readings[2].canary.requests, 2 * WARM_UP, "each look took in what came: {readings:?}");
}
