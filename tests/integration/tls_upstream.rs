//! Endpoints behind TLS: what passes, who is believed, what connections it takes, and what comes of changed files.

mod asked;
mod faults;
mod front;
mod openssl;
mod pooled;

use std::io::{Read, Write};
use std::sync::mpsc;

use crate::harness::{App, Endpoint, Message, PATIENCE, Wire, eventually, ok};
use crate::upstream_http2::endpoint::Endpoint2;
use front::{Authority, Front, Order, Seen, server};

const NAME: &str = "bot.agents.internal";

/// The settings that believe this authority and want [`NAME`], as a part of an agent.
fn tls(authority: &Authority, more: &str) -> String {
    format!("    tls: {{ ca: '{}', server_name: {NAME}{more} }}\n", authority.path("ca.pem"))
}

/// One agent `bot` before this front, with more settings, indented by four.
fn app(front: &Front, settings: &str) -> App {
    App::with_agents(&format!(
        "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n{settings}",
        front.url()
    ))
}

/// TLS that everyone may use before an endpoint of HTTP/1.1.
fn front_of(endpoint: &Endpoint, authority: &Authority) -> Front {
    Front::before(endpoint.address, server(&authority.issue(&[NAME]), &["h2", "http/1.1"], None))
}

fn handshakes(app: &App, result: &str) -> f64 {
    app.metric(&format!("pointsman_upstream_tls_handshakes_total{{result=\"{result}\"}}"))
}

#[test]
fn requests_go_over_one_connection_whose_name_and_authority_are_right() {
    let (endpoint, authority) = (Endpoint::echo(), Authority::new());
    let front = front_of(&endpoint, &authority);
    let app = app(&front, &tls(&authority, ""));
    let mut client = app.client();
    for number in 0..20 {
        let answer = client.get(&format!("/{number}"), "ann");
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(answer.text().starts_with(&format!("GET /{number} HTTP/1.1\nhost: agent.test\n")), "{answer:?}");
    }
    let seen = Seen { name: Some(NAME.into()), protocol: Some("http/1.1".into()), ..Seen::default() };
    assert_eq!(front.seen(), [seen]);
    assert_eq!((handshakes(&app, "full"), handshakes(&app, "resumed"), app.outcomes("success")), (1.0, 0.0, 20.0));
}

#[test]
fn an_address_is_a_name_too_and_the_endpoint_s_own_is_the_default() {
    let (endpoint, authority) = (Endpoint::saying("ok"), Authority::new());
    let front = Front::before(endpoint.address, server(&authority.issue(&["127.0.0.1"]), &[], None));
    let app = app(&front, &format!("    tls: {{ ca: '{}' }}\n", authority.path("ca.pem")));
    assert_eq!(app.client().get("/", "ann").text(), "ok");
    assert_eq!(front.seen(), [Seen::default()], "neither a name in the greeting nor a protocol selected");
}

#[test]
fn http2_is_agreed_on_in_the_handshake() {
    let endpoint = Endpoint2::start(|mut call| async move {
        let (body, _) = call.body().await;
        let text = format!("{} {}", call.request.uri(), body.len());
        call.answer(text).await;
    });
    let authority = Authority::new();
    let inner = endpoint.url.trim_start_matches("http://").parse().unwrap();
    let front = Front::before(inner, server(&authority.issue(&[NAME]), &["http/1.1", "h2"], None));
    let app = app(&front, &format!("    protocol: http2\n{}", tls(&authority, "")));
    let mut client = app.client();
    let body = "x".repeat(300_000);
    for _ in 0..10 {
        let length = body.len();
        client.write(format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")).unwrap();
        assert_eq!(client.message().unwrap().text(), format!("http://a/a {length}"));
    }
    assert_eq!((endpoint.connections(), front.seen()[0].protocol.as_deref()), (1, Some("h2")));
    // Idle for a while, with bytes that carry nothing: still good.
    front.order(Order::Rekey);
    client.write("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").unwrap();
    assert_eq!(client.message().unwrap().text(), "http://a/b 1");
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn later_connections_resume_the_session() {
    let authority = Authority::new();
    let endpoint =
        Endpoint::answering(|_| "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".into());
    let front = front_of(&endpoint, &authority);
    let app = app(&front, &tls(&authority, ""));
    let mut client = app.client();
    for _ in 0..5 {
        assert_eq!(client.get("/", "ann").text(), "ok");
    }
    let resumed: Vec<_> = front.seen().iter().map(|seen| seen.resumed).collect();
    assert_eq!(resumed, [false, true, true, true, true]);
    assert_eq!((handshakes(&app, "full"), handshakes(&app, "resumed")), (1.0, 4.0));
}

#[test]
fn big_bodies_pass_unaltered_both_ways() {
    let authority = Authority::new();
    let endpoint = Endpoint::answering(|request| {
        let sum: u64 = request.body.iter().zip(1u64..).map(|(byte, place)| u64::from(*byte) * place).sum();
        ok(&format!("{} {sum} {}", request.body.len(), "y".repeat(3_000_000)))
    });
    let front = front_of(&endpoint, &authority);
    let app = app(&front, &tls(&authority, ""));
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sum: u64 = body.iter().zip(1u64..).map(|(byte, place)| u64::from(*byte) * place).sum();
    let mut client = app.client();
    for chunked in [false, true, false] {
        let coding =
            if chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {}", body.len()) };
        client.write(format!("PUT / HTTP/1.1\r\nhost: a\r\n{coding}\r\n\r\n")).unwrap();
        if chunked {
            for chunk in body.chunks(70_001) {
                client.write([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).unwrap();
            }
            client.write("0\r\n\r\n").unwrap();
        } else {
            client.write(&body).unwrap();
        }
        let answer = client.message().unwrap();
        assert_eq!(answer.body.len(), 3_000_000 + format!("{} {sum} ", body.len()).len());
        assert!(answer.text().starts_with(&format!("{} {sum} yyy", body.len())), "{chunked}");
    }
    assert_eq!(front.seen().len(), 1);
}

#[test]
fn a_client_that_leaves_a_stream_ends_the_endpoint_s_work() {
    let (told, gone) = mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").unwrap();
        assert!(wire.is_closed());
        told.send(()).unwrap();
    });
    let authority = Authority::new();
    let front = front_of(&endpoint, &authority);
    let app = app(&front, &tls(&authority, ""));
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.head().unwrap();
    client.chunk().unwrap();
    drop(client);
    gone.recv_timeout(PATIENCE).unwrap();
    eventually("it is counted as the client's doing", || app.outcomes("client_cancel") == 1.0);
}

#[test]
fn an_answer_without_a_length_that_breaks_off_is_not_taken_for_a_whole_one() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhal";
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.write(answer).unwrap();
        let _ = held.lock().unwrap().recv();
    });
    let authority = Authority::new();
    let front = front_of(&endpoint, &authority);
    let app = app(&front, &tls(&authority, ""));
    for (order, outcome) in [(Order::Cut, "truncated"), (Order::GoodBye, "success")] {
        let mut client = app.client();
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(client.head().unwrap().status(), 200);
        assert_eq!(client.chunk().unwrap().unwrap(), b"hal");
        front.order(order);
        eventually(outcome, || app.outcomes(outcome) == 1.0);
        release.send(()).unwrap();
    }
}

/// What is switched to passes as it is, also where one side takes nothing for a while.
#[test]
fn a_tunnel_goes_through_tls() {
    const LENGTH: usize = 8 << 20;
    let endpoint = Endpoint::start(|mut wire| {
        let request: Message = wire.message().unwrap();
        assert_eq!(request.header("upgrade"), Some("echo"));
        wire.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n").unwrap();
        // All of it first, then all of it back.
        let mut all = vec![0; LENGTH];
        wire.read_exact(&mut all).unwrap();
        wire.write(&all).unwrap();
        assert!(wire.is_closed());
    });
    let authority = Authority::new();
    let front = front_of(&endpoint, &authority);
    let app = app(&front, &tls(&authority, ""));
    let mut client: Wire = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().status(), 101);
    let sent: Vec<u8> = (0..LENGTH).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    client.stream.write_all(&sent).unwrap();
    let mut back = vec![0; LENGTH];
    client.read_exact(&mut back).unwrap();
    assert!(back == sent, "other bytes came back");
    drop(client);
    eventually("it ends", || app.metric("pointsman_requests_in_flight{") == 0.0);
}
