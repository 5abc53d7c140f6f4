//! Clients that show certificates, and who learns of them.

use std::io::Read;

use crate::harness::{App, Endpoint, eventually};
use crate::tls::certificates::Authority;
use crate::tls::client::{Client, Files, start, yaml};

/// Whoever has this name in its certificate gets the other version.
const RULES: &str = "    segments:\n      partners: { all: [{ attribute: 'tls:san', op: eq, value: 'spiffe://a.test/partner' }] }\n    \
                     rules: [{ segment: partners, version: 2.0.0 }]\n";

fn app(files: &Files, endpoint: &Endpoint, mode: &str) -> App {
    files.issue("a", &["agent.test"]);
    start(&yaml(endpoint, &files.tls(&["a"], &files.client_auth(mode)), RULES))
}

/// Whether the client gets an answer. Under TLS 1.3 it learns of a refusal when it reads.
fn is_served(client: &Client, app: &App) -> bool {
    let Ok(mut client) = client.connect(app.proxy, "agent.test") else { return false };
    client.write("GET / HTTP/1.1\r\nhost: agent.test\r\n\r\n");
    client.answer().is_ok()
}

fn count(app: &App, result: &str) -> f64 {
    app.metric(&format!("pointsman_tls_handshakes_total{{result=\"{result}\"}}"))
}

#[test]
fn a_required_certificate_must_be_there_and_of_our_authority() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = app(&files, &endpoint, "required");
    let good = files.ca.issue(&["client.test"]);
    let foreign = Authority::new("the root").issue(&["client.test"]);
    let over = files.ca.issue_with(&["client.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 2));
    assert!(is_served(&files.trusting().showing(&good), &app));
    for refused in [files.trusting(), files.trusting().showing(&foreign), files.trusting().showing(&over)] {
        assert!(!is_served(&refused, &app));
    }
    eventually("it is counted", || count(&app, "no_certificate") == 1.0 && count(&app, "bad_certificate") == 2.0);
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = app(&files, &endpoint, "optional");
    let foreign = Authority::new("another").issue(&["client.test"]);
    assert!(is_served(&files.trusting(), &app));
    assert!(is_served(&files.trusting().showing(&files.ca.issue(&["client.test"])), &app));
    assert!(!is_served(&files.trusting().showing(&foreign), &app));
}

/// The lines of this field that the agent has seen.
fn seen(answer: &str, field: &str) -> Vec<String> {
    let start = format!("{field}: ");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    body.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
}

const FORGED: &str = "x-forwarded-client-cert: Hash=00;Subject=\"CN=root\"\r\nX-FORWARDED-Client-Cert: By=x\r\n";

#[test]
fn the_agent_is_told_whose_certificate_it_was_and_by_nobody_else() {
    let (files, endpoint) = (Files::new(), Endpoint::echo());
    let app = app(&files, &endpoint, "optional");
    let partner = files.ca.issue(&["URI:spiffe://a.test/partner", "client.test"]);
    let mut client = files.trusting().showing(&partner).to(&app);
    for _ in 0..2 {
        let answer = client.ask(FORGED);
        let told = seen(&answer, "x-forwarded-client-cert");
        let [told] = &told[..] else { panic!("{answer}") };
        let (hash, rest) = told.strip_prefix("Hash=").unwrap().split_at(64);
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{told}");
        assert_eq!(rest, ";Subject=\"CN=a holder\";URI=spiffe://a.test/partner;DNS=client.test");
        assert_eq!(seen(&answer, "x-forwarded-proto"), ["https"]);
        assert_eq!(seen(&answer, "forwarded"), ["for=127.0.0.1;host=\"agent.test\";proto=https"]);
        assert!(answer.contains("x-pointsman-version: 2.0.0\r\n"), "{answer}");
    }
    let answer = files.trusting().to(&app).ask(FORGED);
    assert!(seen(&answer, "x-forwarded-client-cert").is_empty(), "{answer}");
    assert!(answer.contains("x-pointsman-version: 1.0.0\r\n"), "{answer}");

    let plain = App::before(&endpoint);
    let answer = plain.client().ask(&format!("GET / HTTP/1.1\r\nhost: agent.test\r\n{FORGED}\r\n"));
    assert!(!answer.text().contains("client-cert"), "{}", answer.text());
}

#[test]
fn a_session_that_goes_on_is_still_the_same_clients() {
    let (files, endpoint) = (Files::new(), Endpoint::echo());
    let app = app(&files, &endpoint, "required");
    let client = files.trusting().showing(&files.ca.issue(&["URI:spiffe://a.test/partner"]));
    client.to(&app).ask("");
    let mut again = client.to(&app);
    assert!(again.is_resumed());
    let answer = again.ask("");
    assert!(answer.contains("x-pointsman-version: 2.0.0\r\n"), "{answer}");
    assert_eq!(seen(&answer, "x-forwarded-client-cert").len(), 1);
}

#[test]
fn a_certificate_can_be_the_bucketing_key_and_cookies_are_for_tls_alone() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    files.issue("a", &["agent.test"]);
    let settings = "    bucketing: { key: ['tls:fingerprint'] }\n    split: { 1.0.0: 50%, 2.0.0: 50% }\n    \
                    conversations: { token: { cookie: pin } }\n";
    let pins = "pins: { keys: [{ id: k1, secret: 0123456789abcdef0123456789abcdef }] }\n";
    let listener = files.tls(&["a"], &files.client_auth("optional"));
    let app = start(&format!("{pins}{}", yaml(&endpoint, &listener, settings)));
    let version = |client: &Client| {
        let answer = client.to(&app).ask("");
        let set = answer.lines().find(|line| line.starts_with("set-cookie: ")).unwrap();
        assert!(set.ends_with("; secure"), "{set}");
        answer.lines().find_map(|line| line.strip_prefix("x-pointsman-version: ")).unwrap().to_owned()
    };
    let clients: Vec<_> = (0..16).map(|_| files.trusting().showing(&files.ca.issue(&["client.test"]))).collect();
    let first: Vec<_> = clients.iter().map(version).collect();
    assert_eq!(first, clients.iter().map(version).collect::<Vec<_>>());
    assert!(first.contains(&"1.0.0".to_owned()) && first.contains(&"2.0.0".to_owned()), "{first:?}");
    assert_eq!(version(&files.trusting()), "1.0.0");
    assert_eq!(app.metric("pointsman_bucketing_key_missing_total"), 1.0);
}

#[test]
fn a_client_that_goes_away_ends_its_exchange() {
    let (files, endpoint) = (
        Files::new(),
        Endpoint::start(|mut wire| {
            let _ = wire.head();
            let _ = wire.read_to_end(&mut Vec::new());
        }),
    );
    let app = app(&files, &endpoint, "optional");
    for polite in [true, false] {
        let mut client = files.trusting().to(&app);
        client.write("GET / HTTP/1.1\r\nhost: agent.test\r\n\r\n");
        let before = app.outcomes("client_cancel");
        eventually("the agent has it", || app.metric("pointsman_requests_in_flight") == 1.0);
        if polite {
            client.stream.conn.send_close_notify();
            client.stream.conn.complete_io(&mut client.stream.sock).unwrap();
        } else {
            client.stream.sock.shutdown(std::net::Shutdown::Both).unwrap();
        }
        eventually("it is cancelled", || app.outcomes("client_cancel") == before + 1.0);
        let _ = client.stream.read(&mut [0]);
    }
}
