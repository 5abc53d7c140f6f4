//! What is sent again when an endpoint fails, and what is not.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::harness::{App, Endpoint, Message, eventually, ok, status};

/// A count that a script adds to.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Answers what `answer` says to the request of that number, from 0; and how many there were.
fn numbered(answer: impl Fn(usize, &Message) -> String + Send + Sync + 'static) -> (Endpoint, Count) {
    let count = Count::default();
    let counter = count.clone();
    (Endpoint::answering(move |request| answer(counter.add(), request)), count)
}

fn failing() -> (Endpoint, Count) {
    numbered(|_, _| status(503))
}

/// One agent with a version at all of `endpoints`, and with more settings, indented by four.
fn app(endpoints: &[&Endpoint], settings: &str) -> App {
    let urls: Vec<_> = endpoints.iter().map(|endpoint| format!("'{}'", endpoint.url())).collect();
    App::with_agents(&format!(
        "  bot:\n    versions: {{ 1.0.0: {{ endpoints: [{}] }} }}\n    stable: 1.0.0\n{settings}",
        urls.join(", ")
    ))
}

fn request(method: &str, fields: &str, body: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n{fields}\r\n{body}", body.len())
}

#[test]
fn a_listed_status_is_tried_elsewhere_where_the_method_may_be_repeated() {
    let ((bad, asked), good) = (failing(), Endpoint::saying("good"));
    let app = app(&[&bad, &good], "    ejection: off\n");
    let mut client = app.client();
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        for _ in 0..10 {
            let answer = client.ask(&request(method, "", ""));
            assert_eq!((answer.status(), answer.text()), (200, "good"), "{method}");
        }
    }
    assert!(asked.get() > 0, "the test met no failure");
    assert_eq!(app.outcomes("success"), 40.0);
    assert_eq!(app.metric("pointsman_retries_total{result=\"sent\"}"), asked.get() as f64);
}

#[test]
fn a_post_is_not_sent_twice_unless_its_client_says_that_it_may_be() {
    // Every other one fails, from the first on.
    let (flaky, asked) = numbered(|number, _| if number.is_multiple_of(2) { status(503) } else { ok("good") });
    let app = app(&[&flaky], "");
    let mut client = app.client();
    assert_eq!((client.ask(&request("POST", "", "x")).status(), asked.get()), (503, 1));
    asked.add();
    let answer = client.ask(&request("POST", "idempotency-key: 7\r\n", "x"));
    assert_eq!((answer.status(), asked.get()), (200, 4));
}

#[test]
fn a_body_is_sent_again_whole() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = bodies.clone();
    let (flaky, _) = numbered(move |number, request| {
        seen.lock().unwrap().push(request.body.clone());
        if number < 2 { status(502) } else { ok("good") }
    });
    let app = app(&[&flaky], "");
    let body = "0123456789".repeat(5_000);
    let answer = app.client().ask(&request("PUT", "", &body));
    assert_eq!((answer.status(), answer.text()), (200, "good"));
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|sent| sent == body.as_bytes()));
}

#[test]
fn a_body_that_is_too_long_to_be_kept_is_sent_once() {
    let (bad, asked) = failing();
    let app = app(&[&bad], "");
    let answer = app.client().ask(&request("PUT", "", &"x".repeat((64 << 10) + 1)));
    assert_eq!((answer.status(), asked.get()), (503, 1));
    assert_eq!(app.metric("pointsman_retries_total"), 0.0);
}

#[test]
fn what_is_not_listed_is_passed_on() {
    for (settings, code) in [("", 500), ("", 404), ("    retries: { statuses: [500] }\n", 503)] {
        let (bad, asked) = numbered(move |_, _| status(code));
        let answer = app(&[&bad], settings).client().get("/", "u");
        assert_eq!((answer.status(), asked.get()), (code, 1));
    }
}

#[test]
fn attempts_are_bounded_and_the_last_failure_is_what_the_client_gets() {
    for (settings, attempts) in [("", 3), ("    retries: { attempts: 4 }\n", 5), ("    retries: { attempts: 0 }\n", 1)]
    {
        let (bad, asked) = numbered(|number, _| format!("HTTP/1.1 503 X\r\ncontent-length: 1\r\n\r\n{number}"));
        let app = app(&[&bad], settings);
        let answer = app.client().get("/", "u");
        assert_eq!((answer.status(), answer.text().parse(), asked.get()), (503, Ok(attempts - 1), attempts));
        assert_eq!((app.outcomes("server_error"), bad.connections()), (1.0, 1), "one exchange on one connection");
        let exhausted = if attempts > 1 { 1.0 } else { 0.0 };
        assert_eq!(app.metric("pointsman_retries_total{result=\"exhausted\"}"), exhausted);
    }
}

#[test]
fn the_budget_keeps_a_version_that_fails_from_being_asked_several_times_as_much() {
    const REQUESTS: usize = 500;
    let (bad, asked) = failing();
    let settings = "    retries: { backoff: { base: 0s, max: 0s }, budget: { ratio: 20%, per_second: 0 } }\n";
    let app = app(&[&bad], settings);
    let mut client = app.client();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/", "u").status(), 503);
    }
    // A fifth of them, and the ten that are saved at first, to which the first of them can add nothing.
    assert_eq!(asked.get(), REQUESTS + REQUESTS / 5 + 9);
    assert!(app.metric("pointsman_retries_total{result=\"no_budget\"}") > 0.0);
}

#[test]
fn a_black_hole_among_three_is_left_after_the_time_of_an_attempt() {
    let black_hole = Endpoint::start(|mut wire| {
        wire.message();
        wire.is_closed();
    });
    let (one, other) = (Endpoint::saying("good"), Endpoint::saying("good"));
    let settings = "    ejection: off\n    timeouts: { response: 20s }\n    retries: { per_try_timeout: 50ms }\n";
    let app = app(&[&black_hole, &one, &other], settings);
    let mut client = app.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", "u").text(), "good");
    }
    assert!(black_hole.connections() > 0, "the test met no black hole");
    assert_eq!(app.outcomes("success"), 20.0);
}

/// Answers on no connection but from the given one on, and there when the test says so.
fn silent_until(connection: usize) -> (Endpoint, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let (released, count) = (Mutex::new(released), Count::default());
    let endpoint = Endpoint::start(move |mut wire| {
        if count.add() < connection {
            wire.message();
            wire.is_closed();
            return;
        }
        while wire.message().is_some() {
            let _ = released.lock().unwrap().recv();
            let _ = wire.write(ok("late"));
        }
    });
    (endpoint, release)
}

#[test]
fn an_attempt_that_none_may_follow_has_all_the_time_of_the_exchange() {
    let (endpoint, release) = silent_until(1);
    let settings = "    retries: { attempts: 1, per_try_timeout: 50ms, backoff: { base: 0s, max: 0s } }\n";
    let app = app(&[&endpoint], settings);
    for method in ["GET", "POST"] {
        let mut client = app.client();
        client.write(request(method, "", "x")).unwrap();
        eventually("the last attempt is there", || endpoint.connections() == 2);
        // Longer than an attempt has that another one may follow.
        std::thread::sleep(Duration::from_millis(200));
        release.send(()).unwrap();
        assert_eq!(client.message().unwrap().text(), "late", "{method}");
    }
    assert_eq!(app.metric("pointsman_retries_total"), 1.0);
}

#[test]
fn without_budget_a_slow_attempt_is_not_cut() {
    // As many as are saved.
    let (endpoint, release) = silent_until(10);
    let settings = "    retries: { attempts: 10, per_try_timeout: 50ms, backoff: { base: 0s, max: 0s }, budget: { ratio: 0%, per_second: 0 } }\n";
    let app = app(&[&endpoint], settings);
    let mut client = app.client();
    release.send(()).unwrap();
    assert_eq!(client.get("/", "u").text(), "late");
    client.write(request("GET", "", "")).unwrap();
    let result = |result| app.metric(&format!("pointsman_retries_total{{result=\"{result}\"}}"));
    eventually("its time is up", || result("no_budget") == 1.0);
    release.send(()).unwrap();
    assert_eq!((client.message().unwrap().text(), result("sent")), ("late", 10.0));
}

#[test]
fn a_head_that_breaks_off_is_tried_elsewhere_and_a_body_that_does_is_not() {
    for (bad, passes) in [
        ("", true),
        ("HTTP/1.1 200 OK\r\ncontent-le", true),
        ("SSH-2.0-OpenSSH_9\r\n", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false),
    ] {
        let breaking = Endpoint::start(move |mut wire| {
            wire.message();
            let _ = wire.write(bad);
        });
        let good = Endpoint::saying("good");
        let app = app(&[&breaking, &good], "    ejection: off\n");
        let mut broken = 0;
        for _ in 0..20 {
            let mut client = app.client();
            client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            match client.message() {
                Some(answer) => assert_eq!(answer.text(), "good", "{bad:?}"),
                None => broken += 1,
            }
        }
        assert!(breaking.connections() > 0, "the test met no failure");
        assert_eq!(broken > 0, !passes, "{bad:?}");
        assert_eq!(app.metric("pointsman_retries_total") > 0.0, passes, "{bad:?}");
    }
}

#[test]
fn an_upload_that_has_outgrown_what_is_kept_is_not_begun_again() {
    let early = Endpoint::start(|mut wire| {
        wire.head();
        let mut taken = vec![0; 70 << 10];
        wire.read_exact(&mut taken).unwrap();
        wire.write(status(503)).unwrap();
        wire.is_closed();
    });
    let app = app(&[&early], "");
    let mut client = app.client();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    client.write("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    // The last of it does not come.
    (0..5).for_each(|_| client.write(&chunk).unwrap());
    assert_eq!((client.message().unwrap().status(), early.connections()), (503, 1));
    assert_eq!(app.metric("pointsman_retries_total"), 0.0);
}

#[test]
fn the_log_says_how_often_it_was_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let (flaky, _) = numbered(|number, _| if number < 2 { status(503) } else { ok("good") });
    let app = App::with_yaml(&format!(
        "access_log: {{ path: '{}' }}\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        log.display(),
        flaky.url()
    ));
    assert_eq!(app.client().get("/", "u").text(), "good");
    eventually("it is logged", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().any(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["retries"] == 2)
    });
}
