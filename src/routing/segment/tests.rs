use super::*;
use http::{HeaderMap, HeaderValue, Method};

fn condition(attribute: &str, test: Test) -> Condition {
    Condition { attribute: attribute.parse().expect(attribute), test }
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Whether a request with these facts passes one test.
fn passes(attribute: &str, test: Test) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-plan", "gold"),
        ("x-app", "1.10.0"),
        ("x-age", "42"),
        ("x-empty", ""),
        ("cookie", "sid=s-1"),
        // {"sub":"u1","tier":3}
        ("authorization", "Bearer e30.eyJzdWIiOiJ1MSIsInRpZXIiOjN9.x"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("x-binary", HeaderValue::from_bytes(b"\xffgold").expect("opaque"));
    let head = Head {
        method: &Method::POST,
        host: "Support.Example.COM",
        path: "/v1/chat",
        query: Some("lang=de&beta=yes+please"),
        headers: &headers,
        client: "::ffff:10.1.2.3".parse().expect("an address"),
        certificate: None,
        json: None,
        nonce: 0,
    };
    let spec = SegmentSpec { all: vec![condition(attribute, test)], any: vec![] };
    Segment::compile(&spec).map_err(|faults| faults[0].message.clone()).expect("compiles").holds(&head)
}

#[test]
fn every_operator_on_every_kind_of_attribute() {
    let eq = |value: &str| Test::Eq(value.into());
    let regex = |pattern: &str| Test::Matches(Regex::new(pattern).expect(pattern));
    let table = [
        ("header:x-plan", eq("gold"), true),
        ("header:x-plan", eq("Gold"), false),
        ("header:x-plan", Test::NotEq("gold".into()), false),
        ("header:x-plan", Test::NotEq("free".into()), true),
        ("header:x-plan", Test::In(texts(&["free", "gold"])), true),
        ("header:x-plan", Test::In(texts(&["free", "silver"])), false),
        ("header:x-plan", Test::In(vec![]), false),
        ("header:x-plan", Test::NotIn(texts(&["free", "gold"])), false),
        ("header:x-plan", Test::NotIn(texts(&["free"])), true),
        ("header:x-plan", Test::Contains("ol".into()), true),
        ("header:x-plan", Test::Contains("lo".into()), false),
        ("header:x-plan", Test::Contains(String::new()), true),
        ("header:x-plan", Test::StartsWith("go".into()), true),
        ("header:x-plan", Test::StartsWith("old".into()), false),
        ("header:x-plan", regex("^g.ld$"), true),
        ("header:x-plan", regex("ol"), true),
        ("header:x-plan", regex("^ol"), false),
        ("header:x-plan", Test::Exists(true), true),
        ("header:x-plan", Test::Exists(false), false),
        ("header:x-empty", Test::Exists(true), true),
        ("header:x-binary", regex("gold"), false),
        ("header:x-binary", Test::Contains("gold".into()), true),
        ("cookie:sid", eq("s-1"), true),
        ("query:beta", eq("yes please"), true),
        ("query:lang", Test::In(texts(&["de", "at"])), true),
        ("path", Test::StartsWith("/v1/".into()), true),
        ("method", eq("POST"), true),
        ("host", eq("support.EXAMPLE.com"), true),
        ("host", Test::In(texts(&["a", "SUPPORT.example.com"])), true),
        ("host", Test::Contains("Example".into()), true),
        ("jwt:sub", eq("u1"), true),
        ("jwt:tier", Test::Gte("3".into()), true),
        ("client_ip", eq("10.1.2.3"), true),
        ("client_ip", eq("10.0.0.0/8"), true),
        ("client_ip", Test::NotEq("10.0.0.0/8".into()), false),
        ("client_ip", Test::In(texts(&["192.0.2.0/24", "10.1.0.0/16", "10.1.2.0/24"])), true),
        ("client_ip", Test::In(texts(&["192.0.2.0/24", "10.1.2.4", "::/0"])), false),
        ("client_ip", Test::NotIn(texts(&["192.0.2.0/24"])), true),
        ("client_ip", Test::StartsWith("10.".into()), true),
    ];
    for (attribute, test, expected) in table {
        assert_eq!(passes(attribute, test.clone()), expected, "{attribute} {test:?}");
    }
}

#[test]
fn comparisons_are_of_numbers_then_semver_then_text() {
    let table = [
        ("header:x-age", "9", Ordering::Greater),
        ("header:x-age", "42.0", Ordering::Equal),
        ("header:x-age", "1e3", Ordering::Less),
        ("header:x-app", "1.9.0", Ordering::Greater),
        ("header:x-app", "1.10.0", Ordering::Equal),
        ("header:x-app", "1.10.0+build.7", Ordering::Equal),
        ("header:x-app", "1.10.0-rc.1", Ordering::Greater),
        ("header:x-app", "2", Ordering::Less),
        ("header:x-plan", "free", Ordering::Greater),
        ("header:x-plan", "inf", Ordering::Less),
        ("header:x-age", "inf", Ordering::Less),
    ];
    for (attribute, than, order) in table {
        let than = than.to_owned();
        assert_eq!(passes(attribute, Test::Gt(than.clone())), order.is_gt(), "{attribute} > {than}");
        assert_eq!(passes(attribute, Test::Gte(than.clone())), order.is_ge(), "{attribute} >= {than}");
        assert_eq!(passes(attribute, Test::Lt(than.clone())), order.is_lt(), "{attribute} < {than}");
        assert_eq!(passes(attribute, Test::Lte(than.clone())), order.is_le(), "{attribute} <= {than}");
    }
}

#[test]
fn an_absent_attribute_fails_all_but_the_negative_tests() {
    let x = || "x".to_owned();
    let table = [
        (Test::Eq(x()), false),
        (Test::NotEq(x()), true),
        (Test::In(vec![x()]), false),
        (Test::NotIn(vec![x()]), true),
        (Test::Gt(x()), false),
        (Test::Gte(x()), false),
        (Test::Lt(x()), false),
        (Test::Lte(x()), false),
        (Test::Contains(String::new()), false),
        (Test::StartsWith(String::new()), false),
        (Test::Matches(Regex::new("").expect("a pattern")), false),
        (Test::Exists(true), false),
        (Test::Exists(false), true),
    ];
    for (test, expected) in table {
        assert_eq!(passes("header:x-none", test.clone()), expected, "{test:?}");
    }
}

#[test]
fn all_must_hold_and_one_of_any() {
    let headers = HeaderMap::new();
    let head = Head {
        method: &Method::GET,
        host: "",
        path: "/",
        query: None,
        headers: &headers,
        client: [127, 0, 0, 1].into(),
        certificate: None,
        json: None,
        nonce: 0,
    };
    let (yes, no) = (|| condition("method", Test::Eq("GET".into())), || condition("method", Test::Eq("PUT".into())));
    let table = [
        (vec![], vec![], true),
        (vec![yes(), yes()], vec![], true),
        (vec![yes(), no()], vec![], false),
        (vec![], vec![no(), yes()], true),
        (vec![], vec![no(), no()], false),
        (vec![yes()], vec![no()], false),
        (vec![no()], vec![yes()], false),
    ];
    for (all, any, expected) in table {
        let spec = SegmentSpec { all, any };
        assert_eq!(Segment::compile(&spec).expect("compiles").holds(&head), expected, "{spec:?}");
    }
}

#[test]
fn every_fault_is_reported_with_its_place() {
    let spec = SegmentSpec {
        all: vec![
            condition("json:/user", Test::Exists(true)),
            condition("path", Test::Exists(true)),
            condition("request", Test::Exists(true)),
        ],
        any: vec![condition("client_ip", Test::In(texts(&["10.0.0.0/8", "10.0.0.0/33"])))],
    };
    let faults = Segment::compile(&spec).err().expect("three faults");
    let shown: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    assert_eq!(
        shown,
        [
            "all[0]: `json:/user` serves as a bucketing key only, not in a segment",
            "all[2]: `request` serves as a bucketing key only, not in a segment",
            "any[0]: `10.0.0.0/33`: expected an address or a block such as `10.0.0.0/8` or `2001:db8::/32`",
        ]
    );
}
