//! Routing and deciding allocate nothing: the hot path's rule, counted.
//!
//! A counting allocator is the one way to prove it, and implementing one takes `unsafe`. This is the
//! named exception to the package's ban on it, and the reason that this is a test binary of its own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use pointsman::routing::compile::compile;
use pointsman::routing::decide::decide;
use pointsman::routing::ids::{AgentId, EnvironmentId, SegmentId, VersionId, Weight};
use pointsman::routing::spec::*;
use pointsman::routing::table::{Head, Reason, RoutingTable};
use pointsman::telemetry::stats::StatsRegistry;

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
    };
    let audience = Audience { include: vec![], exclude: vec![SegmentId::new("staff")] };
    let weight = Weight::new(5_000).expect("a share");
    let canary = Some(CanaryShare { version: VersionId::new("1.5.0"), weight, audience });
    let agents = vec![DesiredAgent { spec: Arc::new(spec), barred: vec![], canary, notes: Default::default() }];
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
