//! TLS with clients: real handshakes, with rustls here, and with OpenSSL and curl in `tools`.

mod admin;
#[path = "../../src/tls/fixture.rs"]
mod certificates;
mod client;
mod identity;
mod renewal;
mod tools;
mod traffic;

use std::io::Read;
use std::net::TcpStream;

use crate::harness::{Endpoint, PATIENCE, Wire, eventually};
use client::{Files, secured, start, yaml};

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let names = [("first", "agent.test"), ("wild", "*.agent.test"), ("exact", "www.agent.test")];
    let leaves = names.map(|(file, name)| {
        let leaf = files.ca.issue(&[name]);
        leaf.write(files.path(), file);
        (file, leaf)
    });
    let app = start(&yaml(&endpoint, &files.tls(&["first", "wild", "exact"], ""), ""));
    for (asked, file) in
        [("agent.test", "first"), ("x.agent.test", "wild"), ("www.agent.test", "exact"), ("WWW.Agent.test", "exact")]
    {
        let mut client = files.trusting().connect(app.proxy, asked).unwrap();
        let (_, leaf) = leaves.iter().find(|(name, _)| *name == file).unwrap();
        assert!(client.shown() == leaf.der(), "{asked}");
        assert!(client.ask("").starts_with("http/1.1 200 ok\r\n"));
    }
    let refused = files.trusting().connect(app.proxy, "other.test").err().expect("no certificate of ours is for it");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    eventually("it is counted", || {
        app.metric("pointsman_tls_handshakes_total{result=\"refused_by_client\"}") == 1.0
            && app.metric("pointsman_tls_handshakes_total{result=\"full\"}") == 4.0
    });
}

#[test]
fn the_protocol_is_agreed_on_in_the_handshake() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = secured(&files, &endpoint);
    let old = start(&yaml(&endpoint, &format!("http2: false, {}", files.tls(&["a"], "")), ""));
    for (offered, agreed, without) in [
        (&["h2", "http/1.1"][..], Some("h2"), Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2"), Some("http/1.1")),
        (&["http/1.1"], Some("http/1.1"), Some("http/1.1")),
        (&[], None, None),
    ] {
        let client = files.trusting().offering(offered);
        assert_eq!(client.to(&app).protocol(), agreed, "{offered:?}");
        let mut client = client.to(&old);
        assert_eq!(client.protocol(), without, "{offered:?}");
        assert!(client.ask("").starts_with("http/1.1 200 ok\r\n"));
    }
    assert!(files.trusting().offering(&["spdy/3"]).connect(app.proxy, "agent.test").is_err());
    eventually("it is counted", || app.metric("pointsman_tls_handshakes_total{result=\"nothing_in_common\"}") == 1.0);
}

#[test]
fn http_2_was_agreed_on_and_something_else_is_no_request() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = secured(&files, &endpoint);
    let mut client = files.trusting().offering(&["h2"]).to(&app);
    client.write("GET / HTTP/1.1\r\nhost: agent.test\r\n\r\n");
    assert!(client.until("\r\n").is_err());
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn a_client_that_returns_goes_on_with_its_session_on_any_worker() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = secured(&files, &endpoint);
    for client in [files.trusting(), files.trusting().tls12()] {
        // Two at a time are on both workers.
        let mut first = client.to(&app);
        assert!(!first.is_resumed());
        first.ask("");
        for _ in 0..4 {
            let mut two = [client.to(&app), client.to(&app)];
            assert!(two.iter().all(client::Secured::is_resumed));
            two.iter_mut().for_each(|client| drop(client.ask("")));
        }
    }
    assert_eq!(app.metric("pointsman_tls_handshakes_total{result=\"resumed\"}"), 16.0);
    assert_eq!(app.metric("pointsman_tls_handshakes_total{result=\"full\"}"), 2.0);
}

#[test]
fn the_oldest_version_can_be_raised() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    files.issue("a", &["agent.test"]);
    let app = start(&yaml(&endpoint, &files.tls(&["a"], ", min_version: 1.3"), ""));
    assert!(files.trusting().tls12().connect(app.proxy, "agent.test").is_err());
    files.trusting().to(&app).ask("");
    eventually("it is counted", || app.metric("pointsman_tls_handshakes_total{result=\"nothing_in_common\"}") == 1.0);
}

#[test]
fn who_speaks_http_to_it_is_told_to_speak_tls() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = secured(&files, &endpoint);
    let answer = app.client().get("/", "u");
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("this port speaks TLS"), "{}", answer.text());
    assert_eq!(app.metric("pointsman_tls_handshakes_total{result=\"plaintext\"}"), 1.0);
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"bad_request\"}"), 1.0);
}

#[test]
fn what_is_no_tls_ends_the_connection() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = secured(&files, &endpoint);
    for bytes in [&b"\0\0\0\0"[..], b"\x16\x03\x01\xff\xff\xff\xff\xff", b"\x16\x03\x01\0\x05hello", b"\x80\x2e\x01"] {
        let mut wire = Wire::connect(app.proxy);
        wire.write(bytes).unwrap();
        // It may be closed already.
        let _ = wire.stream.shutdown(std::net::Shutdown::Write);
        let _ = wire.read_to_end(&mut Vec::new());
    }
    drop(TcpStream::connect(app.proxy).unwrap());
    let count = |result: &str| app.metric(&format!("pointsman_tls_handshakes_total{{result=\"{result}\"}}"));
    eventually("all are counted", || count("malformed") + count("closed") == 5.0);
    assert!(count("malformed") >= 2.0);
    assert!(files.trusting().to(&app).ask("").ends_with('x'), "others are not disturbed");
}

#[test]
fn a_handshake_has_its_time() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    files.issue("a", &["agent.test"]);
    let limits = "limits: { handshake_timeout: 1s }\n";
    let app = start(&format!("{limits}{}", yaml(&endpoint, &files.tls(&["a"], ""), "")));
    let silent = Wire::connect(app.proxy);
    let mut begun = Wire::connect(app.proxy);
    begun.write(b"\x16\x03\x01\x02\0").unwrap();
    for mut wire in [silent, begun] {
        wire.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        let _ = wire.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
    }
    let timeouts = || app.metric("pointsman_tls_handshakes_total{result=\"timeout\"}");
    eventually("both are counted", || timeouts() == 2.0);
    let mut late = None;
    // On a busy machine it may take longer than it may.
    eventually("a handshake is done in time", || {
        late = files.trusting().connect(app.proxy, "agent.test").ok();
        late.is_some()
    });
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    let mut late = late.unwrap();
    assert!(late.ask("").ends_with('x'), "its time was the handshake's alone");
}

#[test]
fn check_reads_the_files_and_names_the_one_that_is_missing() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    files.issue("a", &["agent.test"]);
    let file = files.path().join("pointsman.yaml");
    let check = |pair: &str| {
        std::fs::write(&file, yaml(&endpoint, &files.tls(&[pair], ""), "")).unwrap();
        crate::binary::process::pointsman(&["check", file.to_str().unwrap()])
    };
    let good = check("a");
    assert_eq!(good.code, Some(0), "{good:?}");
    let bad = check("none");
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(bad.err.contains("listeners[0].tls: ") && bad.err.contains("none.pem: cannot be read: "), "{bad:?}");
}

#[test]
fn an_end_that_is_meant_is_said_to_be_and_one_that_is_not_is_not() {
    let (files, endpoint) = (
        Files::new(),
        Endpoint::start(|mut wire| {
            let Some(request) = wire.message() else { return };
            let length = if request.start.contains("/short") { "content-length: 9\r\n" } else { "" };
            wire.write(format!("HTTP/1.1 200 OK\r\n{length}\r\nhello")).unwrap();
        }),
    );
    let app = secured(&files, &endpoint);
    let rest = |path: &str| {
        let mut client = files.trusting().to(&app);
        client.write(format!("GET {path} HTTP/1.0\r\nhost: agent.test\r\n\r\n"));
        let mut text = String::new();
        let end = client.stream.read_to_string(&mut text);
        (end.is_ok(), text)
    };
    let (meant, text) = rest("/");
    assert!(meant && text.ends_with("\r\n\r\nhello"), "{text}");
    let (meant, text) = rest("/short");
    assert!(!meant, "{text}");
}
