//! Whose word on the client is taken.

use crate::harness::{App, Endpoint, Message};

const FIELDS: &str = "x-forwarded-for: 203.0.113.5, 10.9.9.9\r\nx-forwarded-proto: https\r\nx-forwarded-host: outer\r\n\
                      x-forwarded-port: 443\r\nx-real-ip: 203.0.113.5\r\nforwarded: for=203.0.113.5\r\n";

fn ask(app: &App) -> Message {
    app.client().ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{FIELDS}\r\n"))
}

fn app(top: &str, endpoint: &Endpoint, agent: &str) -> App {
    App::with_yaml(&format!(
        "{top}agents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{0}'] }}\n      2.0.0: {{ endpoints: ['{0}'] }}\n    stable: 1.0.0\n{agent}",
        endpoint.url()
    ))
}

/// Who comes from 203.0.113.0/24 gets 2.0.0.
const BY_CLIENT: &str = "    segments: { known: { all: [{ attribute: client_ip, op: in, values: [203.0.113.0/24] }] } }\n    rules: [{ segment: known, version: 2.0.0 }]\n";

fn lines(answer: &Message) -> Vec<&str> {
    let mut lines: Vec<_> =
        answer.text().lines().filter(|line| line.contains("forwarded") || line.contains("real-ip")).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_stranger_s_word_is_replaced_by_what_we_see() {
    let endpoint = Endpoint::echo();
    for top in ["", "trusted_proxies: [10.0.0.0/8]\n"] {
        let app = app(top, &endpoint, BY_CLIENT);
        let answer = ask(&app);
        let expected = [
            "forwarded: for=127.0.0.1;host=\"a\";proto=http",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: a",
            "x-forwarded-proto: http",
        ];
        assert_eq!((answer.version(), lines(&answer)), ("1.0.0", expected.to_vec()), "{top:?}");
    }
}

#[test]
fn a_trusted_proxy_s_word_is_passed_on_and_names_the_client() {
    let endpoint = Endpoint::echo();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let top = format!("trusted_proxies: [127.0.0.1, 10.0.0.0/8]\naccess_log: {{ path: '{}' }}\n", log.display());
    let mut app = app(&top, &endpoint, BY_CLIENT);
    let answer = ask(&app);
    let expected = [
        "forwarded: for=203.0.113.5, for=127.0.0.1;host=\"a\";proto=http",
        "x-forwarded-for: 203.0.113.5, 10.9.9.9, 127.0.0.1",
        "x-forwarded-host: outer",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
        "x-real-ip: 203.0.113.5",
    ];
    assert_eq!((answer.version(), lines(&answer)), ("2.0.0", expected.to_vec()));
    // On the same connection, each request has its own client.
    let mut client = app.client();
    for (fields, version) in
        [("x-forwarded-for: 203.0.113.5\r\n", "2.0.0"), ("", "1.0.0"), ("x-forwarded-for: 192.0.2.1\r\n", "1.0.0")]
    {
        assert_eq!(client.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).version(), version, "{fields:?}");
    }
    app.running.take().unwrap().stop();
    let text = std::fs::read_to_string(log).unwrap();
    let clients: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["client"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(clients, ["203.0.113.5", "203.0.113.5", "127.0.0.1", "192.0.2.1"]);
}

#[test]
fn a_stranger_s_word_decides_nothing() {
    const BY_FIELD: &str = "    segments: { told: { any: [{ attribute: header:x-forwarded-client-cert, op: exists }, { attribute: header:x-real-ip, op: exists }, { attribute: header:forwarded, op: exists }] } }\n    rules: [{ segment: told, version: 2.0.0 }]\n";
    let endpoint = Endpoint::echo();
    let claims = format!("GET / HTTP/1.1\r\nhost: a\r\n{FIELDS}x-forwarded-client-cert: URI=spiffe://a/b\r\n\r\n");
    for (top, version) in [("", "1.0.0"), ("trusted_proxies: [127.0.0.1]\n", "2.0.0")] {
        let app = app(top, &endpoint, BY_FIELD);
        assert_eq!(app.client().ask(&claims).version(), version, "{top:?}");
    }
    // Of a certificate not even a proxy has a say.
    let app = app("trusted_proxies: [127.0.0.1]\n", &endpoint, BY_FIELD);
    let claim = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: URI=spiffe://a/b\r\n\r\n";
    assert_eq!(app.client().ask(claim).version(), "1.0.0");
}
