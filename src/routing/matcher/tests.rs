use super::*;
use crate::routing::spec::RouteSpec;
use http::{HeaderValue, Method};
use proptest::prelude::*;

/// `host path header=value …`, each part `-` or absent for none.
fn route(text: &str) -> RouteSpec {
    let mut parts = text.split(' ');
    let mut part = || parts.next().filter(|part| *part != "-" && !part.is_empty()).map(str::to_owned);
    let (host, path_prefix) = (part(), part());
    let headers = parts.map(|part| part.split_once('=').expect("name=value"));
    let headers = headers.map(|(name, value)| (name.parse().expect("a name"), value.to_owned())).collect();
    RouteSpec { host, path_prefix, headers, max_request_body_bytes: None }
}

fn production() -> EnvironmentId {
    EnvironmentId::new("production")
}

/// One agent for each route.
fn build(routes: &[&str]) -> Result<Matcher, Vec<Clash>> {
    let routes: Vec<[RouteSpec; 1]> = routes.iter().map(|text| [route(text)]).collect();
    let environment = production();
    Matcher::build(routes.iter().enumerate().map(|(agent, routes)| (agent, &environment, routes.as_slice())))
}

fn find(matcher: &Matcher, environment: &EnvironmentId, request: &str) -> Option<usize> {
    let mut parts = request.split(' ');
    let (host, path) = (parts.next().expect("a host"), parts.next().expect("a path"));
    let mut headers = HeaderMap::new();
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        );
    }
    let client = [127, 0, 0, 1].into();
    let head = Head {
        method: &Method::GET,
        host,
        path,
        query: None,
        headers: &headers,
        client,
        certificate: None,
        json: None,
        nonce: 0,
    };
    matcher.find(environment, &head).map(|place| place.agent)
}

#[track_caller]
fn check_finds(routes: &[&str], requests: &[(&str, Option<usize>)]) {
    let matcher = build(routes).expect("no clash");
    for (request, agent) in requests {
        assert_eq!(find(&matcher, &production(), request), *agent, "{request}");
    }
}

#[test]
fn prefixes_take_whole_segments_and_the_longest_wins() {
    check_finds(
        &["- /v1", "- /v1/", "- /v1/chat", "- /v2/", "- /a/b/c"],
        &[
            ("h /v1", Some(0)),
            ("h /v1/", Some(1)),
            ("h /v1/x", Some(1)),
            ("h /v10", None),
            ("h /v1/chat", Some(2)),
            ("h /v1/chat/x", Some(2)),
            ("h /v1/chats", Some(1)),
            ("h /v2", None),
            ("h /v2/", Some(3)),
            ("h /a/b", None),
            ("h /a/b/c", Some(4)),
            ("h /a/b/c/d/e/f/g", Some(4)),
            ("h /", None),
            ("h *", None),
            ("h //v1", None),
        ],
    );
}

#[test]
fn no_prefix_takes_everything_and_a_slash_every_path() {
    check_finds(&["- -", "- /"], &[("h /", Some(1)), ("h /x/y", Some(1)), ("h *", Some(0))]);
}

#[test]
fn hosts_exact_then_the_longest_wildcard_then_none() {
    let table = [
        ("a.example.com /", Some(0)),
        ("A.Example.COM /", Some(0)),
        ("a.example.com. /", Some(0)),
        ("b.example.com /", Some(2)),
        ("x.y.example.com /", Some(2)),
        ("x.eu.example.com /", Some(1)),
        ("X.EU.Example.com /", Some(1)),
        ("eu.example.com /", Some(2)),
        ("example.com /", Some(3)),
        ("badexample.com /", Some(3)),
        (" /", Some(3)),
        ("[::1] /", Some(4)),
    ];
    check_finds(&["a.example.com", "*.eu.example.com", "*.example.com", "- -", "[::1]"], &table);
    let long = format!("{}.example.com /", "a".repeat(300));
    check_finds(&["*.example.com", "- -"], &[(long.as_str(), Some(1))]);
}

#[test]
fn a_host_without_a_matching_path_leaves_the_request_to_a_wider_one() {
    check_finds(
        &["a.example.com /v1", "*.example.com /v2", "- /v3"],
        &[
            ("a.example.com /v1", Some(0)),
            ("a.example.com /v2", Some(1)),
            ("a.example.com /v3", Some(2)),
            ("a.example.com /", None),
        ],
    );
}

#[test]
fn more_headers_win_and_all_must_match() {
    check_finds(
        &["- /v1", "- /v1 x-agent=a", "- /v1 x-agent=b", "- /v1 x-agent=a x-beta=1", "- /v1/ x-agent=a"],
        &[
            ("h /v1", Some(0)),
            ("h /v1 x-agent=c", Some(0)),
            ("h /v1 x-agent=a", Some(1)),
            ("h /v1 x-agent=b", Some(2)),
            ("h /v1 x-agent=b x-beta=1", Some(2)),
            ("h /v1 x-beta=1 x-agent=a", Some(3)),
            ("h /v1/x x-agent=a x-beta=1", Some(4)),
            ("h /v1 x-agent=b x-agent=a", Some(2)),
        ],
    );
}

#[test]
fn an_environment_sees_its_own_routes_only() {
    let (production, staging) = (production(), EnvironmentId::new("staging"));
    let matcher = Matcher::build([(0, &production, [].as_slice()), (1, &staging, [].as_slice())]).expect("no clash");
    assert_eq!(find(&matcher, &production, "h /"), Some(0));
    assert_eq!(find(&matcher, &staging, "h /"), Some(1));
    assert_eq!(find(&matcher, &EnvironmentId::new("test"), "h /"), None);
}

fn place(agent: usize) -> Place {
    Place { agent, route: Some(0) }
}

#[test]
fn pairs_that_nothing_orders_are_clashes() {
    let same = vec![Clash::Same(place(0), place(1))];
    let ambiguous = vec![Clash::Ambiguous(place(0), place(1))];
    let table: [(&[&str], &[Clash]); 10] = [
        (&["- -", "- -"], &same),
        (&["h /v1", "h /v1"], &same),
        (&["- / x-a=1 x-b=2", "- / x-b=2 x-a=1"], &same),
        (&["- / x-a=1", "- / x-b=1"], &ambiguous),
        (&["- / x-a=1 x-b=1", "- / x-b=1 x-c=1"], &ambiguous),
        // What orders or separates them:
        (&["- / x-a=1", "- / x-a=2"], &[]),
        (&["- / x-a=1 x-b=1", "- / x-b=2 x-c=1"], &[]),
        (&["- /v1 x-a=1", "- /v1/ x-b=1"], &[]),
        (&["h / x-a=1", "*.h / x-b=1", "- / x-c=1"], &[]),
        (&["- / x-a=1", "- / x-b=1 x-c=1"], &[]),
    ];
    for (routes, clashes) in table {
        assert_eq!(build(routes).err().unwrap_or_default(), clashes, "{routes:?}");
    }
}

#[test]
fn one_agents_own_routes_may_overlap_but_not_repeat() {
    let environment = production();
    let routes = [route("- / x-a=1"), route("- / x-b=1")];
    assert!(Matcher::build([(0, &environment, routes.as_slice())]).is_ok());
    let routes = [route("- /v1"), route("- /v1")];
    let clashes = Matcher::build([(0, &environment, routes.as_slice())]).err().expect("a clash");
    assert_eq!(clashes, [Clash::Same(place(0), Place { agent: 0, route: Some(1) })]);
}

#[test]
fn header_sets_and_reported_clashes_are_bounded() {
    let sets: Vec<String> = (0..=HEADER_SETS_MAX).map(|n| format!("- / x-id={n} x-{n}=1")).collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    assert!(build(&sets[..HEADER_SETS_MAX]).is_ok(), "told apart by x-id");
    assert_eq!(build(&sets).err(), Some(vec![Clash::TooManyHeaderSets(place(HEADER_SETS_MAX))]));
    assert_eq!(build(&["- /"; 500]).err().map(|clashes| clashes.len()), Some(100));
}

#[test]
fn a_route_is_checked_by_itself() {
    let table = [
        ("Example.com", "lower case"),
        ("example.com.", "closing dot"),
        ("example.com:80", "without port"),
        ("*", "`*` only as the whole first label"),
        ("*example.com", "`*` only as the whole first label"),
        ("a.*.com", "`*` only as the whole first label"),
        ("*.", "a host name, or none"),
        ("http://a", "without port"),
        ("- v1", "begins with a slash: `/v1`"),
        ("- /v1/*", "a plain path"),
        ("- /v1?x", "a plain path"),
        ("- /1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", "at most 16 segments"),
        ("- / x-a=1 x-a=2", "given twice"),
    ];
    for (text, expected) in table {
        let faults = check(&route(text));
        assert!(faults.len() == 1 && faults[0].contains(expected), "{text}: {faults:?}");
    }
    for text in ["- -", "a.example.com /v1/", "*.example.com / x-a=1", "[::1]", "a_b-c.example"] {
        assert!(check(&route(text)).is_empty(), "{text}");
    }
    let many = (0..9).fold("- /".to_owned(), |text, n| format!("{text} x-{n}=1"));
    assert!(check(&route(&many))[0].contains("8 headers at most"));
}

/// The definition, word by word, over all routes: what the indexes must agree with.
fn by_definition(routes: &[RouteSpec], host: &str, path: &str, headers: &HeaderMap) -> Option<usize> {
    let takes = |route: &RouteSpec| {
        let host_ok = route.host.as_deref().is_none_or(|wanted| match wanted.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == wanted,
        });
        let path_ok = route.path_prefix.as_deref().is_none_or(|prefix| match path.strip_prefix(prefix) {
            Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
            None => false,
        });
        host_ok
            && path_ok
            && route.headers.iter().all(|(name, value)| headers.get(name).is_some_and(|v| v == value.as_str()))
    };
    let rank = |route: &RouteSpec| {
        let host = route.host.as_deref().map_or((0, 0), |h| if h.starts_with("*.") { (1, h.len()) } else { (2, 0) });
        (host, route.path_prefix.as_deref().map_or(0, str::len), route.headers.len())
    };
    let taking = routes.iter().enumerate().filter(|(_, route)| takes(route));
    taking.max_by_key(|(_, route)| rank(route)).map(|(index, _)| index)
}

fn any_route() -> impl Strategy<Value = RouteSpec> {
    let host = prop::sample::select(vec!["-", "a.b", "*.b", "c.a.b", "*.a.b", "b"]);
    let path = prop::sample::select(vec!["-", "/", "/x", "/x/", "/x/y", "/x/y/", "/xy", "/y"]);
    let headers = prop::sample::select(vec!["", " p=1", " p=2", " q=1", " p=1 q=1", " p=2 q=1"]);
    (host, path, headers).prop_map(|(host, path, headers)| route(&format!("{host} {path}{headers}")))
}

proptest! {
    #[test]
    fn the_index_agrees_with_the_definition(
        mut routes in prop::collection::vec(any_route(), 1..12),
        host in prop::sample::select(vec!["a.b", "c.a.b", "d.c.a.b", "b", "z"]),
        path in prop::sample::select(vec!["/", "/x", "/x/", "/x/y", "/x/y/z", "/xy", "/y/x", "*"]),
        p in prop::option::of(1..3), q in prop::option::of(1..3),
    ) {
        // Keep the first of each pair that clashes.
        let mut kept: Vec<RouteSpec> = Vec::new();
        let environment = production();
        for route in routes.drain(..) {
            kept.push(route);
            let agents: Vec<_> = kept.chunks(1).enumerate().map(|(agent, routes)| (agent, &environment, routes)).collect();
            if Matcher::build(agents).is_err() {
                kept.pop();
            }
        }
        let matcher = Matcher::build(kept.chunks(1).enumerate().map(|(agent, routes)| (agent, &environment, routes)));
        let mut headers = HeaderMap::new();
        for (name, value) in [("p", p), ("q", q)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from(value));
            }
        }
        let client = [127, 0, 0, 1].into();
        let head = Head { method: &Method::GET, host, path, query: None, headers: &headers, client, certificate: None, json: None, nonce: 0 };
        let found = matcher.expect("no clash").find(&environment, &head).map(|place| place.agent);
        prop_assert_eq!(found, by_definition(&kept, host, path, &headers));
    }
}
