//! Circuit breakers and load shedding: who is refused, when, and what is seen of it.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, mpsc};

use crate::harness::{App, Endpoint, Message, Wire, eventually, ok, status};

/// Answers with a status that the test sets.
fn steered() -> (Endpoint, Arc<AtomicU16>) {
    let code = Arc::new(AtomicU16::new(200));
    let set = code.clone();
    (Endpoint::answering(move |_| status(set.load(Ordering::SeqCst))), code)
}

/// Holds each request until the test lets go of it.
fn held() -> (Endpoint, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let endpoint = Endpoint::answering(move |_| {
        let _ = released.lock().unwrap().recv();
        ok("held")
    });
    (endpoint, release)
}

fn refused(answer: &Message, code: &str) {
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (503, &code.into()), "{answer:?}");
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().unwrap() >= 1), "{answer:?}");
}

fn state(app: &App) -> String {
    let agent = app.admin_get("/api/v1/agents/bot").json();
    let breaker = &agent["versions"][0]["circuitBreaker"];
    let state = breaker["state"].as_str().unwrap().to_owned();
    let metric = format!("pointsman_circuit_breaker_state{{agent=\"bot\",version=\"1.0.0\",state=\"{state}\"}}");
    assert_eq!(app.metric(&metric), 1.0, "{agent}");
    state
}

#[test]
fn a_breaker_opens_lets_a_few_through_and_closes() {
    let (endpoint, code) = steered();
    let settings = "    ejection: off\n    retries: { attempts: 0 }\n    circuit_breaker: { consecutive_failures: 3, open_for: 200ms, half_open_requests: 2 }\n";
    let app = App::before_with(&endpoint, settings);
    let mut client = app.client();
    assert_eq!((client.get("/", "u").status(), state(&app).as_str()), (200, "closed"));

    code.store(500, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(client.get("/", "u").status(), 500);
    }
    refused(&client.get("/", "u"), "circuit_open");
    assert_eq!(state(&app), "open");
    // Let through to see, it still fails.
    eventually("one is let through", || client.get("/", "u").status() == 500);
    refused(&client.get("/", "u"), "circuit_open");
    assert!(app.metric("pointsman_circuit_breaker_opened_total") >= 2.0);

    code.store(200, Ordering::SeqCst);
    eventually("one is let through", || client.get("/", "u").status() == 200);
    assert_eq!(state(&app), "half_open");
    assert_eq!((client.get("/", "u").status(), state(&app).as_str()), (200, "closed"));

    // What was refused is the version's error, as are those that failed.
    assert!(app.outcomes("circuit_open") >= 2.0);
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"circuit_open\"}"), app.outcomes("circuit_open"));
}

#[test]
fn no_more_than_so_many_at_a_time_reach_a_version() {
    let (endpoint, release) = held();
    let app = App::before_with(&endpoint, "    circuit_breaker: { max_concurrent: 2 }\n");
    let mut waiting: Vec<_> = (0..2).map(|_| app.client()).collect();
    for client in &mut waiting {
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    }
    let concurrent = || {
        let agent = app.admin_get("/api/v1/agents/bot").json();
        agent["versions"][0]["circuitBreaker"]["concurrent"].as_u64().unwrap()
    };
    eventually("both are with the version", || concurrent() == 2);
    refused(&app.client().get("/", "u"), "circuit_open");
    // A client that leaves makes room.
    waiting.pop();
    eventually("its place is free", || concurrent() == 1);
    (0..2).for_each(|_| release.send(()).unwrap());
    assert_eq!(waiting[0].message().unwrap().text(), "held");
    eventually("all places are free", || concurrent() == 0);
    release.send(()).unwrap();
    assert_eq!(app.client().get("/", "u").text(), "held");
    assert_eq!(state(&app), "closed");
}

#[test]
fn no_more_than_so_many_wait_for_their_next_attempt() {
    let (endpoint, code) = steered();
    code.store(503, Ordering::SeqCst);
    let settings =
        "    retries: { attempts: 1, backoff: { base: 1m, max: 1m } }\n    circuit_breaker: { max_pending: 1 }\n";
    let app = App::before_with(&endpoint, settings);
    // Both connections to the endpoint are there before anybody waits.
    let pending = || {
        let agent = app.admin_get("/api/v1/agents/bot").json();
        agent["versions"][0]["circuitBreaker"]["pending"].as_u64().unwrap()
    };
    let mut first = app.client();
    first.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    eventually("one waits", || pending() == 1);
    refused(&app.client().get("/", "u"), "circuit_open");
    drop(first);
    eventually("nobody waits", || pending() == 0);
}

#[test]
fn a_grpc_client_is_told_in_grpc() {
    let (endpoint, code) = steered();
    code.store(500, Ordering::SeqCst);
    let settings = "    retries: { attempts: 0 }\n    circuit_breaker: { consecutive_failures: 1, open_for: 1h }\n";
    let app = App::before_with(&endpoint, settings);
    let mut client = app.client();
    assert_eq!(client.get("/", "u").status(), 500);
    let call = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";
    let answer = client.ask(call);
    assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("14")));
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds == "3600" || seconds == "3599"));
}

/// Three agents of the three priorities, by host, at one endpoint that holds their requests.
fn prioritised(endpoint: &Endpoint, limit: usize) -> App {
    let agents: String = ["low", "normal", "high"]
        .map(|name| {
            let url = endpoint.url();
            format!(
                "  {name}: {{ match: [{{ host: {name} }}], priority: {name}, versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n"
            )
        })
        .concat();
    let yaml = format!("load_shedding: {{ requests_in_flight: {limit} }}\nagents:\n{agents}");
    // One worker has the whole of it.
    let file = format!("{}{yaml}", crate::harness::PORTS.replace("workers: 2", "workers: 1"));
    let config = pointsman::config::Config::parse("t.yaml", &file, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    App::of(pointsman::app::start(config, None).unwrap())
}

#[test]
fn the_least_important_is_refused_first_and_the_most_important_never() {
    let (endpoint, release) = held();
    let app = prioritised(&endpoint, 10);
    let ask = |host: &str| {
        let mut client = app.client();
        client.write(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).unwrap();
        client
    };
    let in_flight = || app.metric("pointsman_requests_in_flight") as usize;
    let mut waiting: Vec<Wire> = Vec::new();
    let mut fill = |hosts: &[&str]| {
        for host in hosts {
            waiting.push(ask(host));
            eventually("it is with its agent", || in_flight() == waiting.len());
        }
    };
    // Low may have eight of ten.
    fill(&["low"; 8]);
    refused(&ask("low").message().unwrap(), "overloaded");
    fill(&["normal"; 2]);
    refused(&ask("normal").message().unwrap(), "overloaded");
    refused(&ask("low").message().unwrap(), "overloaded");
    fill(&["high"; 3]);
    let shed = |priority| app.metric(&format!("pointsman_load_shed_total{{priority=\"{priority}\"}}"));
    assert_eq!((shed("low"), shed("normal")), (2.0, 1.0));
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"overloaded\"}"), 3.0);
    assert_eq!(app.metric("pointsman_requests_total"), 0.0, "what is shed is no version's");
    (0..13).for_each(|_| release.send(()).unwrap());
    for client in &mut waiting {
        assert_eq!(client.message().unwrap().text(), "held");
    }
    release.send(()).unwrap();
    assert_eq!(ask("low").message().unwrap().text(), "held");
}

#[test]
fn what_is_shed_is_refused_before_its_body_is_sent() {
    let (endpoint, release) = held();
    let app = prioritised(&endpoint, 1);
    let mut first = app.client();
    first.write("GET / HTTP/1.1\r\nhost: normal\r\n\r\n").unwrap();
    eventually("it is with its agent", || app.metric("pointsman_requests_in_flight") == 1.0);
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: low\r\ncontent-length: 1000000\r\n\r\n").unwrap();
    refused(&client.message().unwrap(), "overloaded");
    release.send(()).unwrap();
    assert_eq!(first.message().unwrap().text(), "held");
}

#[test]
fn a_canary_whose_breaker_opened_is_judged_by_what_its_clients_got() {
    let (stable, canary) = (Endpoint::saying("fine"), Endpoint::answering(|_| status(500)));
    let app = App::with_agents(&format!(
        "  bot:
    versions: {{ 1.0.0: {{ endpoints: ['{}'] }}, 2.0.0: {{ endpoints: ['{}'] }} }}
    stable: 1.0.0
    circuit_breaker: {{ consecutive_failures: 2, open_for: 1h }}
    deployment:
      version: 2.0.0
      steps: [{{ weight: 50%, hold: 1h }}, {{ weight: 100% }}]
      guards: [{{ metric: error_rate, above: 20%, window: 1m, min_requests: 10 }}]
",
        stable.url(),
        canary.url()
    ));
    let mut client = app.client();
    let mut user = 0;
    eventually("it is rolled back", || {
        user += 1;
        client.get("/", &format!("user-{user}"));
        app.admin_get("/api/v1/agents/bot/deployment").json()["state"] == "rolled_back"
    });
    // Two that it failed itself would not have been enough.
    assert_eq!((app.outcomes("server_error"), app.outcomes("circuit_open") >= 8.0), (2.0, true));
}
