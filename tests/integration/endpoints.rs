//! Endpoints that fail: taken out of service, kept where too few are left, tried again, and back.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{App, Endpoint, PORTS, Wire, eventually, ok, status, unused_address};

/// What is out stays out: nothing here waits for time to pass.
const FOR_GOOD: &str = "consecutive_failures: 2, base_time: 1h, max_time: 1h";
/// Long for a good endpoint on a busy machine, short for a test.
const TIMEOUTS: &str = "    timeouts: { connect: 1s, response: 2s }\n";

fn agent(endpoints: &[String], settings: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("'{endpoint}'")).collect();
    let endpoints = endpoints.join(", ");
    format!("  bot:\n    versions:\n      1.0.0: {{ endpoints: [{endpoints}] }}\n    stable: 1.0.0\n{settings}")
}

fn in_state(app: &App, state: &str) -> f64 {
    app.metric(&format!("pointsman_endpoints{{state=\"{state}\"}}"))
}

/// What the API says of an endpoint.
fn shown(app: &App, endpoint: &str) -> Value {
    let agent = app.admin_get("/api/v1/agents/bot").json();
    let states = agent["versions"][0]["endpointStates"].as_array().unwrap().clone();
    states.into_iter().find(|state| state["endpoint"] == endpoint).unwrap_or_else(|| panic!("{agent}"))
}

/// Sends side by side, each over a connection of its own; how many were answered with a whole 200.
fn send(app: &App, number: usize) -> usize {
    let proxy = app.proxy;
    let ask = move |user| {
        let mut client = Wire::connect(proxy);
        client.write(format!("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: user-{user}\r\n\r\n")).unwrap();
        client.message().is_some_and(|answer| answer.status() == 200)
    };
    let asking: Vec<_> = (0..number).map(|user| std::thread::spawn(move || ask(user))).collect();
    asking.into_iter().map(|asked| usize::from(asked.join().unwrap())).sum()
}

/// An endpoint that fails while it is told to; counts what it was asked.
struct Switched {
    endpoint: Endpoint,
    fails: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Switched {
    /// `answer` is for all requests while it fails; empty: it closes the connection.
    fn failing(answer: &'static str) -> Self {
        let (fails, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (switch, counter) = (fails.clone(), asked.clone());
        let endpoint = Endpoint::start(move |mut wire| {
            while wire.message().is_some() {
                counter.fetch_add(1, Ordering::SeqCst);
                let fails = switch.load(Ordering::SeqCst);
                let answer = if fails { answer.to_owned() } else { ok("good") };
                if answer.is_empty() || wire.write(answer).is_err() {
                    return;
                }
            }
        });
        Self { endpoint, fails, asked }
    }

    fn url(&self) -> String {
        self.endpoint.url()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Of three endpoints, `bad` is one: once it is ejected no client sees an error, and it gets nothing.
fn is_routed_around(what: &str, bad: &str, reason: &str) {
    let good = [Endpoint::saying("a"), Endpoint::saying("b")];
    let endpoints = [good[0].url(), bad.to_owned(), good[1].url()];
    let app = App::with_agents(&agent(&endpoints, &format!("{TIMEOUTS}    ejection: {{ {FOR_GOOD} }}\n")));
    assert_eq!((in_state(&app, "in_service"), in_state(&app, "ejected")), (3.0, 0.0));
    eventually(&format!("the {what} endpoint is ejected"), || {
        send(&app, 8);
        in_state(&app, "ejected") == 1.0
    });
    let state = shown(&app, bad);
    assert_eq!((&state["state"], &state["reason"]), (&"ejected".into(), &reason.into()), "{what}: {state}");
    assert_eq!(app.metric(&format!("pointsman_endpoint_ejections_total{{reason=\"{reason}\"}}")), 1.0, "{what}");
    let mut client = app.client();
    for user in 0..100 {
        assert_eq!(client.get("/", &format!("user-{user}")).status(), 200, "{what}");
    }
    assert_eq!(send(&app, 50), 50, "{what}");
    assert!(good.iter().all(|endpoint| endpoint.connections() > 0), "{what}: both others serve");
}

#[test]
fn a_stopped_endpoint_is_routed_around() {
    is_routed_around("stopped", &format!("http://{}", unused_address()), "connect_failed");
}

#[test]
fn an_endpoint_that_accepts_and_never_answers_is_routed_around() {
    let silent = Endpoint::start(|mut wire| while wire.message().is_some() {});
    is_routed_around("silent", &silent.url(), "response_timeout");
}

#[test]
fn an_endpoint_whose_backlog_is_full_is_routed_around() {
    let (listener, _waiting) = full_backlog();
    let address = listener.local_addr().unwrap();
    is_routed_around("full", &format!("http://{address}"), "connect_timeout");
}

/// A listener that nobody accepts from, with as many connections before it as it takes.
fn full_backlog() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        waiting.push(stream);
        assert!(waiting.len() < 1_000, "the backlog is never full");
    }
    (listener, waiting)
}

#[test]
fn an_endpoint_that_resets_is_routed_around() {
    // What is closed with something unread in it is reset.
    let resetting = Endpoint::start(|wire| {
        let _ = wire.stream.peek(&mut [0]);
    });
    is_routed_around("resetting", &resetting.url(), "reset");
}

#[test]
fn an_endpoint_that_sends_garbage_is_routed_around() {
    let noise = Endpoint::answering(|_| "SSH-2.0-OpenSSH_9.2\r\n\r\n".into());
    is_routed_around("noisy", &noise.url(), "bad_response");
}

#[test]
fn an_endpoint_that_answers_503_is_routed_around() {
    let overloaded = Endpoint::answering(|_| status(503));
    is_routed_around("overloaded", &overloaded.url(), "status");
}

#[test]
fn an_endpoint_whose_answers_break_off_is_routed_around() {
    let torn = Endpoint::start(|mut wire| {
        if wire.message().is_some() {
            let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it");
        }
    });
    is_routed_around("torn", &torn.url(), "truncated");
}

/// Once it is ejected, a bad one of three costs no idempotent request its answer, however often it is probed.
fn costs_nothing(what: &str, bad: &str) {
    let good = [Endpoint::saying("a"), Endpoint::saying("b")];
    let ejection = "    ejection: { consecutive_failures: 2, base_time: 100ms, max_time: 100ms }\n";
    let settings = format!("    timeouts: {{ connect: 1s }}\n    retries: {{ per_try_timeout: 2s }}\n{ejection}");
    let app = App::with_agents(&agent(&[good[0].url(), bad.to_owned(), good[1].url()], &settings));
    eventually(&format!("the {what} endpoint is ejected"), || {
        send(&app, 8);
        in_state(&app, "ejected") == 1.0
    });
    eventually(&format!("the {what} endpoint is probed"), || {
        assert_eq!(send(&app, 8), 8, "{what}");
        app.metric("pointsman_endpoint_ejections_total") >= 3.0
    });
}

#[test]
fn after_the_first_ejection_probes_that_fail_are_seen_by_no_client() {
    costs_nothing("stopped", &format!("http://{}", unused_address()));
    for (what, answer) in [
        ("resetting", ""),
        ("noisy", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("overloaded", "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let bad = Switched::failing(answer);
        costs_nothing(what, &bad.url());
    }
    let silent = Endpoint::start(|mut wire| while wire.message().is_some() {});
    costs_nothing("silent", &silent.url());
}

#[test]
fn no_more_than_max_ejected_are_out_and_the_others_are_kept() {
    let dead = [0, 1].map(|_| format!("http://{}", unused_address()));
    let good = Endpoint::saying("good");
    let endpoints = [dead[0].clone(), good.url(), dead[1].clone()];
    for (share, ejected, kept) in [("50%", 1.0, 1.0), ("100%", 2.0, 0.0)] {
        let settings = format!("    ejection: {{ {FOR_GOOD}, max_ejected: {share} }}\n");
        let app = App::with_agents(&agent(&endpoints, &settings));
        eventually("as many are out as may be", || {
            assert_eq!(send(&app, 8), 8, "a refused connection is tried elsewhere");
            (in_state(&app, "ejected"), in_state(&app, "kept")) == (ejected, kept)
        });
        assert_eq!(send(&app, 50), 50);
        assert_eq!((in_state(&app, "ejected"), in_state(&app, "kept")), (ejected, kept), "{share}");
    }
}

#[test]
fn where_all_are_bad_the_last_is_tried_and_serves_as_soon_as_it_can() {
    let all = [0, 1, 2].map(|_| Switched::failing(""));
    let endpoints: Vec<_> = all.iter().map(Switched::url).collect();
    let settings = format!("    ejection: {{ {FOR_GOOD}, max_ejected: 100% }}\n");
    let app = App::with_agents(&agent(&endpoints, &settings));
    let mut failed = 0;
    eventually("two are out", || {
        failed += 8 - send(&app, 8);
        (in_state(&app, "ejected"), in_state(&app, "kept")) == (2.0, 1.0)
    });
    let kept = all.iter().find(|one| shown(&app, &one.url())["state"] == "kept").unwrap();
    let before = kept.asked();
    failed += 10 - send(&app, 10);
    assert!(kept.asked() - before >= 10, "it gets every request");
    kept.fails.store(false, Ordering::SeqCst);
    assert_eq!(send(&app, 10), 10);
    assert_eq!((in_state(&app, "ejected"), in_state(&app, "in_service")), (2.0, 1.0));
    // Every failure was the version's, whatever became of its endpoints.
    assert_eq!((app.outcomes("success"), app.outcomes("reset") as usize), (10.0, failed));
}

#[test]
fn ejections_grow_and_a_good_probe_ends_them() {
    let (bad, good) = (Switched::failing("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"), Endpoint::saying("good"));
    let settings = "    ejection: { consecutive_failures: 2, base_time: 100ms, max_time: 1h }\n";
    let app = App::with_agents(&agent(&[bad.url(), good.url()], settings));
    let mut before = 0;
    eventually("each ejection in a row is longer", || {
        send(&app, 4);
        let state = shown(&app, &bad.url());
        let ejections = state["ejectionsInARow"].as_u64().unwrap();
        if ejections > before && state["ejectedForSeconds"] != 0.0 {
            // A probe may be under way, which is known by the time for the next one.
            let most = 0.1 * f64::powi(2.0, ejections as i32 - 1);
            assert!(state["ejectedForSeconds"].as_f64().unwrap() <= most.max(0.1), "{state}");
            before = ejections;
        }
        ejections >= 4
    });
    bad.fails.store(false, Ordering::SeqCst);
    eventually("a probe brings it back", || {
        send(&app, 4);
        in_state(&app, "in_service") == 2.0
    });
    assert!(app.metric("pointsman_endpoint_ejections_total{reason=\"status\"}") >= 4.0);
}

#[test]
fn a_reload_forgets_no_ejection() {
    let (bad, good, new) = (Switched::failing(""), Endpoint::saying("good"), Endpoint::saying("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pointsman.yaml");
    let settings = format!("    ejection: {{ {FOR_GOOD} }}\n");
    let write = |endpoints: &[String], more: &str| {
        std::fs::write(&path, format!("{PORTS}agents:\n{}", agent(endpoints, &format!("{settings}{more}")))).unwrap();
    };
    write(&[bad.url(), good.url()], "");
    let app = App::watching(&path);
    eventually("it is ejected", || {
        send(&app, 4);
        in_state(&app, "ejected") == 1.0
    });
    write(&[new.url(), good.url(), bad.url()], "    bucketing: { salt: other }\n");
    eventually("the new file is live", || {
        send(&app, 4);
        new.connections() > 0
    });
    let before = bad.asked();
    assert_eq!(shown(&app, &bad.url())["state"], "ejected");
    assert_eq!(send(&app, 30), 30);
    assert_eq!(bad.asked(), before);
    // Gone and back again is another endpoint.
    write(&[good.url()], "");
    eventually("it is gone", || in_state(&app, "ejected") == 0.0);
    write(&[good.url(), bad.url()], "");
    eventually("it is back", || in_state(&app, "in_service") == 2.0);
}

#[test]
fn what_ejection_is_off_for_is_never_out() {
    let (bad, good) = (Switched::failing(""), Endpoint::saying("good"));
    let app = App::with_agents(&agent(&[bad.url(), good.url()], "    ejection: off\n"));
    eventually("it has failed often", || {
        send(&app, 8);
        bad.asked() > 20
    });
    assert_eq!(in_state(&app, "in_service"), 2.0);
}

#[test]
fn a_canary_that_fails_is_rolled_back_whatever_becomes_of_its_endpoints() {
    let (stable, bad) = (Endpoint::saying("old"), [0, 1, 2].map(|_| Switched::failing("")));
    let bad: Vec<_> = bad.iter().map(|bad| format!("'{}'", bad.url())).collect();
    let app = App::with_agents(&format!(
        "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: [{}] }}\n    stable: 1.0.0\n    ejection: {{ {FOR_GOOD} }}\n    deployment:\n      version: 2.0.0\n      steps: [{{ weight: 50%, hold: 1h }}, {{ weight: 100% }}]\n      guards: [{{ metric: error_rate, above: 50%, window: 1h, min_requests: 20 }}]\n",
        stable.url(),
        bad.join(", ")
    ));
    eventually("it is rolled back", || {
        send(&app, 8);
        app.admin_get("/api/v1/agents/bot/deployment").json()["state"] == "rolled_back"
    });
    assert!(app.metric("pointsman_requests_total{version=\"2.0.0\",outcome=\"reset\"}") >= 20.0);
    assert_eq!(app.metric("pointsman_endpoint_ejections_total{version=\"2.0.0\"}"), 1.0, "the floor of three");
}

mod checks {
    use super::*;
    use crate::harness::Checked;

    const CHECK: &str =
        "    checks: [{ http: { path: /healthz }, interval: 100ms, timeout: 10s, retries: 1, successes: 2 }]\n";

    #[test]
    fn an_unhealthy_endpoint_gets_nothing_until_it_passes() {
        let [one, other] = [true, false].map(Checked::new);
        let app = App::with_agents(&agent(&[one.endpoint.url(), other.endpoint.url()], CHECK));
        eventually("it is out", || in_state(&app, "unhealthy") == 1.0);
        let before = other.served();
        assert_eq!(send(&app, 40), 40);
        assert_eq!(other.served(), before);
        assert_eq!(app.metric("pointsman_endpoint_ejections_total{reason=\"check\"}"), 1.0);
        let view = app.admin_get("/api/v1/agents/bot").json();
        let failing =
            view["checks"].as_array().unwrap().iter().find(|check| check["healthy"] == false).unwrap().clone();
        assert_eq!(
            (&failing["version"], &failing["failure"]),
            (&"1.0.0".into(), &"status 503, expected 200-299".into())
        );

        other.healthy.store(true, Ordering::SeqCst);
        eventually("it is back", || in_state(&app, "in_service") == 2.0);
        eventually("it serves", || {
            send(&app, 8);
            other.served() > before
        });
    }

    #[test]
    fn only_versions_that_new_requests_may_get_are_asked() {
        let [serving, waiting] = [true, true].map(Checked::new);
        let versions = format!(
            "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n",
            serving.endpoint.url(),
            waiting.endpoint.url()
        );
        let app = App::with_agents(&format!("{versions}{CHECK}"));
        eventually("checks go on", || app.metric("pointsman_health_checks_total{result=\"success\"}") >= 3.0);
        assert_eq!((serving.endpoint.connections() > 0, waiting.endpoint.connections()), (true, 0));
        let app = App::with_agents(&format!("{versions}    split: {{ 1.0.0: 99%, 2.0.0: 1% }}\n{CHECK}"));
        eventually("both are asked", || waiting.endpoint.connections() > 0);
        drop(app);
    }

    #[test]
    fn where_all_checks_fail_some_are_kept() {
        let both = [false, false].map(Checked::new);
        let app = App::with_agents(&agent(&both.each_ref().map(|one| one.endpoint.url()), CHECK));
        eventually("one is out", || (in_state(&app, "unhealthy"), in_state(&app, "kept")) == (1.0, 1.0));
        assert_eq!(send(&app, 20), 20);
        let out = both.iter().find(|one| shown(&app, &one.endpoint.url())["state"] == "unhealthy").unwrap();
        let kept = both.iter().find(|one| shown(&app, &one.endpoint.url())["state"] == "kept").unwrap();
        // As soon as the one comes back there is room for the other to go.
        out.healthy.store(true, Ordering::SeqCst);
        eventually("they change places", || shown(&app, &kept.endpoint.url())["state"] == "unhealthy");
        assert_eq!(shown(&app, &out.endpoint.url())["state"], "in_service");
    }

    #[test]
    fn a_reload_keeps_the_word_of_checks_and_taking_them_away_ends_it() {
        let [one, other, third] = [true, false, true].map(Checked::new);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pointsman.yaml");
        let write = |settings: &str| {
            let urls = [&one, &other, &third].map(|checked| checked.endpoint.url());
            std::fs::write(&path, format!("{PORTS}agents:\n{}", agent(&urls, settings))).unwrap();
        };
        write(CHECK);
        let app = App::watching(&path);
        eventually("it is out", || in_state(&app, "unhealthy") == 1.0);
        for salt in 0..3 {
            let epoch = app.metric("pointsman_table_epoch");
            write(&format!("{CHECK}    bucketing: {{ salt: s{salt} }}\n"));
            eventually("the new file is live", || app.metric("pointsman_table_epoch") > epoch);
            assert_eq!(in_state(&app, "unhealthy"), 1.0);
        }
        assert_eq!(app.metric("pointsman_endpoint_ejections_total{reason=\"check\"}"), 1.0, "it was never in between");
        write("");
        eventually("nobody says so any more", || in_state(&app, "in_service") == 3.0);
        std::thread::sleep(Duration::from_millis(300));
        let asked = other.endpoint.connections();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(other.endpoint.connections(), asked, "its checks ended");
    }
}
