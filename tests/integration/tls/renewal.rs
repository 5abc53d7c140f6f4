//! Files of certificates, and a configuration, that change under running connections.

use std::io::Read;
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};

use crate::harness::{App, Endpoint, PATIENCE, eventually};
use crate::tls::client::{Files, secured, yaml};

/// Streams a chunk for each message, and ends when there are no more senders.
fn streaming() -> (Endpoint, mpsc::Sender<&'static str>) {
    let (say, said) = mpsc::channel::<&'static str>();
    let said = Mutex::new(said);
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.message() {
            if !request.start.contains("/stream") {
                wire.write(crate::harness::ok("x")).unwrap();
                continue;
            }
            wire.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .unwrap();
            while let Ok(word) = said.lock().unwrap().recv_timeout(PATIENCE) {
                let event = format!("data: {word}\n\n");
                wire.write(format!("{:x}\r\n{event}\r\n", event.len())).unwrap();
            }
            wire.write("0\r\n\r\n").unwrap();
        }
    });
    (endpoint, say)
}

const STREAM: &str = "GET /stream HTTP/1.1\r\nhost: agent.test\r\n\r\n";

fn serial_of(files: &Files, app: &App) -> Vec<u8> {
    files.trusting().to(app).shown().to_vec()
}

#[test]
fn a_new_pair_comes_into_use_while_a_stream_goes_on() {
    let files = Files::new();
    let (endpoint, say) = streaming();
    let app = secured(&files, &endpoint);
    let mut stream = files.trusting().to(&app);
    stream.write(STREAM);
    for (round, word) in [(1.0, "one"), (2.0, "two")] {
        say.send(word).unwrap();
        stream.until(&format!("data: {word}\n\n")).unwrap();
        let old = serial_of(&files, &app);
        files.issue("a", &["agent.test"]);
        eventually("the new one is shown", || serial_of(&files, &app) != old);
        assert_eq!(app.metric("pointsman_tls_reloads_total{result=\"success\"}"), round);
    }
    say.send("three").unwrap();
    stream.until("data: three\n\n").unwrap();
    drop(say);
    stream.until("0\r\n\r\n").unwrap();
    assert_eq!(app.metric("pointsman_tls_reloads_total{result=\"failure\"}"), 0.0);
}

#[test]
fn a_bad_new_pair_changes_nothing_and_is_seen() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = secured(&files, &endpoint);
    let old = serial_of(&files, &app);
    let status = || app.admin_get("/api/v1/config").json()["tls"][0].clone();
    assert_eq!((status()["place"].as_str(), &status()["error"]), (Some("listeners[0].tls"), &serde_json::Value::Null));
    std::fs::write(files.path().join("a.pem"), files.ca.issue(&["agent.test"]).pem()).unwrap();
    eventually("it is refused", || app.metric("pointsman_tls_reloads_total{result=\"failure\"}") == 1.0);
    let error = status()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("a.key: the private key does not belong to the certificate in"), "{error}");
    assert_eq!(app.metric("pointsman_tls_reloads_failing"), 1.0);
    assert!(serial_of(&files, &app) == old);
    // In the year 4096, as the fixture makes them.
    assert!(app.metric("pointsman_tls_certificate_expiry_timestamp_seconds") > 60e9);
    assert!(status()["certificates"][0]["daysLeft"].as_i64().unwrap() > 700_000);
    files.issue("a", &["agent.test"]);
    eventually("it is good again", || app.metric("pointsman_tls_reloads_failing") == 0.0);
    assert!(serial_of(&files, &app) != old);
}

#[test]
fn a_listener_gets_tls_and_loses_it_and_no_connection_is_cut() {
    let files = Files::new();
    let (endpoint, say) = streaming();
    files.issue("a", &["agent.test"]);
    let file = files.path().join("pointsman.yaml");
    let write = |more: &str| std::fs::write(&file, yaml(&endpoint, more, "")).unwrap();
    write("http2: true");
    let app = App::watching(&file);
    let mut plain = app.client();
    assert_eq!(plain.get("/", "u").status(), 200);

    write(&files.tls(&["a"], ""));
    eventually("it speaks TLS", || files.trusting().connect(app.proxy, "agent.test").is_ok());
    assert_eq!(app.client().get("/", "u").status(), 400);
    assert_eq!(plain.get("/", "u").status(), 200);
    let mut stream = files.trusting().to(&app);
    stream.write(STREAM);
    say.send("one").unwrap();
    stream.until("data: one\n\n").unwrap();

    write(&files.tls(&["none"], ""));
    eventually("a missing file is no configuration", || {
        app.metric("pointsman_config_reloads_total{result=\"failure\"}") == 1.0
    });
    let error = app.admin_get("/api/v1/config").json()["error"]["text"].as_str().unwrap().to_owned();
    assert!(
        error.contains("listeners[0].tls: ") && error.contains("none.pem: cannot be read: No such file"),
        "{error}"
    );
    files.trusting().to(&app);

    write("http2: true");
    eventually("it speaks in clear", || app.client().get("/", "u").status() == 200);
    say.send("two").unwrap();
    stream.until("data: two\n\n").unwrap();
    assert_eq!(plain.get("/", "u").status(), 200);
}

#[test]
fn authorities_of_clients_are_renewed_and_old_sessions_end_with_them() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    files.issue("a", &["agent.test"]);
    let client = files.trusting().showing(&files.ca.issue(&["client.test"]));
    let app = crate::tls::client::start(&yaml(&endpoint, &files.tls(&["a"], &files.client_auth("required")), ""));
    let is_served = || {
        let mut client = client.to(&app);
        client.write("GET / HTTP/1.1\r\nhost: agent.test\r\n\r\n");
        client.answer().is_ok()
    };
    assert!(is_served() && client.to(&app).is_resumed());
    let other = crate::tls::certificates::Authority::new("another");
    std::fs::write(files.path().join("ca.pem"), other.pem()).unwrap();
    eventually("it is known no more, however it comes back", || !is_served());
}

#[test]
fn a_stop_lets_a_stream_end_and_says_goodbye() {
    let files = Files::new();
    let (endpoint, say) = streaming();
    let mut app = secured(&files, &endpoint);
    let (mut stream, mut idle) = (files.trusting().to(&app), files.trusting().to(&app));
    let mut unshaken = TcpStream::connect(app.proxy).unwrap();
    stream.write(STREAM);
    say.send("one").unwrap();
    stream.until("data: one\n\n").unwrap();
    let running = app.running.take().unwrap();
    let stopping = std::thread::spawn(move || running.stop());
    eventually("nobody listens any more", || TcpStream::connect(app.proxy).is_err());
    assert_eq!(idle.stream.read(&mut [0]).unwrap(), 0, "it has nothing under way, and its end is meant");
    assert_eq!(unshaken.read(&mut [0]).unwrap(), 0);
    say.send("two").unwrap();
    drop(say);
    stream.until("data: two\n\n").unwrap();
    stream.until("0\r\n\r\n").unwrap();
    assert_eq!(stream.stream.read(&mut [0]).unwrap(), 0, "and so is this one's");
    stopping.join().unwrap();
}
