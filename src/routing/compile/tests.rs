use super::*;
use crate::routing::decide::bucket_ranges;
use crate::routing::ids::{SegmentId, VersionId, Weight};
use crate::routing::layout::Layout;
use crate::routing::spec::*;
use crate::routing::split::Split;
use std::collections::BTreeMap;

fn version(name: &str) -> VersionId {
    VersionId::new(name)
}

fn percent(share: u32) -> Weight {
    Weight::new(share * 1000).expect("a share")
}

/// An agent at its own host with versions 1.4.2 (stable), 1.5.0 and 1.6.0, and a segment `beta`.
fn spec(id: &str) -> AgentSpec {
    let endpoints = vec!["http://127.0.0.1:7001".parse().expect("an address")];
    let versions = ["1.4.2", "1.5.0", "1.6.0"].map(|v| (version(v), VersionSpec { endpoints: endpoints.clone() }));
    let beta = Condition { attribute: "header:x-beta".parse().expect("an attribute"), test: Test::Exists(true) };
    AgentSpec {
        id: AgentId::new(id),
        environment: EnvironmentId::new("production"),
        routes: vec![RouteSpec { host: Some(format!("{id}.example.com")), ..RouteSpec::default() }],
        bucketing: BucketingSpec {
            key: vec!["header:x-user-id".parse().expect("an attribute")],
            salt: "s".into(),
            scheme: Scheme::Sha1,
            seed: None,
            json_limit_bytes: 64 << 10,
        },
        versions: versions.into(),
        stable: version("1.4.2"),
        segments: BTreeMap::from([(SegmentId::new("beta"), SegmentSpec { all: vec![beta], any: vec![] })]),
        rules: vec![],
        split: None,
        exchange: ExchangeSpec::default(),
        streams: StreamSpec::default(),
        conversations: None,
        rate_limits: vec![],
    }
}

fn with(mut spec: AgentSpec, change: impl FnOnce(&mut AgentSpec)) -> DesiredAgent {
    change(&mut spec);
    DesiredAgent { spec: Arc::new(spec), barred: vec![], left: vec![], canary: None, notes: Default::default() }
}

fn canary(spec: AgentSpec, name: &str, weight: u32) -> DesiredAgent {
    let share = CanaryShare { version: version(name), weight: percent(weight), audience: Audience::default() };
    DesiredAgent { spec: Arc::new(spec), barred: vec![], left: vec![], canary: Some(share), notes: Default::default() }
}

fn arms(arms: &[(&str, u32)]) -> Option<SplitSpec> {
    let arms = arms.iter().map(|(name, share)| (version(name), percent(*share))).collect();
    Some(SplitSpec { arms, audience: Audience::default() })
}

fn try_table(agents: Vec<DesiredAgent>, previous: Option<&RoutingTable>) -> Result<RoutingTable, Vec<Rejection>> {
    let desired = Desired { config_hash: "hash".into(), agents };
    compile(&desired, previous, &StatsRegistry::new(2), previous.map_or(1, |table| table.epoch + 1))
}

fn table(agents: Vec<DesiredAgent>, previous: Option<&RoutingTable>) -> RoutingTable {
    try_table(agents, previous).unwrap_or_else(|rejections| panic!("{rejections:?}"))
}

fn rejections(agents: Vec<DesiredAgent>) -> Vec<String> {
    let rejections = try_table(agents, None).err().unwrap_or_default();
    rejections.iter().map(|r| format!("{}: {}: {}", r.agent, r.field, r.message)).collect()
}

/// What one agent's change is rejected with.
fn faults(change: impl FnOnce(&mut AgentSpec)) -> Vec<String> {
    rejections(vec![with(spec("bot"), change)])
}

fn live(table: &RoutingTable) -> Vec<(u32, u32, String)> {
    let agent = table.agents.first().expect("an agent");
    bucket_ranges(agent).into_iter().map(|r| (r.start, r.end, r.version.to_string())).collect()
}

fn owned(ranges: &[(u32, u32, &str)]) -> Vec<(u32, u32, String)> {
    ranges.iter().map(|(start, end, name)| (*start, *end, (*name).to_owned())).collect()
}

#[test]
fn a_plain_agent_is_all_stable() {
    let table = table(vec![with(spec("bot"), |_| {})], None);
    assert_eq!((table.epoch, &*table.config_hash), (1, "hash"));
    let agent = table.agent("production", "bot").expect("the agent");
    assert_eq!(agent.split, Split::all(agent.stable));
    assert_eq!(agent.versions.iter().map(|v| v.id.as_str()).collect::<Vec<_>>(), ["1.4.2", "1.5.0", "1.6.0"]);
    assert_eq!(agent.versions[0].header, "1.4.2");
    assert_eq!(agent.versions[0].endpoints[0].authority, "127.0.0.1:7001");
    assert_eq!(agent.versions[0].endpoints[0].id, agent.versions[1].endpoints[0].id, "one address, one pool");
    assert!(!agent.key_wants_json);
    assert!(table.agent("staging", "bot").is_none());
}

#[test]
fn agents_are_sorted_and_found() {
    let staging = with(spec("b"), |s| s.environment = EnvironmentId::new("staging"));
    let agents = ["c", "a", "b"].map(|id| with(spec(id), |_| {}));
    let table = table(agents.into_iter().chain([staging]).collect(), None);
    let names: Vec<_> = table.agents.iter().map(|a| format!("{}/{}", a.environment(), a.id())).collect();
    assert_eq!(names, ["production/a", "production/b", "production/c", "staging/b"]);
    for name in names {
        let (environment, agent) = name.split_once('/').expect("a pair");
        assert_eq!(table.agent(environment, agent).map(|a| a.id().as_str()), Some(agent));
    }
}

#[test]
fn a_canary_has_the_low_buckets_and_keeps_them_as_it_grows() {
    let mut previous = table(vec![with(spec("bot"), |_| {})], None);
    for (weight, edge) in [(1, 1_000), (5, 5_000), (25, 25_000)] {
        previous = table(vec![canary(spec("bot"), "1.5.0", weight)], Some(&previous));
        assert_eq!(live(&previous), owned(&[(0, edge - 1, "1.5.0"), (edge, 99_999, "1.4.2")]));
    }
    previous = table(vec![canary(spec("bot"), "1.5.0", 100)], Some(&previous));
    assert_eq!(live(&previous), owned(&[(0, 99_999, "1.5.0")]));
    let rolled_back = DesiredAgent { barred: vec![version("1.5.0")], ..canary(spec("bot"), "1.5.0", 25) };
    previous = table(vec![rolled_back], Some(&previous));
    assert_eq!(live(&previous), owned(&[(0, 99_999, "1.4.2")]), "a barred canary contributes nothing");
}

#[test]
fn a_split_moves_the_least_whatever_the_file_order_and_new_versions_do() {
    let first = table(vec![with(spec("bot"), |s| s.split = arms(&[("1.4.2", 60), ("1.5.0", 40)]))], None);
    assert_eq!(live(&first), owned(&[(0, 59_999, "1.4.2"), (60_000, 99_999, "1.5.0")]));
    // A new version sorts before all others, so every index changes; 1.6.0 takes its 10 % from 1.4.2.
    let change = |s: &mut AgentSpec| {
        s.versions.insert(version("1.0.0"), VersionSpec { endpoints: vec![] });
        s.split = arms(&[("1.6.0", 10), ("1.5.0", 40), ("1.4.2", 50)]);
    };
    let second = table(vec![with(spec("bot"), change)], Some(&first));
    assert_eq!(live(&second), owned(&[(0, 9_999, "1.6.0"), (10_000, 59_999, "1.4.2"), (60_000, 99_999, "1.5.0")]));
    // 1.5.0 is gone altogether.
    let change = |s: &mut AgentSpec| {
        s.versions.remove(&version("1.5.0"));
        s.split = arms(&[("1.6.0", 10), ("1.4.2", 90)]);
    };
    let third = table(vec![with(spec("bot"), change)], Some(&second));
    assert_eq!(live(&third), owned(&[(0, 9_999, "1.6.0"), (10_000, 99_999, "1.4.2")]));
}

#[test]
fn buckets_that_mean_something_else_are_laid_out_anew() {
    let with_split = |split, salt: &'static str, scheme| {
        let change = |s: &mut AgentSpec| {
            s.split = arms(split);
            s.bucketing.salt = salt.into();
            s.bucketing.scheme = scheme;
        };
        vec![with(spec("bot"), change)]
    };
    let (one, other) = ([("1.4.2", 60), ("1.5.0", 40)], [("1.5.0", 40), ("1.4.2", 60)]);
    let first = table(with_split(&one, "s", Scheme::Sha1), None);
    let kept = table(with_split(&other, "s", Scheme::Sha1), Some(&first));
    assert_eq!(live(&kept), live(&first), "another order alone moves nobody");
    let canonical = owned(&[(0, 39_999, "1.5.0"), (40_000, 99_999, "1.4.2")]);
    assert_eq!(live(&table(with_split(&other, "t", Scheme::Sha1), Some(&first))), canonical);
    assert_eq!(live(&table(with_split(&other, "s", Scheme::Md5), Some(&first))), canonical);
    assert_eq!(live(&table(with_split(&other, "s", Scheme::LaunchDarkly), Some(&first))), canonical);
}

#[test]
fn what_a_barred_version_had_goes_to_stable() {
    let barred = |split: &[(&str, u32)]| {
        let desired = with(spec("bot"), |s| s.split = arms(split));
        live(&table(vec![DesiredAgent { barred: vec![version("1.5.0"), version("9.9.9")], ..desired }], None))
    };
    assert_eq!(barred(&[("1.5.0", 100)]), owned(&[(0, 99_999, "1.4.2")]));
    assert_eq!(
        barred(&[("1.5.0", 30), ("1.6.0", 30), ("1.4.2", 40)]),
        owned(&[(0, 29_999, "1.6.0"), (30_000, 99_999, "1.4.2")])
    );
}

#[test]
fn rules_of_barred_versions_are_passed_over() {
    let rule = |name: &str| RuleSpec { segment: SegmentId::new("beta"), version: version(name) };
    let desired = with(spec("bot"), |s| s.rules = vec![rule("1.5.0"), rule("1.6.0")]);
    let table = table(vec![DesiredAgent { barred: vec![version("1.5.0")], ..desired }], None);
    let versions: Vec<_> = table.agents[0].rules.iter().map(|rule| rule.version).collect();
    assert_eq!(versions, [None, Some(2)]);
}

#[test]
fn a_deployment_of_stable_itself_leaves_all_to_stable() {
    assert_eq!(live(&table(vec![canary(spec("bot"), "1.4.2", 5)], None)), owned(&[(0, 99_999, "1.4.2")]));
}

#[test]
fn each_rejection_says_where_and_what_was_probably_meant() {
    let condition = |attribute: &str, test| Condition { attribute: attribute.parse().expect(attribute), test };
    let segment = |all| SegmentSpec { all, any: vec![] };
    let beta = || Audience { include: vec![SegmentId::new("bata")], exclude: vec![SegmentId::new("x")] };
    let all = faults(|s| {
        s.stable = version("1.4.3");
        s.bucketing.key = vec![];
        s.bucketing.seed = Some(7);
        s.routes[0].host = Some("Bot.example.com".into());
        s.rules = vec![RuleSpec { segment: SegmentId::new("bêta"), version: version("2.0.0") }];
        s.segments.insert(SegmentId::new("body"), segment(vec![condition("json:/user", Test::Exists(true))]));
        s.split = arms(&[("1.4.2", 50), ("1.5.O", 20), ("1.4.2", 10)]);
        s.split.as_mut().expect("a split").audience = beta();
    });
    assert_eq!(
        all,
        [
            "bot: bucketing.key: is empty: without a key every request gets stable; leave it out for the default sources",
            "bot: bucketing.seed: only scheme `launchdarkly` has a seed, and the scheme is `sha1`",
            "bot: match[0]: host `Bot.example.com`: expected a host name in lower case, without path and closing dot",
            "bot: rules[0].segment: no segment `bêta` is defined; did you mean `beta`?",
            "bot: rules[0].version: no version `2.0.0` is defined; expected one of 1.4.2, 1.5.0, 1.6.0",
            "bot: segments.body.all[0]: `json:/user` serves as a bucketing key only, not in a segment",
            "bot: split: the weights add up to 80%, expected 100%",
            "bot: split.1.4.2: is listed twice",
            "bot: split.1.5.O: no version `1.5.O` is defined; did you mean `1.5.0`?",
            "bot: stable: no version `1.4.3` is defined; did you mean `1.4.2`?",
        ]
    );
    let audience = faults(|s| {
        s.split = arms(&[("1.4.2", 100)]);
        s.split.as_mut().expect("a split").audience = beta();
    });
    assert_eq!(
        audience,
        [
            "bot: split.exclude[0]: no segment `x` is defined; expected one of beta",
            "bot: split.include[0]: no segment `bata` is defined; did you mean `beta`?",
        ]
    );
}

#[test]
fn a_deployment_is_checked_too() {
    let mut desired = canary(spec("bot"), "1.5.1", 5);
    assert_eq!(
        rejections(vec![desired.clone()]),
        ["bot: deployment.version: no version `1.5.1` is defined; did you mean `1.5.0`?"]
    );
    desired.canary.as_mut().expect("a canary").version = version("1.5.0");
    desired.canary.as_mut().expect("a canary").audience.include = vec![SegmentId::new("nobody")];
    assert_eq!(
        rejections(vec![desired]),
        ["bot: deployment.include[0]: no segment `nobody` is defined; expected one of beta"]
    );
    let mut with_split = spec("bot");
    with_split.split = arms(&[("1.4.2", 100)]);
    assert_eq!(
        rejections(vec![canary(with_split, "1.5.0", 5)]),
        ["bot: split: an agent has either a deployment or a standing split; remove one of the two"]
    );
    let barred = DesiredAgent { barred: vec![version("1.4.2")], ..with(spec("bot"), |_| {}) };
    assert_eq!(
        rejections(vec![barred]),
        ["bot: stable: version 1.4.2 was rolled back; it may not serve until it is retried"]
    );
}

#[test]
fn versions_and_endpoints_must_fit_into_headers() {
    let bad = EndpointAddress::Http { host: "a\nb".into(), port: 80 };
    let all = faults(|s| {
        s.versions.insert(version("1.\n"), VersionSpec { endpoints: vec![] });
        s.versions.insert(version("2.0.0"), VersionSpec { endpoints: vec![bad] });
    });
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains("versions.1.\n: cannot stand in a header"), "{all:?}");
    assert!(all[1].contains("versions.2.0.0.endpoints[0]: `http://a\nb:80` is no address"), "{all:?}");
}

#[test]
fn clashing_agents_are_both_named() {
    let everything = |id| with(spec(id), |s| s.routes.clear());
    assert_eq!(
        rejections(vec![everything("b"), everything("a")]),
        ["b: match: takes the same requests as match of agent a (production); \
          give this agent a `match` that tells them apart"]
    );
    let host = |id| with(spec(id), |s| s.routes[0].host = Some("one.example.com".into()));
    assert_eq!(
        rejections(vec![host("a"), host("b")]),
        ["b: match[0]: takes the same requests as match[0] of agent a (production)"]
    );
    let header = |id, name: &'static str| {
        let headers = vec![(http::HeaderName::from_static(name), "1".to_owned())];
        with(spec(id), |s| s.routes = vec![RouteSpec { headers, ..RouteSpec::default() }])
    };
    assert_eq!(
        rejections(vec![header("a", "x-a"), header("b", "x-b")]),
        ["b: match[0]: is as specific as match[0] of agent a (production), and one request can match both; \
          make one more specific, by host, path or one more header"]
    );
    let staging = with(spec("b"), |s| {
        s.routes.clear();
        s.environment = EnvironmentId::new("staging");
    });
    assert_eq!(rejections(vec![everything("a"), staging]), [""; 0], "environments are apart");
}

#[test]
fn a_name_defined_twice_is_one_rejection() {
    assert_eq!(
        rejections(vec![with(spec("a"), |_| {}), with(spec("a"), |_| {})]),
        ["a: agent: is defined twice in this environment"]
    );
}

#[test]
fn all_agents_faults_come_at_once() {
    let bad = |id| with(spec(id), |s| s.stable = version("9.9.9"));
    let agents: Vec<_> = rejections(vec![bad("c"), with(spec("b"), |_| {}), bad("a")]);
    assert_eq!(agents.iter().map(|r| &r[..1]).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn what_did_not_change_is_taken_over() {
    let agents: Vec<_> = ["a", "b", "c"].map(|id| with(spec(id), |_| {})).into();
    let first = table(agents.clone(), None);
    let mut changed = agents.clone();
    changed[1] = DesiredAgent { spec: agents[1].spec.clone(), ..canary(spec("b"), "1.5.0", 5) };
    // An equal spec in another `Arc` is as good, as after a reload.
    changed[2].spec = Arc::new(AgentSpec::clone(&changed[2].spec));
    let second = table(changed.clone(), Some(&first));
    let same = |a: &RoutingTable, b: &RoutingTable| -> Vec<bool> {
        a.agents.iter().zip(&b.agents).map(|(a, b)| Arc::ptr_eq(a, b)).collect()
    };
    assert_eq!(same(&first, &second), [true, false, true]);
    assert!(Arc::ptr_eq(&first.matcher, &second.matcher));
    assert_eq!((second.epoch, second.agents[1].split.weight(1)), (2, percent(5)));
    // Barring alone is a change; a changed route is one of the matcher too.
    changed[0].barred = vec![version("1.5.0")];
    changed[2] = with(spec("c"), |s| s.routes[0].path_prefix = Some("/v1".into()));
    let third = table(changed, Some(&second));
    assert_eq!(same(&second, &third), [false, true, false]);
    assert!(!Arc::ptr_eq(&second.matcher, &third.matcher));
    // So is what conversations leave.
    let left = vec![DesiredAgent { left: vec![version("1.5.0")], ..agents[1].clone() }];
    let before = table(vec![agents[1].clone()], None);
    assert_eq!(same(&before, &table(left, Some(&before))), [false]);
    // An agent that goes, and one that comes.
    let fourth = table(vec![agents[1].clone(), with(spec("d"), |_| {})], Some(&third));
    assert_eq!(fourth.agents.iter().map(|a| a.id().as_str()).collect::<Vec<_>>(), ["b", "d"]);
}

#[test]
fn counters_go_on_across_tables() {
    let registry = StatsRegistry::new(1);
    let desired = |weight| Desired { config_hash: "".into(), agents: vec![canary(spec("bot"), "1.5.0", weight)] };
    let first = compile(&desired(1), None, &registry, 1).expect("a table");
    let second = compile(&desired(5), Some(&first), &registry, 2).expect("a table");
    for (old, new) in first.agents[0].versions.iter().zip(&second.agents[0].versions) {
        assert!(Arc::ptr_eq(&old.stats, &new.stats));
    }
    assert!(Arc::ptr_eq(&first.agents[0].stats, &second.agents[0].stats));
}

#[test]
fn an_empty_table_is_a_table() {
    assert!(table(vec![], None).agents.is_empty());
}

/// What a process kept in its store, read by the next one.
fn kept(table: &RoutingTable) -> Layouts {
    let keep = |agent: &Arc<Agent>| {
        let text = serde_json::to_string(&Layout::of(agent)?).expect("is JSON");
        let layout = serde_json::from_str(&text).expect("is what was written");
        Some(((agent.environment().clone(), agent.id().clone()), layout))
    };
    table.agents.iter().filter_map(keep).collect()
}

fn restarted(agents: Vec<DesiredAgent>, layouts: &Layouts) -> RoutingTable {
    let desired = Desired { config_hash: "hash".into(), agents };
    compile_first(&desired, layouts, &StatsRegistry::new(1), 1).unwrap_or_else(|rejections| panic!("{rejections:?}"))
}

#[test]
fn a_layout_outlives_its_process() {
    let split = |shares: &[(&str, u32)]| vec![with(spec("bot"), |s| s.split = arms(shares))];
    let first = table(split(&[("1.4.2", 40), ("1.5.0", 30), ("1.6.0", 30)]), None);
    let evolved = table(split(&[("1.4.2", 10), ("1.5.0", 30), ("1.6.0", 60)]), Some(&first));
    let again = split(&[("1.4.2", 10), ("1.5.0", 30), ("1.6.0", 60)]);
    assert_ne!(live(&table(again.clone(), None)), live(&evolved), "a split that is laid out anew looks different");
    assert_eq!(live(&restarted(again.clone(), &kept(&evolved))), live(&evolved));

    // The file changed while nothing ran: the same buckets move as if something had.
    let next = split(&[("1.4.2", 20), ("1.5.0", 30), ("1.6.0", 50)]);
    assert_eq!(live(&restarted(next.clone(), &kept(&evolved))), live(&table(next, Some(&evolved))));

    // Under another salt the ranges mean nothing.
    let salted = vec![with((*again[0].spec).clone(), |s| s.bucketing.salt = "other".into())];
    assert_eq!(live(&restarted(salted.clone(), &kept(&evolved))), live(&table(salted, None)));
    assert!(kept(&table(vec![with(spec("bot"), |_| ())], None)).is_empty(), "one version needs no layout");
}

#[test]
fn ranges_that_are_no_layout_are_passed_over() {
    let agents = || vec![with(spec("bot"), |s| s.split = arms(&[("1.4.2", 50), ("1.5.0", 50)]))];
    let key = (EnvironmentId::new("production"), AgentId::new("bot"));
    for ranges in ["[]", r#"[[50000,"1.5.0"]]"#, r#"[[70000,"1.5.0"],[60000,"1.4.2"],[100000,"1.5.0"]]"#] {
        let text = format!(r#"{{"scheme":"sha1","salt":"s","ranges":{ranges}}}"#);
        let layouts = Layouts::from([(key.clone(), serde_json::from_str(&text).expect("the right shape"))]);
        assert_eq!(live(&restarted(agents(), &layouts)), live(&table(agents(), None)), "{ranges}");
    }
}

#[test]
fn connections_are_shared_only_by_agents_that_prove_themselves_alike() {
    let ids = |tls: EndpointTls, url: &str| {
        let address: EndpointAddress = url.parse().expect("an address");
        let desired = with(spec("bot"), |spec| {
            spec.versions.insert(version("1.4.2"), VersionSpec { endpoints: vec![address] });
            spec.exchange.tls = Arc::new(tls);
        });
        table(vec![desired], None).agents[0].versions[0].endpoints[0].id
    };
    let none = EndpointTls::default;
    let other = EndpointTls { server_name: Some("other".into()), ..none() };
    assert_eq!(ids(none(), "https://a:1"), ids(none(), "https://a:1"));
    assert_ne!(ids(none(), "https://a:1"), ids(other.clone(), "https://a:1"));
    assert_ne!(ids(none(), "https://a:1"), ids(none(), "http://a:1"));
    assert_eq!(ids(none(), "http://a:1"), ids(other, "http://a:1"));
}

#[test]
fn what_is_known_of_an_endpoint_goes_on_by_version_and_address() {
    let before = table(vec![with(spec("bot"), |_| {})], None);
    let after = table(
        vec![with(spec("bot"), |spec| {
            spec.bucketing.salt = "other".into();
            spec.versions.remove(&version("1.5.0"));
            let endpoints = &mut spec.versions.get_mut(&version("1.6.0")).expect("is there").endpoints;
            endpoints.insert(0, "http://127.0.0.1:7002".parse().expect("an address"));
        })],
        Some(&before),
    );
    let health = |table: &RoutingTable, version: usize, endpoint: usize| {
        let endpoints = &table.agents[0].versions[version].endpoints;
        Arc::as_ptr(&endpoints[endpoint].health)
    };
    assert_eq!(health(&after, 0, 0), health(&before, 0, 0), "the same version and address");
    assert_eq!(health(&after, 1, 1), health(&before, 2, 0), "wherever it stands");
    assert_ne!(health(&after, 0, 0), health(&after, 1, 1), "another version");
    assert_ne!(health(&after, 1, 0), health(&after, 1, 1), "another address");
}
