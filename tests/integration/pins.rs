//! Conversations keep their version, and signed overrides.

use std::sync::mpsc;
use std::time::Duration;

use pointsman::routing::overrides::Grant;
use pointsman::routing::pin;
use pointsman::routing::seal::KeyRing;

use crate::harness::{App, Endpoint, Message, PATIENCE, PORTS, eventually, ok, status};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// `bot` with 1.0.0 stable and 2.0.0; `settings` are more of the agent's, indented by four.
fn two_versions(stable: &Endpoint, canary: &Endpoint, settings: &str) -> String {
    format!(
        "pins:\n  keys: [{{ id: k1, secret: '{SECRET}' }}]\noverrides:\n  keys: [{{ id: k1, secret: '{SECRET}' }}]\nagents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n{settings}",
        stable.url(),
        canary.url()
    )
}

const BY_HEADER: &str = "    conversations: { id: ['header:x-conversation-id'] }\n";

fn split(canary: u32) -> String {
    format!("    split: {{ 2.0.0: {canary}%, 1.0.0: {}% }}\n", 100 - canary)
}

/// A request of a user, with more header lines.
fn ask(app: &App, user: &str, fields: &str) -> Message {
    app.client().ask(&format!("GET / HTTP/1.1\r\nhost: agent.test\r\nx-user-id: {user}\r\n{fields}\r\n"))
}

/// The version that conversation number `id` gets; each is another user's.
fn version(app: &App, id: usize) -> String {
    ask(app, &format!("user-{id}"), &format!("x-conversation-id: c-{id}\r\n")).version().to_owned()
}

fn events(app: &App, event: &str) -> f64 {
    app.metric(&format!("pointsman_pin_events_total{{event=\"{event}\"}}"))
}

fn tokens(app: &App, result: &str) -> f64 {
    app.metric(&format!("pointsman_pin_tokens_total{{result=\"{result}\"}}"))
}

fn overrides(app: &App, result: &str) -> f64 {
    app.metric(&format!("pointsman_overrides_total{{result=\"{result}\"}}"))
}

#[test]
fn a_conversation_stays_across_a_ramp_and_reloads() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    let write = |share: u32| {
        let agents = two_versions(&stable, &canary, &format!("{BY_HEADER}{}", split(share)));
        std::fs::write(&path, format!("{PORTS}{agents}")).unwrap();
    };
    write(10);
    let app = App::watching(&path);
    let began: Vec<_> = (0..100).map(|id| version(&app, id)).collect();
    assert!(began.iter().any(|v| v == "1.0.0") && began.iter().any(|v| v == "2.0.0"));
    for share in [50, 100] {
        let epoch = app.metric("pointsman_table_epoch");
        write(share);
        eventually("the new share is live", || app.metric("pointsman_table_epoch") > epoch);
        let now: Vec<_> = (0..100).map(|id| version(&app, id)).collect();
        assert_eq!(now, began, "at {share} %");
    }
    assert_eq!(version(&app, 1000), "2.0.0", "a new conversation gets the new version");
    assert_eq!(ask(&app, "user-0", "").version(), "2.0.0", "a request of no conversation is decided by itself");
    assert_eq!((app.metric("pointsman_pins"), events(&app, "made"), events(&app, "found")), (101.0, 101.0, 200.0));
}

#[test]
fn a_version_that_is_gone_has_no_figures_of_conversations() {
    let endpoint = Endpoint::saying("ok");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    let write = |version: &str| {
        std::fs::write(
            &path,
            format!("{PORTS}agents:\n  bot:\n    versions: {{ {version}: {{ endpoints: ['{}'] }} }}\n    stable: {version}\n{BY_HEADER}", endpoint.url()),
        )
        .unwrap();
    };
    write("1.0.0");
    let app = App::watching(&path);
    let has_figures = |version: &str| {
        let metrics = app.admin_get("/metrics");
        let mut lines = metrics.text().lines().filter(|line| line.starts_with("pointsman_conversations{"));
        lines.any(|line| line.contains(&format!("version=\"{version}\"")))
    };
    assert_eq!(version(&app, 1), "1.0.0");
    assert!(has_figures("1.0.0"));
    write("2.0.0");
    eventually("the other version has the conversation", || version(&app, 1) == "2.0.0");
    eventually("the figures are the other version's", || has_figures("2.0.0") && !has_figures("1.0.0"));
}

#[test]
fn a_rollback_takes_its_conversations_with_it() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::answering(|_| status(500)));
    let deployment = "    deployment:\n      version: 2.0.0\n      steps: [{ weight: 50%, hold: 1h }, { weight: 100% }]\n      guards: [{ metric: error_rate, above: 20%, window: 1m, min_requests: 10 }]\n";
    let app = App::with_yaml(&two_versions(&stable, &canary, &format!("{BY_HEADER}{deployment}")));
    let began: Vec<_> = (0..100).map(|id| version(&app, id)).collect();
    assert!(began.iter().any(|v| v == "2.0.0"));
    eventually("the guard trips", || app.admin_get("/api/v1/agents/bot/deployment").json()["state"] == "rolled_back");
    for id in 0..100 {
        assert_eq!(version(&app, id), "1.0.0");
    }
    assert_eq!(events(&app, "dropped"), began.iter().filter(|v| *v == "2.0.0").count() as f64);
}

/// The value of the cookie that the answer sets.
fn cookie(answer: &Message) -> Option<String> {
    let set = answer.all("set-cookie").into_iter().find_map(|cookie| cookie.strip_prefix("pin="))?;
    Some(set.split(';').next().unwrap().to_owned())
}

#[test]
fn a_token_is_good_at_another_instance_that_has_the_key() {
    let (stable, canary) = (Endpoint::echo(), Endpoint::echo());
    let settings = format!("    conversations: {{ token: {{ cookie: pin }}, ttl: 1h }}\n{}", split(100));
    let first = App::with_yaml(&two_versions(&stable, &canary, &settings));
    let answer = ask(&first, "u", "");
    let token = cookie(&answer).expect("a token");
    let whole = answer.all("set-cookie")[0];
    assert!(whole.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{whole}");

    let settings = format!("    conversations: {{ token: {{ cookie: pin }} }}\n{}", split(0));
    let second = App::with_yaml(&two_versions(&stable, &canary, &settings));
    assert_eq!(ask(&second, "u", "").version(), "1.0.0");
    let held = ask(&second, "u", &format!("cookie: a=1; pin={token}; b=2\r\n"));
    assert_eq!((held.version(), tokens(&second, "accepted")), ("2.0.0", 1.0));
    let seen = held.text();
    assert!(seen.contains("a=1; b=2") && !seen.contains("pin="), "{seen}");

    // The last character holds bits of the signature.
    let forged = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { "Q" } else { "A" });
    for bad in [forged.as_str(), "nonsense", ""] {
        let answer = ask(&second, "u", &format!("cookie: pin={bad}\r\n"));
        assert_eq!((answer.version(), cookie(&answer).is_some()), ("1.0.0", true), "{bad:?}");
    }
    assert_eq!((tokens(&second, "forged"), tokens(&second, "malformed")), (1.0, 2.0));
}

#[test]
fn a_header_token_is_given_once_and_never_reaches_the_agent() {
    let (stable, canary) = (Endpoint::echo(), Endpoint::echo());
    let settings = "    conversations: { token: { header: x-pin } }\n";
    let app = App::with_yaml(&two_versions(&stable, &canary, settings));
    let token = ask(&app, "u", "").header("x-pin").expect("a token").to_owned();
    let again = ask(&app, "u", &format!("x-pin: {token}\r\n"));
    assert_eq!((again.version(), again.header("x-pin")), ("1.0.0", None), "it is good for another while");
    assert!(!again.text().contains("x-pin"), "{}", again.text());
}

#[test]
fn a_session_that_the_agent_names_keeps_its_version() {
    let named = || {
        Endpoint::answering(|request| match request.header("mcp-session-id") {
            Some(_) => ok("known"),
            None => "HTTP/1.1 200 OK\r\nmcp-session-id: s-1\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        })
    };
    let (stable, canary) = (named(), named());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    let conversations =
        "    conversations: { id: ['header:mcp-session-id'], response_id: ['header:mcp-session-id'] }\n";
    let write = |share: u32| {
        let agents = two_versions(&stable, &canary, &format!("{conversations}{}", split(share)));
        std::fs::write(&path, format!("{PORTS}{agents}")).unwrap();
    };
    write(0);
    let app = App::watching(&path);
    assert_eq!(ask(&app, "u", "").header("mcp-session-id"), Some("s-1"));
    let epoch = app.metric("pointsman_table_epoch");
    write(100);
    eventually("all of the traffic moves", || app.metric("pointsman_table_epoch") > epoch);
    assert_eq!(ask(&app, "u", "mcp-session-id: s-2\r\n").version(), "2.0.0");
    assert_eq!(ask(&app, "u", "mcp-session-id: s-1\r\n").version(), "1.0.0");
}

#[test]
fn an_id_in_a_json_answer_or_in_the_first_event_is_pinned_as_it_passes() {
    let answering = |request: &Message| {
        let (kind, body) = match request.start.as_str() {
            start if start.contains("/stream") => {
                ("text/event-stream", "event: created\ndata: {\"id\": \"t-2\"}\n\ndata: [DONE]\n\n")
            }
            _ => ("application/json", "{\"object\": \"thread\", \"id\": \"t-1\"}"),
        };
        let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
        let (head, tail) = body.split_at(body.len() / 2);
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
            chunk(head),
            chunk(tail)
        )
    };
    let (stable, canary) = (Endpoint::answering(answering), Endpoint::answering(answering));
    let settings = "    conversations: { id: ['json:/thread_id'], response_id: ['json:/id'] }\n    segments: { beta: { all: [{ attribute: 'header:x-beta', op: exists }] } }\n    rules: [{ segment: beta, version: 2.0.0 }]\n";
    let app = App::with_yaml(&two_versions(&stable, &canary, settings));
    let post = |path: &str, json: &str, fields: &str| {
        app.client().ask(&format!(
            "POST {path} HTTP/1.1\r\nhost: agent.test\r\ncontent-type: application/json\r\n{fields}content-length: {}\r\n\r\n{json}",
            json.len()
        ))
    };
    for (path, id) in [("/", "t-1"), ("/stream", "t-2")] {
        assert_eq!(post(path, "{}", "x-beta: yes\r\n").version(), "2.0.0");
        eventually("the conversation is pinned", || {
            post("/", &format!("{{\"thread_id\": \"{id}\"}}"), "").version() == "2.0.0"
        });
    }
    // The pin comes before the rule.
    assert_eq!(post("/", "{\"thread_id\": \"t-3\"}", "").version(), "1.0.0");
    assert_eq!(post("/", "{\"thread_id\": \"t-3\"}", "x-beta: yes\r\n").version(), "1.0.0");
    let long = format!("{{\"thread_id\": \"{}\"}}", "x".repeat(300));
    assert_eq!(post("/", &long, "").version(), "1.0.0");
    assert_eq!(app.metric("pointsman_conversation_ids_missed_total{reason=\"too_long\"}"), 1.0);
}

#[test]
fn under_upgrade_at_turn_a_response_in_flight_holds_and_the_next_turn_moves() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let stable = Endpoint::start(move |mut wire| {
        let Some(request) = wire.message() else { return };
        if request.start.contains("/slow") {
            wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
            let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
            wire.write("0\r\n\r\n").unwrap();
        } else {
            wire.write(ok("old")).unwrap();
        }
    });
    let canary = Endpoint::saying("new");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    let conversations = "    conversations: { id: ['header:x-conversation-id'], policy: upgrade_at_turn, grace: 0s }\n";
    let write = |share: u32| {
        let agents = two_versions(&stable, &canary, &format!("{conversations}{}", split(share)));
        std::fs::write(&path, format!("{PORTS}{agents}")).unwrap();
    };
    write(0);
    let app = App::watching(&path);
    let mut slow = app.client();
    slow.write("GET /slow HTTP/1.1\r\nhost: agent.test\r\nx-conversation-id: c-1\r\n\r\n").unwrap();
    assert_eq!(slow.head().unwrap().version(), "1.0.0");
    write(100);
    eventually("all of the traffic moves", || ask(&app, "other", "").version() == "2.0.0");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(version(&app, 1), "1.0.0", "its response is in flight");
    go.send(()).unwrap();
    assert_eq!(slow.chunk().unwrap().unwrap(), b"one");
    assert_eq!(slow.chunk(), Some(None));
    eventually("the next turn moves", || version(&app, 1) == "2.0.0");
}

#[test]
fn keys_rotate_with_the_file() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    let write = |keys: &[&str], share: u32| {
        let listed: Vec<_> = keys.iter().map(|id| format!("{{ id: {id}, secret: '{SECRET}{id}' }}")).collect();
        let settings = format!("    conversations: {{ token: {{ header: x-pin }} }}\n{}", split(share));
        let yaml = two_versions(&stable, &canary, &settings);
        let (_, rest) = yaml.split_once("overrides:").unwrap();
        let keys = listed.join(", ");
        std::fs::write(&path, format!("{PORTS}pins:\n  keys: [{keys}]\noverrides:{rest}")).unwrap();
    };
    write(&["k1"], 100);
    let app = App::watching(&path);
    let reloads = || app.metric("pointsman_config_reloads_total{result=\"success\"}");
    let next = |keys: &[&str]| {
        let before = reloads();
        write(keys, 0);
        eventually("the new file is live", || reloads() > before);
    };
    let old = ask(&app, "u", "").header("x-pin").expect("a token").to_owned();
    next(&["k2", "k1"]);
    assert_eq!(ask(&app, "u", &format!("x-pin: {old}\r\n")).version(), "2.0.0", "the old key still verifies");
    let new = ask(&app, "u", "").header("x-pin").expect("a token").to_owned();
    next(&["k2"]);
    assert_eq!(ask(&app, "u", &format!("x-pin: {old}\r\n")).version(), "1.0.0");
    assert_eq!(tokens(&app, "unknown_key"), 1.0);
    assert_eq!(ask(&app, "u", &format!("x-pin: {new}\r\n")).header("x-pin"), None, "the new one signed it");
}

fn signature(agent: &str, version: &str, ends_in: i64) -> String {
    let keys = KeyRing::new([("k1", SECRET)]).unwrap();
    let expires = i64::from(pin::second(std::time::SystemTime::now())) + ends_in;
    let expires = u32::try_from(expires).unwrap();
    Grant { environment: "production", agent, version, expires }.sign(&keys).unwrap()
}

#[test]
fn an_override_is_honoured_when_it_is_signed_and_never_reaches_the_agent() {
    let (stable, canary) = (Endpoint::echo(), Endpoint::echo());
    let app = App::with_yaml(&two_versions(&stable, &canary, BY_HEADER));
    let good = signature("bot", "2.0.0", 60);
    let with = |version: &str, signature: &str| {
        ask(
            &app,
            "u",
            &format!(
                "x-conversation-id: c-1\r\nx-pointsman-version: {version}\r\nx-pointsman-signature: {signature}\r\n"
            ),
        )
    };
    let sent = with("2.0.0", &good);
    assert_eq!(sent.version(), "2.0.0", "without any weight");
    assert!(!sent.text().contains("x-pointsman"), "{}", sent.text());
    assert_eq!(app.metric("pointsman_pins"), 0.0, "it makes no pin");
    let session = ask(&app, "u", &format!("cookie: a=1; pointsman-override={good}\r\n"));
    assert_eq!(session.version(), "2.0.0");
    assert!(session.text().contains("cookie: a=1\n"), "{}", session.text());
    assert_eq!(overrides(&app, "accepted"), 2.0);

    let forged = format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { "Q" } else { "A" });
    let bad = [
        ("forged", "2.0.0", forged),
        ("malformed", "2.0.0", "x".to_owned()),
        ("expired", "2.0.0", signature("bot", "2.0.0", -1)),
        ("foreign", "2.0.0", signature("other", "2.0.0", 60)),
        ("other_version", "1.0.0", good.clone()),
        ("unknown_version", "3.0.0", signature("*", "3.0.0", 60)),
    ];
    for (result, version, signature) in &bad {
        let answer = with(version, signature);
        assert_eq!((answer.status(), answer.version()), (200, "1.0.0"), "{result}");
        assert_eq!(overrides(&app, result), 1.0, "{result}");
    }
    assert_eq!(ask(&app, "u", "x-pointsman-version: 2.0.0\r\n").version(), "1.0.0");
    assert_eq!(overrides(&app, "unsigned"), 1.0);
    assert_eq!(with("2.0.0", &signature("*", "2.0.0", 60)).version(), "2.0.0");
}

#[test]
fn an_override_reaches_the_agent_where_that_is_wanted_and_its_signature_never() {
    let (stable, canary) = (Endpoint::echo(), Endpoint::echo());
    let yaml = two_versions(&stable, &canary, "").replace("overrides:\n", "overrides:\n  forward: true\n");
    let app = App::with_yaml(&yaml);
    let good = signature("bot", "2.0.0", 60);
    let sent = ask(&app, "u", &format!("x-pointsman-version: 2.0.0\r\nx-pointsman-signature: {good}\r\n"));
    assert!(sent.text().contains("x-pointsman-version: 2.0.0\n"), "{}", sent.text());
    assert!(!sent.text().contains(&good), "{}", sent.text());
    let ignored = ask(&app, "u", "x-pointsman-version: 2.0.0\r\n");
    assert!(!ignored.text().contains("x-pointsman-version"), "{}", ignored.text());
}

#[test]
fn the_explanation_knows_pins_and_overrides() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let app = App::with_yaml(&two_versions(&stable, &canary, &format!("{BY_HEADER}{}", split(50))));
    let id = (0..).find(|id| version(&app, *id) == "2.0.0").unwrap();
    let explain = |fields: &str| app.admin_get(&format!("/api/v1/agents/bot/explain?{fields}")).json();
    let pinned = explain(&format!("header=x-conversation-id:c-{id}"));
    assert_eq!((&pinned["version"], &pinned["reason"]), (&"2.0.0".into(), &"pin".into()), "{pinned}");
    let good = signature("bot", "1.0.0", 60);
    let sent = explain(&format!(
        "header=x-conversation-id:c-{id}&header=x-pointsman-version:1.0.0&header=x-pointsman-signature:{good}"
    ));
    assert_eq!((&sent["version"], &sent["reason"]), (&"1.0.0".into(), &"override".into()), "{sent}");
    let unsigned = explain("key=u&header=x-pointsman-version:1.0.0");
    assert!(unsigned["standing"][0].as_str().unwrap().contains("ignored"), "{unsigned}");
}
