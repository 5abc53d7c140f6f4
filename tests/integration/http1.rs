//! HTTP/1.1 through the proxy, as a client and an endpoint see it on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::harness::{App, Endpoint, Wire, ok};

#[test]
fn keep_alive_holds_on_both_sides() {
    let endpoint = Endpoint::saying("hello");
    let app = App::before(&endpoint);
    let mut client = app.client();
    for _ in 0..20 {
        let answer = client.get("/", "u1");
        assert_eq!((answer.status(), answer.text(), answer.version()), (200, "hello", "1.0.0"));
    }
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let endpoint = Endpoint::answering(|request| ok(&request.start));
    let app = App::before(&endpoint);
    let mut client = app.client();
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    client.write(one("/1") + &one("/2") + &one("/3")).unwrap();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.message().unwrap().text(), format!("GET {path} HTTP/1.1"));
    }
}

#[test]
fn bodies_pass_in_both_framings() {
    let endpoint = Endpoint::answering(|request| {
        let framing = request.header("transfer-encoding").or(request.header("content-length")).unwrap_or("none");
        let body = String::from_utf8(request.body.clone()).unwrap();
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{framing} {body}\r\n0\r\n\r\n",
            framing.len() + 1 + body.len()
        )
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    let sized = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((sized.text(), sized.header("transfer-encoding")), ("5 hello", Some("chunked")));
    let chunked =
        client.ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
    assert_eq!(chunked.text(), "chunked hello");
    let empty = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(empty.text(), "0 ");
    let get_with_body =
        client.ask("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    assert_eq!(get_with_body.text(), "chunked hi");
}

#[test]
fn a_stream_passes_chunk_by_chunk() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst\n\r\n",
        )
        .unwrap();
        wait.lock().unwrap().recv().unwrap();
        wire.write("7\r\nsecond\n\r\n0\r\n\r\n").unwrap();
        wire.line();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().status(), 200);
    // The second chunk is sent only after the first has arrived: buffering would hang here.
    assert_eq!(client.chunk().unwrap().unwrap(), b"first\n");
    go.send(()).unwrap();
    assert_eq!(client.chunk().unwrap().unwrap(), b"second\n");
    assert_eq!(client.chunk().unwrap(), None);
}

#[test]
fn a_request_stream_passes_chunk_by_chunk() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.head().unwrap();
        let first = wire.chunk().unwrap().unwrap();
        wire.write(ok(std::str::from_utf8(&first).unwrap())).unwrap();
        wire.line();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n").unwrap();
    // The request body has not ended, and yet the answer is here.
    assert_eq!(client.message().unwrap().text(), "early");
}

#[test]
fn a_slow_reader_holds_the_endpoint_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let progress = sent.clone();
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        wire.write("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").unwrap();
        let block = vec![b'x'; 1 << 16];
        while wire.write(&block).is_ok() {
            progress.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.head().unwrap();
    // The client reads no more; the endpoint's writes must come to a stop in the kernel's buffers.
    crate::harness::eventually("the endpoint is held back", || {
        let before = sent.load(Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(600));
        before > 0 && sent.load(Ordering::SeqCst) == before
    });
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "{} bytes were taken", sent.load(Ordering::SeqCst));
}

#[test]
fn answers_without_a_body_keep_their_framing() {
    let endpoint = Endpoint::answering(|request| match request.start.split(' ').nth(1).unwrap() {
        "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n".into(),
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 42\r\n\r\n".into(),
        _ => ok("after"),
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status(), head.header("content-length")), (200, Some("42")));
    client.write("GET /204 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let empty = client.head().unwrap();
    assert_eq!((empty.status(), empty.header("content-length"), empty.header("transfer-encoding")), (204, None, None));
    client.write("GET /304 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let unchanged = client.head().unwrap();
    assert_eq!((unchanged.status(), unchanged.header("etag")), (304, Some("\"x\"")));
    // Had any of them been misframed, this one would not be read right.
    assert_eq!(client.get("/", "u").text(), "after");
    assert_eq!(endpoint.connections(), 1);
    assert_eq!(app.outcomes("success"), 4.0);
}

#[test]
fn a_body_that_ends_with_the_connection_is_whole() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.message();
        let _ = wire.write("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    assert_eq!(client.get("/", "u").text(), "until the end");
    assert_eq!(client.get("/", "u").text(), "until the end");
    assert_eq!(app.outcomes("success"), 2.0);
}

#[test]
fn expect_100_continue_waits_for_the_endpoint() {
    let endpoint = Endpoint::asking();
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").unwrap();
    let interim = client.head().unwrap();
    assert_eq!(interim.status(), 100);
    client.write("body").unwrap();
    assert_eq!(client.message().unwrap().text(), "body");
    // A refusal comes instead of the interim answer: the client never sends the body.
    client.write("POST /refuse HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").unwrap();
    assert_eq!(client.message().unwrap().status(), 417);
}

#[test]
fn early_hints_reach_the_client() {
    let endpoint = Endpoint::answering(|_| {
        format!("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n{}", ok("late"))
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    for _ in 0..2 {
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let hints = client.head().unwrap();
        assert_eq!((hints.status(), hints.header("link"), hints.header("x-hop")), (103, Some("</a.css>"), None));
        assert_eq!(client.message().unwrap().text(), "late");
    }
    let mut old = app.client();
    old.write("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(old.head().unwrap().status(), 200, "HTTP/1.0 knows no interim answers");
}

#[test]
fn absolute_form_targets_become_origin_form() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    let mut client = app.client();
    let answer = client.ask("GET http://other.test:81/a?b=c HTTP/1.1\r\nhost: ignored\r\n\r\n");
    assert!(answer.text().starts_with("GET /a?b=c HTTP/1.1\n"), "{}", answer.text());
    assert!(answer.text().contains("\nhost: other.test:81\n"), "{}", answer.text());
    let root = client.ask("GET http://other.test HTTP/1.1\r\nhost: ignored\r\n\r\n");
    assert!(root.text().starts_with("GET / HTTP/1.1\n"), "{}", root.text());
    let options = client.ask("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(options.text().starts_with("OPTIONS * HTTP/1.1\n"), "{}", options.text());
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let endpoint = Endpoint::answering(|request| {
        let seen: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        let text = seen.join(" ");
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: keep-alive, x-drop\r\nkeep-alive: timeout=9\r\nx-drop: 1\r\nx-kept: 1\r\n\r\n{text}",
            text.len()
        )
    });
    let app = App::before(&endpoint);
    let answer = app.client().ask(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, x-mine\r\nx-mine: 1\r\nkeep-alive: 1\r\nproxy-connection: x\r\nte: gzip\r\nupgrade: foo\r\nx-pointsman-version: 9.9.9\r\nx-end: 1\r\n\r\n",
    );
    let mut seen: Vec<_> = answer.text().split(' ').collect();
    seen.sort_unstable();
    assert_eq!(seen, ["forwarded", "host", "x-end", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
    assert_eq!(
        (answer.header("x-kept"), answer.header("x-drop"), answer.header("keep-alive")),
        (Some("1"), None, None)
    );
}

#[test]
fn the_endpoint_learns_whom_it_serves() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    let answer = app.client().ask("GET / HTTP/1.1\r\nhost: a.test:80\r\nx-forwarded-for: 192.0.2.1\r\n\r\n");
    for line in [
        "host: a.test:80",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.test:80",
        "x-forwarded-proto: http",
        "forwarded: for=127.0.0.1;host=\"a.test:80\";proto=http",
    ] {
        assert!(answer.text().contains(&format!("\n{line}\n")), "{line} is not in {}", answer.text());
    }
}

#[test]
fn host_is_passed_or_rewritten_by_choice() {
    let endpoint = Endpoint::echo();
    for (setting, expected) in [
        ("pass", "a.test".to_owned()),
        ("endpoint", endpoint.address.to_string()),
        ("inner.test", "inner.test".to_owned()),
    ] {
        let app = App::before_with(&endpoint, &format!("    host: {setting}\n"));
        let answer = app.client().ask("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
        assert!(answer.text().contains(&format!("\nhost: {expected}\n")), "{setting}: {}", answer.text());
    }
}

#[test]
fn http_1_0_clients_are_served() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET /old HTTP/1.0\r\n\r\n").unwrap();
    let answer = client.message().unwrap();
    assert!(answer.text().starts_with("GET /old HTTP/1.1\n"), "{}", answer.text());
    assert!(client.is_closed(), "HTTP/1.0 closes unless asked to keep alive");
}

#[test]
fn the_version_header_can_be_turned_off() {
    let endpoint = Endpoint::saying("x");
    let url = endpoint.url();
    let app = App::with_yaml(&format!(
        "version_header: false\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n"
    ));
    assert_eq!(app.client().get("/", "u").header("x-pointsman-version"), None);
}

#[test]
fn unix_sockets_are_endpoints_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
            seen.push(byte[0]);
        }
        std::io::Write::write_all(&mut stream, ok("by socket").as_bytes()).unwrap();
    });
    let app = App::with_agents(&format!(
        "  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['unix:{}'] }} }}, stable: 1.0.0 }}\n",
        path.display()
    ));
    assert_eq!(app.client().get("/", "u").text(), "by socket");
    server.join().unwrap();
}

#[test]
fn a_key_in_the_body_decides_and_the_body_arrives_whole() {
    let (one, two) = (Endpoint::echo(), Endpoint::echo());
    let app = App::with_agents(&format!(
        "  bot:\n    bucketing: {{ key: ['json:/user'], json_limit: 1KiB }}\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    split: {{ 1.0.0: 50%, 2.0.0: 50% }}\n",
        one.url(),
        two.url()
    ));
    let mut client = app.client();
    let mut ask = |user: &str, padding: usize| {
        let body = format!("{{\"user\":\"{user}\",\"pad\":\"{}\"}}", "x".repeat(padding));
        let answer = client.ask(&format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!(answer.text().ends_with(&body), "{}", answer.text());
        answer.version().to_owned()
    };
    let versions: Vec<_> = (0..40).map(|n| ask(&format!("user-{n}"), 10)).collect();
    let again: Vec<_> = (0..40).map(|n| ask(&format!("user-{n}"), 10)).collect();
    assert_eq!(versions, again);
    assert!(versions.contains(&"1.0.0".to_owned()) && versions.contains(&"2.0.0".to_owned()));
    // Over the limit there is no key: stable, and counted.
    let large: Vec<_> = (0..40).map(|n| ask(&format!("user-{n}"), 5000)).collect();
    assert!(large.iter().all(|version| version == "1.0.0"));
    assert_eq!(app.metric("pointsman_bucketing_key_missing_total{"), 40.0);
}

#[test]
fn closing_when_asked() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    let mut client = app.client();
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").text(), "x");
    assert!(client.is_closed());
    let mut kept = Wire::connect(app.proxy);
    assert_eq!(kept.get("/", "u").text(), "x");
}
