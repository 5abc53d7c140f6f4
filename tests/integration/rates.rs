//! Rate limits through the proxy. Rates here are of one a minute, so that what is let in is the burst and nothing else.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::harness::{App, Endpoint, Message, PORTS, Wire, eventually, ok};
use crate::http2::client::{Http2, client, get};
use crate::upstream_http2::endpoint::{Endpoint2, response};

const PER_USER: &str =
    "    rate_limits: [{ name: a, key: [header:x-user-id], requests_per_minute: 1, request_burst: 5 }]\n";

fn let_in(app: &App, user: &str, tries: usize) -> usize {
    let mut client = app.client();
    (0..tries).filter(|_| client.get("/", user).status() == 200).count()
}

#[test]
fn exactly_the_burst_passes_however_many_ask_at_once() {
    const HTTP1: usize = 12;
    let endpoint = Endpoint::saying("x");
    let limit = "    rate_limits: [{ name: all, requests_per_minute: 1, request_burst: 300 }]\n";
    let app = App::before_with(&endpoint, limit);
    let (passed, start) = (AtomicUsize::new(0), Instant::now());
    let count = |status: u16| match status {
        200 => {
            passed.fetch_add(1, Ordering::SeqCst);
        }
        429 => {}
        other => panic!("{other}"),
    };
    std::thread::scope(|scope| {
        for _ in 0..HTTP1 {
            scope.spawn(|| {
                let mut wire = app.client();
                (0..50).for_each(|_| count(wire.get("/", "u").status()));
            });
        }
        scope.spawn(|| {
            client(async {
                let mut http2 = Http2::connect(app.proxy).await;
                for _ in 0..10 {
                    let mut asked = Vec::new();
                    for _ in 0..20 {
                        asked.push(http2.begin(get("/"), true).await.0);
                    }
                    for response in asked {
                        count(response.await.unwrap().status().as_u16());
                    }
                }
            });
        });
    });
    let passed = passed.load(Ordering::SeqCst);
    // One more has come back for each whole minute, should the machine be that slow.
    assert_eq!(passed.clamp(300, 300 + start.elapsed().as_secs() as usize / 60), passed);
    let refused = (HTTP1 * 50 + 200 - passed) as f64;
    let limited = r#"pointsman_rate_limited_total{environment="production",agent="bot",limit="all",kind="requests"}"#;
    assert_eq!(app.metric(limited), refused);
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"rate_limited\"}"), refused);
    // No version hears of what is refused.
    eventually("those that passed are counted", || app.metric("pointsman_requests_total") == passed as f64);
}

#[test]
fn a_refusal_says_when_to_come_back_and_answers_say_what_is_left() {
    let endpoint = Endpoint::saying("x");
    let app = App::before_with(&endpoint, PER_USER);
    let mut client = app.client();
    let first = client.get("/", "ann");
    assert_eq!(first.header("ratelimit-policy"), Some(r#""a";q=5;w=300"#));
    assert_eq!(first.header("ratelimit"), Some(r#""a";r=4;t=60"#));
    assert!((0..4).all(|_| client.get("/", "ann").status() == 200));
    let refused = client.get("/", "ann");
    assert_eq!((refused.status(), refused.json()["error"]["code"].as_str().unwrap()), (429, "rate_limited"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{refused:?}");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""a";q=5;w=300"#));
    assert_eq!(refused.header("ratelimit").unwrap(), format!(r#""a";r=0;t={wait}"#));
    // The connection goes on, and so do other callers.
    assert_eq!(client.get("/", "bob").status(), 200);
}

#[test]
fn a_limit_can_keep_to_itself() {
    let endpoint = Endpoint::saying("x");
    let limit = "    rate_limits: [{ name: a, requests_per_minute: 1, request_burst: 1, fields: false }]\n";
    let app = App::before_with(&endpoint, limit);
    let mut client = app.client();
    for status in [200, 429] {
        let answer = client.get("/", "u");
        assert_eq!(answer.status(), status);
        assert!(answer.header("ratelimit").is_none() && answer.header("ratelimit-policy").is_none(), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 429);
    }
}

#[test]
fn a_grpc_client_gets_a_status_of_its_own() {
    let endpoint = Endpoint2::start(|mut call| async move {
        call.body().await;
        let head = response(&[("content-type", "application/grpc"), ("grpc-status", "0")]);
        call.respond.send_response(head, true).unwrap();
    });
    let app = endpoint.app("    rate_limits: [{ name: a, requests_per_minute: 1, request_burst: 1 }]\n");
    let call = || {
        let head = "POST /pkg.Service/Method HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-type: application/grpc\r\n";
        app.client().ask(&format!("{head}content-length: 5\r\n\r\n\0\0\0\0\0"))
    };
    assert_eq!(call().header("ratelimit"), Some(r#""a";r=0;t=60"#));
    let refused = call();
    assert_eq!((refused.status(), refused.header("grpc-status")), (200, Some("8")));
    assert!(refused.header("retry-after").is_some());
}

fn with_usage(prompt: u64, completion: u64) -> String {
    let text = format!(
        "data: {{\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a\"}}}}]}}\n\n\
         data: {{\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\
         \"completion_tokens\":{completion}}}}}\n\ndata: [DONE]\n\n"
    );
    let length = text.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n{text}")
}

const TOKENS: &str = "    rate_limits: [{ name: t, key: [header:x-user-id], tokens_per_minute: 1, token_burst: 1000, \
                      token_estimate: 100 }]\n";

fn left(answer: &Message) -> &str {
    answer.header("ratelimit").unwrap().split(';').nth(1).unwrap()
}

#[test]
fn tokens_are_charged_as_the_answer_tells_them() {
    let endpoint = Endpoint::answering(|_| with_usage(200, 150));
    let app = App::before_with(&endpoint, TOKENS);
    let mut client = app.client();
    let first = client.get("/", "ann");
    assert_eq!(first.header("ratelimit-policy"), Some(r#""t.tokens";q=1000;qu="tokens";w=60000"#));
    assert_eq!(left(&first), "r=900", "reserved is what was guessed");
    // On the same connection the first exchange is over when its answer is.
    assert_eq!(left(&client.get("/", "ann")), "r=300", "350 used, 350 reserved: that is what they cost");
    let refused = client.get("/", "ann");
    assert_eq!(refused.status(), 429);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("1 tokens a minute"), "{refused:?}");
    assert_eq!(left(&client.get("/", "bob")), "r=900");
}

#[test]
fn an_agent_that_fails_costs_no_tokens() {
    let endpoint = Endpoint::answering(|_| crate::harness::status(500));
    let app = App::before_with(&endpoint, TOKENS);
    let mut client = app.client();
    let mut all = (0..20).map(|_| client.get("/", "ann"));
    assert!(all.all(|answer| answer.status() == 500 && left(&answer) == "r=900"));
}

/// An endpoint that sends a head and some of its body, and then waits to be told how to end, or for its client to go.
fn held() -> (Endpoint, mpsc::Sender<bool>) {
    let (go, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let endpoint = Endpoint::start(move |mut wire| {
        while wire.message().is_some() {
            wire.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").unwrap();
            match wait.lock().unwrap().recv_timeout(crate::harness::PATIENCE) {
                Ok(true) => wire.write("ha").unwrap(),
                _ => return,
            }
        }
    });
    (endpoint, go)
}

#[test]
fn places_are_free_again_after_every_ending() {
    let (endpoint, go) = held();
    let limit = "    rate_limits: [{ name: c, key: [header:x-user-id], concurrent: 1 }]\n";
    let app = App::before_with(&endpoint, limit);
    let begin = || {
        let mut wire = app.client();
        wire.write("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n\r\n").unwrap();
        let status = wire.head().unwrap().status();
        (status == 200).then_some(wire)
    };
    let free = |what: &str| {
        let mut held = None;
        eventually(what, || {
            held = begin();
            held.is_some()
        });
        assert!(begin().is_none(), "a second one, {what}");
        held.unwrap()
    };
    let one = free("at first");
    let refused = app.client().get("/", "u");
    assert_eq!((refused.status(), refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.header("ratelimit"), Some(r#""c.concurrent";r=0"#));
    drop(one);
    let two = free("after the client left");
    go.send(false).unwrap();
    go.send(false).unwrap();
    let mut three = free("after the agent broke off");
    drop(two);
    go.send(true).unwrap();
    let mut body = [0; 4];
    three.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"haha");
    free("after the end");
}

#[test]
fn a_stream_that_is_reset_gives_its_place_back() {
    let (endpoint, _go) = held();
    let app = App::before_with(&endpoint, "    rate_limits: [{ name: c, concurrent: 1 }]\n");
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for _ in 0..5 {
            loop {
                let (response, mut stream) = http2.begin(get("/"), true).await;
                let status = response.await.unwrap().status();
                stream.send_reset(h2::Reason::CANCEL);
                if status == 200 {
                    break;
                }
                // The proxy has yet to see the reset before this one.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
}

fn file(endpoint: &Endpoint, burst: usize, version: &str) -> String {
    format!(
        "{PORTS}rate_limits: [{{ name: all, key: [header:x-user-id], requests_per_minute: 1, request_burst: {burst} }}]\n\
         agents:\n  bot: {{ versions: {{ {version}: {{ endpoints: ['{}'] }} }}, stable: {version} }}\n",
        endpoint.url()
    )
}

#[test]
fn a_reload_forgets_nothing_and_a_new_rate_holds_for_those_that_were_there() {
    let endpoint = Endpoint::saying("x");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pointsman.yaml");
    let others = AtomicUsize::new(0);
    let reload = |app: &App, text: &str, version: &str| {
        std::fs::write(&path, text).unwrap();
        // Each time another caller, who has not yet used up what is theirs.
        let other = || format!("other-{}", others.fetch_add(1, Ordering::SeqCst));
        eventually("it is reloaded", || app.client().get("/", &other()).version() == version);
    };
    std::fs::write(&path, file(&endpoint, 3, "1.0.0")).unwrap();
    let app = App::watching(&path);
    assert_eq!(let_in(&app, "ann", 9), 3);
    reload(&app, &file(&endpoint, 3, "1.0.1"), "1.0.1");
    assert_eq!(let_in(&app, "ann", 9), 0);
    reload(&app, &file(&endpoint, 5, "1.0.2"), "1.0.2");
    assert_eq!(let_in(&app, "ann", 9), 2);
}

#[test]
fn a_flood_of_keys_is_bounded_and_leaves_others_alone() {
    let endpoint = Endpoint::saying("x");
    let limit = "    rate_limits: [{ name: a, key: [header:x-user-id], requests_per_minute: 1, request_burst: 5, max_keys: 50 }]\n";
    let app = App::before_with(&endpoint, limit);
    assert_eq!(let_in(&app, "ann", 2), 2);
    let mut client = app.client();
    let flood = (0..500).filter(|n| client.get("/", &format!("flood-{n}")).status() == 200).count();
    assert_eq!(flood, 49 + 5, "those that had room, and what all others share");
    assert_eq!(let_in(&app, "ann", 9), 3);
    assert_eq!(app.metric("pointsman_rate_limit_keys"), 50.0);
    assert_eq!(app.metric("pointsman_rate_limit_overflow_total"), 451.0);
}

#[test]
fn limits_of_the_environment_and_of_the_agent_hold_together() {
    let endpoint = Endpoint::saying("x");
    let url = endpoint.url();
    let app = App::with_yaml(&format!(
        "rate_limits: [{{ name: all, requests_per_minute: 1, request_burst: 8 }}]\nagents:\n  \
         one:\n    match: [{{ path_prefix: /one }}]\n    versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}\n    stable: 1.0.0\n    \
         rate_limits: [{{ name: own, requests_per_minute: 1, request_burst: 5 }}]\n  \
         two: {{ versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n"
    ));
    let mut client = app.client();
    let mut ask = |path: &str| (0..20).filter(|_| client.get(path, "u").status() == 200).count();
    assert_eq!([ask("/one"), ask("/two"), ask("/one")], [5, 3, 0]);
    assert_eq!(app.metric("pointsman_rate_limited_total{agent=\"one\",limit=\"own\"}"), 35.0);
    assert_eq!(app.metric("pointsman_rate_limited_total{agent=\"_all\",limit=\"all\"}"), 17.0);
    let limits = &app.admin_get("/api/v1/agents/one").json()["rateLimits"];
    let shown = [0, 1].map(|n| {
        (limits[n]["name"].as_str(), limits[n]["ofEnvironment"].as_bool(), limits[n]["requestBurst"].as_u64())
    });
    assert_eq!(shown, [(Some("own"), Some(false), Some(5)), (Some("all"), Some(true), Some(8))]);
}

#[test]
fn a_body_that_comes_with_a_refused_request_is_no_next_request() {
    let endpoint = Endpoint::answering(|request| ok(&request.start));
    let app = App::before_with(&endpoint, PER_USER);
    let mut client = app.client();
    let post =
        "POST / HTTP/1.1\r\nhost: a\r\nx-user-id: ann\r\ncontent-length: 31\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a";
    for _ in 0..5 {
        assert_eq!(client.ask(post).text(), "POST / HTTP/1.1");
    }
    assert_eq!(client.ask(post).status(), 429);
    let mut next = Wire::connect(app.proxy);
    assert_eq!(next.get("/", "bob").text(), "GET / HTTP/1.1");
    eventually("those that passed are counted", || app.metric("pointsman_requests_total") == 6.0);
}
