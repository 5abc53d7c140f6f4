//! Upgrades: what a client and an endpoint see of a tunnel on the wire, and how it is counted.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use crate::harness::{App, Endpoint, Message, PATIENCE, Wire, eventually};

const ASK: &str =
    "GET /chat HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\nconnection: keep-alive, Upgrade\r\nupgrade: echo\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n";

/// Takes the upgrade, and lets the script go on with the raw connection.
fn switching(script: impl Fn(Wire, Message) + Send + Sync + 'static) -> Endpoint {
    Endpoint::start(move |mut wire| {
        let Some(request) = wire.message() else { return };
        wire.write(format!("{SWITCH}\r\n")).unwrap();
        script(wire, request);
    })
}

/// Sends back whatever comes, and ends when the other side has.
fn echo(mut wire: Wire, _: Message) {
    let mut block = [0; 4096];
    loop {
        match wire.read(&mut block) {
            Ok(0) | Err(_) => return,
            Ok(count) => wire.write(&block[..count]).unwrap(),
        }
    }
}

/// A client that has been switched.
fn switched(app: &App) -> Wire {
    let mut client = app.client();
    client.write(format!("{ASK}\r\n")).unwrap();
    let answer = client.head().unwrap();
    assert_eq!(answer.status(), 101, "{answer:?}");
    client
}

fn exchange(client: &mut Wire, bytes: &[u8]) {
    client.write(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == bytes, "{} bytes came back otherwise", bytes.len());
}

/// The bytes at this place of a long transfer: no two blocks are alike.
fn pattern(from: usize, bytes: &mut [u8]) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        let at = (from + index) as u64;
        *byte = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8;
    }
}

fn send_pattern(mut to: impl Write, length: usize) {
    let mut block = vec![0; 1 << 16];
    for from in (0..length).step_by(block.len()) {
        pattern(from, &mut block);
        to.write_all(&block).unwrap();
    }
}

fn expect_pattern(mut from: impl Read, length: usize) {
    let (mut got, mut expected) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    for at in (0..length).step_by(got.len()) {
        from.read_exact(&mut got).unwrap();
        pattern(at, &mut expected);
        assert!(got == expected, "the block at {at} is another one");
    }
}

#[test]
fn an_upgrade_is_decided_forwarded_and_tunnelled() {
    let (told, asked) = mpsc::channel();
    let endpoint = switching(move |wire, request| {
        told.send(request.clone()).unwrap();
        echo(wire, request);
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write(format!("{ASK}x-kept: yes\r\n\r\n")).unwrap();
    let answer = client.head().unwrap();
    assert_eq!((answer.status(), answer.version()), (101, "1.0.0"));
    assert_eq!((answer.all("connection"), answer.all("upgrade")), (vec!["upgrade"], vec!["echo"]));
    assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, None));
    let request = asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!((request.all("connection"), request.all("upgrade")), (vec!["upgrade"], vec!["echo"]));
    assert_eq!((request.header("x-kept"), request.header("x-forwarded-for")), (Some("yes"), Some("127.0.0.1")));

    exchange(&mut client, b"GET / HTTP/1.1\r\n\r\n");
    exchange(&mut client, &[0, 255, 13, 10]);
    assert_eq!(app.metric("pointsman_requests_in_flight"), 1.0);
    assert_eq!(app.outcomes("success"), 0.0);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(client.is_closed());
    eventually("the whole of it is one exchange", || app.outcomes("success") == 1.0);
    assert_eq!(app.metric("pointsman_requests_total{status_class=\"1xx\"}"), 1.0);
    assert_eq!(app.metric("pointsman_requests_in_flight"), 0.0);
}

#[test]
fn what_either_side_sends_at_once_is_not_lost() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.message().unwrap();
        wire.write(format!("{SWITCH}\r\nhello")).unwrap();
        let mut five = [0; 5];
        wire.read_exact(&mut five).unwrap();
        wire.write(five).unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    // Not allowed before the 101, and yet no reason to lose it.
    client.write(format!("{ASK}\r\nearly")).unwrap();
    assert_eq!(client.head().unwrap().status(), 101);
    let mut ten = [0; 10];
    client.read_exact(&mut ten).unwrap();
    assert_eq!(&ten, b"helloearly");
    assert!(client.is_closed());
}

/// RFC 6455: the handshake's example of §1.3 and the masked "Hello" of §5.7.
#[test]
fn a_web_socket_speaks_through_it() {
    let endpoint = Endpoint::start(|mut wire| {
        let request = wire.message().unwrap();
        assert_eq!(request.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(request.header("sec-websocket-version"), Some("13"));
        wire.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").unwrap();
        let mut frame = [0; 11];
        wire.read_exact(&mut frame).unwrap();
        let (mask, masked) = (&frame[2..6], &frame[6..]);
        let text: Vec<u8> = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        wire.write([&[0x81, 5][..], &text].concat()).unwrap();
        // Close, with the status 1000.
        wire.write([0x88, 2, 0x03, 0xe8]).unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").unwrap();
    let answer = client.head().unwrap();
    assert_eq!((answer.status(), answer.header("upgrade")), (101, Some("websocket")));
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.write([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]).unwrap();
    let mut frames = [0; 11];
    client.read_exact(&mut frames).unwrap();
    assert_eq!(&frames, b"\x81\x05Hello\x88\x02\x03\xe8");
    assert!(client.is_closed());
    drop(client);
    eventually("both have ended their side", || app.outcomes("success") == 1.0);
}

#[test]
fn an_answer_that_is_no_switch_is_an_answer() {
    let endpoint = Endpoint::answering(|_| {
        "HTTP/1.1 426 Upgrade Required\r\nupgrade: other\r\ncontent-length: 2\r\n\r\nno".into()
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    for _ in 0..2 {
        let answer = client.ask(&format!("{ASK}\r\n"));
        assert_eq!((answer.status(), answer.text(), answer.header("upgrade")), (426, "no", None));
    }
    assert_eq!((app.outcomes("success"), endpoint.connections()), (2.0, 1));
}

#[test]
fn a_switch_that_was_not_asked_for_is_refused() {
    let chosen = |fields: &'static str| {
        Endpoint::answering(move |_| format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{fields}\r\n"))
    };
    let plain = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned();
    let offered = format!("{ASK}\r\n");
    let cases = [
        (&plain, "upgrade: echo\r\n", "without being asked"),
        (&offered, "upgrade: other\r\n", "not offered"),
        (&offered, "upgrade: echo\r\nupgrade: other\r\n", "not offered"),
        (&offered, "", "not offered"),
    ];
    for (request, fields, why) in cases {
        let endpoint = chosen(fields);
        let app = App::before(&endpoint);
        let answer = app.client().ask(request);
        assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"bad_response".into()), "{fields}");
        assert!(answer.text().contains(why), "{answer:?}");
        assert_eq!(app.outcomes("bad_response"), 1.0);
    }
}

#[test]
fn a_switch_before_the_whole_request_is_refused() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.head().unwrap();
        wire.write(format!("{SWITCH}\r\n")).unwrap();
        wire.is_closed();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    let answer = client.ask(&format!("{}content-length: 5\r\n\r\nab", ASK.replace("GET", "POST")));
    assert_eq!(answer.status(), 502, "{answer:?}");
}

#[test]
fn what_is_no_offer_is_not_passed_on() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    let mut client = app.client();
    for (fields, kept) in [
        ("upgrade: websocket\r\n", None),
        ("connection: upgrade\r\n", None),
        ("connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n", None),
        ("connection: upgrade\r\nupgrade: H2C, foo/2\r\nupgrade: bar\r\n", Some("upgrade: foo/2, bar\n")),
    ] {
        let answer = client.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        let got = answer.text().lines().find(|line| line.starts_with("upgrade:")).map(|line| format!("{line}\n"));
        assert_eq!((answer.status(), got.as_deref()), (200, kept), "{fields}");
        assert_eq!(answer.text().contains("connection: upgrade"), kept.is_some(), "{fields}");
    }
    let old = app.client().ask("GET / HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n");
    assert!(!old.text().contains("upgrade"), "HTTP/1.0 knows no upgrade: {}", old.text());
}

#[test]
fn much_passes_both_ways_at_once_and_unchanged() {
    const LENGTH: usize = 24 << 20;
    let endpoint = switching(|wire, _| {
        let writing = wire.stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || send_pattern(writing, LENGTH));
        expect_pattern(wire, LENGTH);
        sending.join().unwrap();
    });
    let app = App::before(&endpoint);
    let client = switched(&app);
    let writing = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        send_pattern(&writing, LENGTH);
        writing.shutdown(Shutdown::Write).unwrap();
    });
    // What came with the head is the reader's already.
    expect_pattern(client, LENGTH);
    sending.join().unwrap();
    eventually("all of it was taken", || app.outcomes("success") == 1.0);
}

#[test]
fn a_side_that_takes_nothing_holds_the_other_back() {
    const ALL: usize = 64 << 20;
    let endpoint = switching(|wire, _| {
        let mut writing = wire.stream.try_clone().unwrap();
        writing.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let (mut taken, block) = (0, vec![b'x'; 1 << 16]);
        while taken < ALL && writing.write_all(&block).is_ok() {
            taken += block.len();
        }
        assert!(taken < ALL, "{taken} bytes are somewhere");
    });
    let app = App::before(&endpoint);
    let client = switched(&app);
    eventually("the endpoint was held back, and gave up", || {
        let mut one = [0];
        // Looks without taking.
        client.stream.peek(&mut one).unwrap() == 1 && endpoint.connections() == 1 && {
            std::thread::sleep(Duration::from_millis(600));
            true
        }
    });
    drop(client);
    eventually("the client has left", || app.outcomes("client_cancel") == 1.0);
}

#[test]
fn the_end_of_one_side_leaves_the_other_open() {
    let endpoint = switching(|mut wire, _| {
        let mut said = String::new();
        wire.read_to_string(&mut said).unwrap();
        wire.write(format!("you said {said}")).unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = switched(&app);
    client.write("all of this").unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "you said all of this");
    eventually("it is a success", || app.outcomes("success") == 1.0);

    let (told, heard) = mpsc::channel();
    let endpoint = switching(move |mut wire, _| {
        wire.write("bye").unwrap();
        wire.stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        wire.read_to_string(&mut rest).unwrap();
        told.send(rest).unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = switched(&app);
    let mut bye = String::new();
    client.read_to_string(&mut bye).unwrap();
    assert_eq!(bye, "bye");
    client.write("and you").unwrap();
    drop(client);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "and you");
    eventually("it is a success, too", || app.outcomes("success") == 1.0);
}

/// Closes so that the other end gets a reset.
fn reset(wire: Wire) {
    socket2::SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn an_endpoint_that_dies_ends_it_and_is_blamed() {
    let endpoint = switching(|mut wire, _| {
        let mut byte = [0];
        wire.read_exact(&mut byte).unwrap();
        reset(wire);
    });
    let app = App::before(&endpoint);
    let mut client = switched(&app);
    client.write("x").unwrap();
    assert!(client.is_closed());
    eventually("it is the version's fault", || app.outcomes("truncated") == 1.0);
    assert_eq!(app.metric("pointsman_requests_in_flight"), 0.0);
}

#[test]
fn a_client_that_dies_cancels_the_endpoint_s_work() {
    let (told, gone) = mpsc::channel();
    let endpoint = switching(move |mut wire, _| {
        while wire.write("token ").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        told.send(()).unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = switched(&app);
    let mut token = [0; 6];
    client.read_exact(&mut token).unwrap();
    reset(client);
    gone.recv_timeout(PATIENCE).unwrap();
    eventually("it is counted as the client's doing", || app.outcomes("client_cancel") == 1.0);
    assert_eq!(app.metric("pointsman_requests_in_flight"), 0.0);
}

#[test]
fn silence_ends_it_and_is_the_fault_of_whoever_owes_a_word() {
    let settings = "    timeouts: { idle: 100ms }\n";
    for (word, outcome) in [("", "client_cancel"), ("question", "idle_timeout")] {
        let endpoint = switching(|mut wire, _| {
            let mut rest = String::new();
            let _ = wire.read_to_string(&mut rest);
        });
        let app = App::before_with(&endpoint, settings);
        let mut client = switched(&app);
        client.write(word).unwrap();
        assert!(client.is_closed());
        eventually("it is counted", || app.outcomes(outcome) == 1.0);
    }
}

#[test]
fn a_tunnel_that_speaks_now_and_then_outlives_the_idle_time_out() {
    let endpoint = switching(echo);
    let app = App::before_with(&endpoint, "    timeouts: { idle: 400ms }\n");
    let mut client = switched(&app);
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(1200) {
        exchange(&mut client, b"still here");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stop_sends_nothing_into_it_and_waits_for_its_end() {
    let endpoint = switching(echo);
    let mut app = App::before(&endpoint);
    let mut client = switched(&app);
    exchange(&mut client, b"before");
    let (running, proxy) = (app.running.take().unwrap(), app.proxy);
    let stopping = std::thread::spawn(move || running.stop());
    eventually("nothing new is accepted", || std::net::TcpStream::connect(proxy).is_err());
    exchange(&mut client, b"during");
    assert!(!stopping.is_finished());
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(client.is_closed());
    stopping.join().unwrap();
}

#[test]
fn the_drain_deadline_cuts_it() {
    let endpoint = switching(echo);
    let url = endpoint.url();
    let mut app = App::with_yaml(&format!(
        "limits: {{ drain_timeout: 200ms }}\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n"
    ));
    let mut client = switched(&app);
    exchange(&mut client, b"before");
    let registry = app.running.as_ref().unwrap().registry.clone();
    app.running.take().unwrap().stop();
    assert!(client.is_closed());
    assert!(registry.versions().iter().all(|version| version.totals().in_flight() == 0), "its record was written");
}
