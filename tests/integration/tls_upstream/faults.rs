//! Endpoints that cannot prove who they are, or that do not take us: an answer that tells the client nothing of it,
//! a count that tells the operator what it was.

use std::net::{SocketAddr, TcpListener};

use super::front::{Authority, Front, Pair, server};
use super::{NAME, app, front_of, handshakes, tls};
use crate::harness::{App, Endpoint, eventually};

/// The answer is [`tls_failed`], counted as this.
fn fails(app: &App, result: &str) {
    let answer = app.client().get("/", "ann");
    let error = &answer.json()["error"];
    assert_eq!((answer.status(), &error["code"]), (502, &"tls_failed".into()), "{result}: {answer:?}");
    let message = error["message"].as_str().unwrap();
    assert!(!message.contains("127.0.0.1") && !message.contains("certificate"), "{message}");
    assert_eq!(app.outcomes("connect_failed"), 1.0, "{result}");
    assert_eq!(handshakes(app, result), 1.0, "{result}");
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"tls_failed\"}"), 1.0, "{result}");
}

#[test]
fn an_endpoint_that_is_not_who_it_should_be_gets_no_request() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let bad: [(&str, Pair); 4] = [
        ("wrong_name", authority.issue(&["other.internal", "127.0.0.1"])),
        ("unknown_issuer", foreign.issue(&[NAME])),
        ("expired", authority.issue_expired(&[NAME])),
        ("full", authority.issue(&["*.agents.internal"])),
    ];
    for (result, pair) in bad {
        let endpoint = Endpoint::saying("ok");
        let front = Front::before(endpoint.address, server(&pair, &[], None));
        let app = app(&front, &tls(&authority, ""));
        if result == "full" {
            assert_eq!(app.client().get("/", "ann").text(), "ok");
        } else {
            fails(&app, result);
            assert_eq!((endpoint.connections(), front.seen().len()), (0, 0), "{result}");
        }
    }
}

#[test]
fn the_system_s_authorities_know_nothing_of_ours() {
    let (endpoint, authority) = (Endpoint::saying("ok"), Authority::new());
    let front = front_of(&endpoint, &authority);
    // Machines without any authority do not start with this.
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        return;
    }
    fails(&app(&front, &format!("    tls: {{ server_name: {NAME} }}\n")), "unknown_issuer");
}

#[test]
fn an_endpoint_that_speaks_no_tls_or_hangs_up_or_says_nothing_is_told_apart() {
    let authority = Authority::new();
    let settings = tls(&authority, "");
    let at = |address: SocketAddr| {
        App::with_agents(&format!(
            "  bot:\n    versions: {{ 1.0.0: {{ endpoints: ['https://{address}'] }} }}\n    stable: 1.0.0\n    timeouts: {{ connect: 2s }}\n{settings}"
        ))
    };
    let plain = Endpoint::start(|mut wire| {
        let _ = wire.write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        let _ = wire.is_closed();
    });
    let hangs_up = Endpoint::start(drop);
    for (endpoint, result) in [(&plain, "not_tls"), (&hangs_up, "closed")] {
        fails(&at(endpoint.address), result);
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = at(silent.local_addr().unwrap());
    let answer = app.client().get("/", "ann");
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (504, &"connect_timeout".into()));
}

#[test]
fn http2_needs_an_endpoint_that_selects_it() {
    let authority = Authority::new();
    for protocols in [&[][..], &["http/1.1"]] {
        let endpoint = Endpoint::saying("ok");
        let front = Front::before(endpoint.address, server(&authority.issue(&[NAME]), protocols, None));
        fails(&app(&front, &format!("    protocol: http2\n{}", tls(&authority, ""))), "no_protocol");
        eventually("no byte of a request has gone there", || endpoint.connections() <= front.seen().len());
    }
}

#[test]
fn an_endpoint_that_wants_our_certificate_gets_it() {
    let (endpoint, authority, ours) = (Endpoint::saying("ok"), Authority::new(), Authority::new());
    let pair = ours.issue(&["pointsman"]);
    ours.write(&pair, "pair");
    let front = Front::before(endpoint.address, server(&authority.issue(&[NAME]), &[], Some(&ours)));
    let (cert, key) = (ours.path("pair.pem"), ours.path("pair.key"));
    let shown = app(&front, &tls(&authority, &format!(", cert: '{cert}', key: '{key}'")));
    assert_eq!(shown.client().get("/", "ann").text(), "ok");
    assert_eq!(front.seen()[0].client, Some(pair.der()));

    // In TLS 1.3 the refusal comes when the handshake is over, from our side; never as a lost connection.
    authority.write(&authority.issue(&["pointsman"]), "foreign");
    let (cert, key) = (authority.path("foreign.pem"), authority.path("foreign.key"));
    for settings in [tls(&authority, ""), tls(&authority, &format!(", cert: '{cert}', key: '{key}'"))] {
        for protocol in ["http1", "http2"] {
            let front =
                Front::before(endpoint.address, server(&authority.issue(&[NAME]), &["h2", "http/1.1"], Some(&ours)));
            let app = app(&front, &format!("    protocol: {protocol}\n{settings}"));
            let answer = app.client().get("/", "ann");
            assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"tls_failed".into()), "{protocol}");
            assert_eq!((app.outcomes("connect_failed"), front.seen().len()), (1.0, 0));
        }
    }
    assert_eq!(endpoint.connections(), 1);
}
