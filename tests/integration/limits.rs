//! What a client may use, and what happens when it takes more.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::{App, Endpoint, Message, PATIENCE, Wire, eventually, ok};
use crate::http2::client::{Http2, client, get, limited};
use crate::strict::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, block, connect, frame, next_frame,
};

fn code(answer: &Message) -> (u16, String) {
    (answer.status(), answer.json()["error"]["code"].as_str().unwrap().to_owned())
}

#[test]
fn an_address_has_so_many_connections() {
    let endpoint = Endpoint::saying("x");
    let app = limited(&endpoint, "connections_per_address: 2");
    let (mut one, mut two) = (app.client(), app.client());
    assert_eq!((one.get("/", "u").status(), two.get("/", "u").status()), (200, 200));
    assert!(app.client().is_closed(), "the third is closed");
    assert_eq!(app.metric("pointsman_client_connections_refused_total"), 1.0);
    drop(one);
    eventually("there is room again", || {
        let mut again = app.client();
        let _ = again.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        again.message().is_some_and(|answer| answer.status() == 200)
    });
    assert_eq!(two.get("/", "u").status(), 200);
}

#[test]
fn a_trusted_proxy_has_as_many_as_it_needs() {
    let endpoint = Endpoint::saying("x");
    let app = App::with_yaml(&format!(
        "limits: {{ connections_per_address: 1 }}\ntrusted_proxies: [127.0.0.0/8]\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        endpoint.url()
    ));
    let mut clients = [app.client(), app.client(), app.client()];
    assert!(clients.iter_mut().all(|client| client.get("/", "u").status() == 200));
}

#[test]
fn a_connection_is_closed_in_order_after_so_many_requests() {
    let endpoint = Endpoint::saying("x");
    let app = limited(&endpoint, "requests_per_connection: 3");
    let mut http1 = app.client();
    for last in [None, None, Some("close")] {
        let answer = http1.get("/", "u");
        assert_eq!((answer.status(), answer.header("connection")), (200, last));
    }
    assert!(http1.is_closed());
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for _ in 0..3 {
            assert_eq!(http2.get("/").await.text(), "x");
        }
        assert!(http2.ended.await.unwrap().is_ok(), "closed in order");
    });
}

#[test]
fn an_exchange_has_its_time_until_the_head_and_until_the_end() {
    let endpoint = Endpoint::start(|mut wire| {
        let Some(request) = wire.message() else { return };
        if request.start.contains("/silent") {
            assert!(wire.is_closed());
            return;
        }
        let media = if request.start.contains("/events") { "text/event-stream" } else { "application/octet-stream" };
        let _ = wire.write(format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ntransfer-encoding: chunked\r\n\r\n"));
        // It never stands still, and takes longer than it may.
        for _ in 0..20 {
            if wire.write("8\r\ndata: x\n\r\n").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = wire.write("0\r\n\r\n");
    });
    let app = App::before_with(&endpoint, "    timeouts: { request: 400ms }\n");
    assert_eq!(code(&app.client().get("/silent", "u")), (504, "request_timeout".into()));
    let mut slow = app.client();
    slow.write("GET /bytes HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(slow.message().is_none(), "it is cut, and does not look whole");
    eventually("both are held against the version", || app.outcomes("response_timeout") == 2.0);
    let events = app.client().get("/events", "u");
    assert_eq!(events.body.len(), 160, "a stream has until it is silent");
    assert_eq!(app.outcomes("success"), 1.0);
}

#[test]
fn a_client_s_slow_upload_is_not_the_version_s_fault_when_the_time_is_up() {
    let endpoint = Endpoint::start(|mut wire| while wire.message().is_some() {});
    let app = App::before_with(&endpoint, "    timeouts: { request: 300ms }\n");
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
    assert_eq!(code(&client.message().unwrap()), (408, "body_timeout".into()));
    assert_eq!((app.outcomes("client_error"), app.outcomes("response_timeout")), (1.0, 0.0));
}

#[test]
fn each_route_has_its_own_largest_body() {
    let endpoint = Endpoint::saying("x");
    let app = App::before_with(
        &endpoint,
        "    max_request_body: 1KiB\n    match: [{ path_prefix: / }, { path_prefix: /files/, max_request_body: 4KiB }, { path_prefix: /none, max_request_body: 0B }]\n",
    );
    let post = |path: &str, length: usize| {
        let body = "x".repeat(length);
        app.client().ask(&format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}"))
    };
    for (path, length, status) in [
        ("/", 1024, 200),
        ("/", 1025, 413),
        ("/files/a", 4096, 200),
        ("/files/a", 4097, 413),
        ("/files/../a", 1025, 413),
        ("/none", 1, 413),
        ("/none", 0, 200),
    ] {
        assert_eq!(post(path, length).status(), status, "{path} {length}");
    }
    let mut chunked = app.client();
    let chunk = format!("1001\r\n{}\r\n0\r\n\r\n", "x".repeat(0x1001));
    let answer =
        chunked.ask(&format!("POST /files/a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"));
    assert_eq!(code(&answer), (413, "body_too_large".into()));
    assert!(answer.text().contains("4096 bytes"), "{answer:?}");
}

const REQUEST: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/wait")];

/// Writes until the proxy has closed the connection; it must, and all others must not notice.
fn check_flood_ends(app: &App, what: &str, opening: &[u8], piece: impl Fn(u32) -> Vec<u8>) {
    let mut wire = connect(app);
    wire.write(opening).unwrap();
    let mut number = 0;
    // Far more than any limit, and bounded.
    while number < 200_000 && wire.write((0..100).flat_map(|of| piece(number + of)).collect::<Vec<_>>()).is_ok() {
        number += 100;
    }
    assert!(number < 200_000, "{what}: {number} frames were taken");
    eventually(&format!("{what}: it is gone"), || {
        app.metric("pointsman_client_connections_open") + app.metric("pointsman_requests_in_flight") == 0.0
    });
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"internal\"}"), 0.0, "{what}");
    assert_eq!(app.client().get("/", "u").text(), "x", "{what}");
    eventually("that one, too", || app.metric("pointsman_client_connections_open") == 0.0);
}

/// Answers all but `/wait`.
fn patient() -> Endpoint {
    Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            if request.start.contains("/wait") {
                let _ = wire.is_closed();
                return;
            }
            let _ = wire.write(ok("x"));
        }
    })
}

#[test]
fn floods_of_frames_that_carry_nothing_end_their_connection() {
    const PRIORITY: u8 = 2;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const UNKNOWN: u8 = 0x42;
    let endpoint = patient();
    let app = App::before(&endpoint);
    let open = frame(HEADERS, END_HEADERS, 1, &block(&REQUEST));
    check_flood_ends(&app, "PING", &[], |_| frame(PING, 0, 0, &[0; 8]));
    check_flood_ends(&app, "SETTINGS", &[], |_| frame(SETTINGS, 0, 0, &[]));
    check_flood_ends(&app, "SETTINGS with contents", &[], |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100].repeat(100)));
    check_flood_ends(&app, "PRIORITY", &[], |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]));
    check_flood_ends(&app, "unknown", &[], |_| frame(UNKNOWN, 0, 0, &[0; 20]));
    assert_eq!(app.metric("pointsman_client_floods_total"), 5.0);
    // These the library ends by itself, and earlier: after 101 of the one, and 6 of the other.
    check_flood_ends(&app, "empty DATA", &open, |_| frame(DATA, 0, 1, &[]));
    let begin = frame(HEADERS, 0, 1, &block(&REQUEST));
    check_flood_ends(&app, "CONTINUATION", &begin, |_| frame(9, 0, 1, &[]));
    check_flood_ends(&app, "CONTINUATION with fields", &begin, |_| frame(9, 0, 1, &block(&[("x", "y")])));
}

#[test]
fn resets_beyond_what_ends_well_end_the_connection() {
    let endpoint = patient();
    let app = limited(&endpoint, "stream_resets: 50");
    let stream = |number: u32| number * 2 + 1;
    // Each is served before it is reset: what waits to be looked at has a bound of its own.
    let mut wire = connect(&app);
    let mut resets = 0;
    while resets < 1000 {
        let open = frame(HEADERS, END_STREAM | END_HEADERS, stream(resets), &block(&REQUEST));
        if wire.write(open).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
        if wire.write(frame(RST_STREAM, 0, stream(resets), &[0, 0, 0, 8])).is_err() {
            break;
        }
        resets += 1;
    }
    assert!((50..1000).contains(&resets), "{resets} resets were taken");
    eventually("it is gone", || app.metric("pointsman_client_connections_open") == 0.0);
    assert_eq!(app.metric("pointsman_client_floods_total"), 1.0);
    // Who lets as many end may cancel as many.
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for _ in 0..150 {
            assert_eq!(http2.get("/").await.text(), "x");
            let (response, mut upload) = http2.begin(get("/wait"), true).await;
            upload.send_reset(h2::Reason::CANCEL);
            drop(response);
        }
        assert_eq!(http2.get("/").await.text(), "x");
    });
}

#[test]
fn streams_that_break_the_rules_end_the_connection_at_the_limit() {
    let endpoint = Endpoint::saying("x");
    let app = limited(&endpoint, "stream_errors: 20");
    let mut wire = connect(&app);
    let fields = [&REQUEST[..], &[("te", "gzip")]].concat();
    let malformed = |stream: u32| frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields));
    let _ = wire.write((0..100).flat_map(|number| malformed(number * 2 + 1)).collect::<Vec<_>>());
    let mut resets = 0;
    let goaway = loop {
        match next_frame(&mut wire).expect("says goodbye") {
            (RST_STREAM, ..) => resets += 1,
            (GOAWAY, _, _, payload) => break payload,
            _ => {}
        }
    };
    assert_eq!(&goaway[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
    assert!(resets <= 21, "{resets}");
}

#[test]
fn a_head_in_frames_must_be_whole_in_time() {
    let endpoint = Endpoint::saying("x");
    let app = limited(&endpoint, "head_timeout: 300ms");
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&REQUEST));
    for part in
        [frame(HEADERS, END_STREAM, 1, &block(&REQUEST)), whole[..whole.len() - 3].to_vec(), whole[..4].to_vec()]
    {
        let mut wire = connect(&app);
        wire.write(part).unwrap();
        while next_frame(&mut wire).is_some() {}
    }
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"head_timeout\"}"), 3.0);
}

#[test]
fn a_head_that_is_far_too_large_ends_the_connection() {
    let endpoint = Endpoint::saying("x");
    let app = limited(&endpoint, "head_bytes: 8KiB");
    // One field is put into the table and then named again and again: few bytes, and a large head.
    let mut bomb = block(&REQUEST);
    bomb.push(0x40);
    bomb.extend(block(&[("x-bomb", &"y".repeat(3000))]).split_off(1));
    bomb.extend([0xbe; 10_000]);
    let mut wire = connect(&app);
    wire.write(frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).unwrap();
    let refused = loop {
        match next_frame(&mut wire) {
            None => break true,
            Some((GOAWAY | RST_STREAM, ..)) => break true,
            Some((HEADERS, _, 1, _)) => break false,
            Some(_) => {}
        }
    };
    assert!(refused);
    assert_eq!(app.client().get("/", "u").text(), "x");
}

/// An endpoint that sends without end, and says how much was taken of it.
fn endless() -> (Endpoint, Arc<AtomicU64>) {
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let endpoint = Endpoint::start(move |mut wire| {
        let Some(request) = wire.head() else { return };
        if request.start.contains("/other") {
            let _ = wire.write(ok("other"));
            return;
        }
        let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n");
        let block = [b'x'; 64 << 10];
        while wire.write(block).is_ok() {
            counter.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
    });
    (endpoint, written)
}

#[test]
fn a_client_that_reads_nothing_holds_little_and_is_given_up() {
    let (endpoint, written) = endless();
    let app = App::before_with(&endpoint, "    timeouts: { idle: 1s }\n");
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    eventually("it is given up", || app.outcomes("client_cancel") == 1.0);
    // What the sockets between hold, and a frame of ours.
    let most = 24 << 20;
    assert!(written.load(Ordering::SeqCst) < most, "{} bytes were taken", written.load(Ordering::SeqCst));
    assert_eq!(app.client().get("/other", "u").text(), "other");
}

#[test]
fn an_endpoint_that_reads_nothing_holds_its_client_back() {
    let endpoint = Endpoint::start(|mut wire| {
        let _ = wire.head();
        std::thread::sleep(Duration::from_secs(3));
    });
    let app = App::before_with(&endpoint, "    timeouts: { idle: 1s }\n    max_request_body: 1GiB\n");
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 500000000\r\n\r\n").unwrap();
    client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut sent, block) = (0, [b'x'; 64 << 10]);
    while sent < 500_000_000 && client.write(block).is_ok() {
        sent += block.len();
    }
    // What the sockets between hold, and what is read and dropped so that the client gets to read the answer.
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    eventually("it is over", || app.metric("pointsman_requests_in_flight") == 0.0);
}

#[test]
fn a_body_that_trickles_is_passed_on_as_it_comes_and_one_that_stops_is_cut() {
    let (told, seen) = std::sync::mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        let _ = wire.head();
        let mut byte = [0];
        while wire.read(&mut byte).is_ok_and(|count| count > 0) {
            told.send(byte[0]).unwrap();
        }
    });
    let app = App::before_with(&endpoint, "    timeouts: { idle: 500ms }\n");
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n").unwrap();
    for byte in *b"slowly" {
        client.write([byte]).unwrap();
        assert_eq!(seen.recv_timeout(PATIENCE), Ok(byte));
    }
    assert_eq!(code(&client.message().unwrap()), (408, "body_timeout".into()));
    assert_eq!(app.outcomes("client_error"), 1.0);
    drop(Wire::connect(app.proxy));
}
