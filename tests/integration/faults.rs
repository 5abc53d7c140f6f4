//! Bad requests, and endpoints that fail: each gets its status, its code and its outcome.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{App, Endpoint, Message, PATIENCE, Wire, eventually, ok, status, unused_address};

/// Asserts an answer of the proxy's own.
fn check(answer: &Message, status: u16, code: &str) {
    assert_eq!((answer.status(), answer.header("content-type")), (status, Some("application/json")), "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{answer:?}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
}

#[test]
fn a_connection_closed_while_idle_never_shows() {
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = closed.clone();
    // Each connection serves one request and closes without a word: every pooled one is stale.
    let endpoint = Endpoint::start(move |mut wire| {
        if let Some(request) = wire.message() {
            let _ = wire.write(ok(&request.start));
        }
        drop(wire);
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    for number in 0..200 {
        // What may be repeated survives also a close that crosses it. A POST must not be repeated, so
        // for it the close has to have arrived, seen by the proxy or not.
        if number % 3 == 1 {
            eventually("the last connection is closed", || closed.load(Ordering::SeqCst) == number);
        }
        let body = "x".repeat(number % 3);
        let method = ["GET", "POST", "PUT"][number % 3];
        let answer = client
            .ask(&format!("{method} /{number} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        assert_eq!((answer.status(), answer.text()), (200, format!("{method} /{number} HTTP/1.1").as_str()));
    }
    assert_eq!(app.outcomes("success"), 200.0);
}

#[test]
fn a_close_that_crosses_the_request_is_survived_where_repeating_is_safe() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    // The second request on each connection is read and not answered.
    let endpoint = Endpoint::start(move |mut wire| {
        if wire.message().is_some() {
            let _ = wire.write(ok("x"));
        }
        if wire.message().is_some() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    for _ in 0..10 {
        assert_eq!(client.get("/", "u").status(), 200);
    }
    assert!(seen.load(Ordering::SeqCst) > 0, "the test met no such close");
    // A POST may have been acted on: it is not sent twice.
    let post = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    if post.status() != 200 {
        check(&post, 502, "upstream_reset");
    }
}

#[test]
fn no_route_is_404() {
    let endpoint = Endpoint::saying("x");
    let app = App::before_with(&endpoint, "    match: [{ host: known.test, path_prefix: /v1 }]\n");
    let mut client = app.client();
    check(&client.ask("GET /v1 HTTP/1.1\r\nhost: other.test\r\n\r\n"), 404, "no_route");
    check(&client.ask("GET /v10 HTTP/1.1\r\nhost: known.test\r\n\r\n"), 404, "no_route");
    assert_eq!(client.ask("GET /v1/x HTTP/1.1\r\nhost: KNOWN.test:8080\r\n\r\n").text(), "x");
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"no_route\"}"), 2.0);
}

#[test]
fn no_endpoint_is_503() {
    let app = App::with_agents("  bot: { versions: { 1.0.0: { endpoints: [] } }, stable: 1.0.0 }\n");
    check(&app.client().get("/", "u"), 503, "no_endpoint");
    assert_eq!(app.outcomes("no_endpoint"), 1.0);
}

#[test]
fn a_refused_connection_is_502_and_another_endpoint_is_tried() {
    let dead = unused_address();
    let app = App::with_agents(&format!(
        "  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['http://{dead}'] }} }}, stable: 1.0.0 }}\n"
    ));
    check(&app.client().get("/", "u"), 502, "connect_failed");
    assert_eq!(app.outcomes("connect_failed"), 1.0);

    let live = Endpoint::saying("alive");
    let app = App::with_agents(&format!(
        "  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['http://{dead}', '{}'] }} }}, stable: 1.0.0 }}\n",
        live.url()
    ));
    let mut client = app.client();
    for _ in 0..50 {
        assert_eq!(client.get("/", "u").text(), "alive");
    }
    assert_eq!(app.outcomes("success"), 50.0);
}

#[test]
fn an_endpoint_that_never_answers_is_504() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.message();
        assert!(wire.is_closed());
    });
    let app = App::before_with(&endpoint, "    timeouts: { response: 200ms }\n");
    check(&app.client().get("/", "u"), 504, "response_timeout");
    assert_eq!(app.outcomes("response_timeout"), 1.0);
}

#[test]
fn a_stream_that_stands_still_is_cut() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.message();
        wire.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
        assert!(wire.is_closed());
    });
    let app = App::before_with(&endpoint, "    timeouts: { idle: 200ms }\n");
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(client.message().is_none());
    eventually("it is counted", || app.outcomes("idle_timeout") == 1.0);
}

#[test]
fn garbage_and_early_ends_are_502() {
    for (answer, code, outcome) in [
        ("SSH-2.0-OpenSSH_9\r\n", "bad_response", "bad_response"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", "bad_response", "bad_response"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "bad_response", "bad_response"),
        ("", "upstream_reset", "reset"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "upstream_reset", "reset"),
    ] {
        let endpoint = Endpoint::start(move |mut wire| {
            wire.message();
            let _ = wire.write(answer);
        });
        let app = App::before(&endpoint);
        check(&app.client().get("/", "u"), 502, code);
        assert_eq!(app.outcomes(outcome), 1.0, "{answer:?}");
    }
}

#[test]
fn a_body_that_breaks_off_is_never_passed_as_whole() {
    for head in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let endpoint = Endpoint::start(move |mut wire| {
            wire.message();
            let _ = wire.write(format!("HTTP/1.1 200 OK\r\n{head}"));
        });
        let app = App::before(&endpoint);
        let mut client = app.client();
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert!(client.message().is_none(), "{head:?}");
        eventually("it is counted", || app.outcomes("truncated") == 1.0);
    }
}

#[test]
fn server_errors_pass_and_count() {
    let endpoint = Endpoint::answering(|_| status(500));
    let app = App::before(&endpoint);
    let answer = app.client().get("/", "u");
    assert_eq!((answer.status(), answer.version(), answer.text()), (500, "1.0.0", ""));
    assert_eq!(app.outcomes("server_error"), 1.0);
    assert_eq!(app.metric("pointsman_requests_total{agent=\"bot\",environment=\"production\",outcome=\"server_error\",status_class=\"5xx\",version=\"1.0.0\"}"), 1.0);
}

#[test]
fn client_errors_of_the_endpoint_pass_unchanged() {
    // An empty 400 of the endpoint's must not be taken for one of hyper's own.
    let endpoint = Endpoint::answering(|_| status(400));
    let app = App::before(&endpoint);
    let answer = app.client().get("/", "u");
    assert_eq!((answer.status(), answer.text(), answer.version()), (400, "", "1.0.0"));
}

#[test]
fn malformed_requests_are_400_and_the_connection_closes() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    for request in [
        "GARBAGE\r\n\r\n",
        "GET / HTTP/1.1\r\nhost a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nbad name: x\r\n\r\n",
        "GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ten\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let mut client = app.client();
        check(&client.ask(request), 400, "bad_request");
        assert!(client.is_closed(), "{request:?}");
    }
    // Also as the second request of a connection.
    let mut client = app.client();
    assert_eq!(client.get("/", "u").status(), 200);
    check(&client.ask("GARBAGE\r\n\r\n"), 400, "bad_request");
}

#[test]
fn what_follows_a_malformed_body_is_no_request() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    for body in [
        "3c\n0\r\n\r\n",
        "XYZ\r\n0\r\n\r\n",
        "1\r\nxoverlong\r\n0\r\n\r\n",
        "0\r\nno field\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = app.client();
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer =
            client.ask(&format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}{smuggled}"));
        check(&answer, 400, "bad_request");
        assert_eq!(answer.header("connection"), Some("close"), "{body:?}");
        assert!(client.is_closed(), "{body:?}");
    }
}

#[test]
fn a_length_beside_a_coding_is_refused() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "transfer-encoding: chunked, gzip",
    ] {
        let mut client = app.client();
        check(&client.ask(&format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n")), 400, "bad_request");
        assert!(client.is_closed(), "{fields:?}");
    }
}

#[test]
fn a_client_that_reads_nothing_before_it_has_sent_everything_is_served() {
    // More than what all sockets between hold, both ways at once.
    const BYTES: usize = 24 << 20;
    let endpoint = Endpoint::start(|mut wire| {
        let _ = wire.head();
        let mut back = wire.writer();
        let answer = std::thread::spawn(move || {
            back.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes()).unwrap();
            (0..BYTES / (64 << 10)).for_each(|_| back.write_all(&[b'x'; 64 << 10]).unwrap());
        });
        let taken = std::io::copy(&mut wire.take(BYTES as u64), &mut std::io::sink());
        assert_eq!(taken.unwrap(), BYTES as u64);
        answer.join().unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BYTES}\r\n\r\n")).unwrap();
    (0..BYTES / (64 << 10)).for_each(|_| client.write([b'y'; 64 << 10]).unwrap());
    assert_eq!(client.message().unwrap().body.len(), BYTES);
}

#[test]
fn a_broken_answer_never_looks_whole_to_a_client_of_http_1_0() {
    let endpoint = Endpoint::start(|mut wire| {
        let _ = wire.head();
        wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET / HTTP/1.0\r\nhost: a\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let read = client.read_to_end(&mut rest);
    assert_eq!(read.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset), "{rest:?}");
}

#[test]
fn requests_need_one_host() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    check(&app.client().ask("GET / HTTP/1.1\r\n\r\n"), 400, "bad_request");
    check(&app.client().ask("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"), 400, "bad_request");
}

#[test]
fn connect_is_not_supported() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    check(&app.client().ask("CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n"), 501, "method_not_supported");
}

#[test]
fn heads_over_the_limits_are_431() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    let long = "x".repeat(40 << 10);
    check(&app.client().ask(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n")), 431, "head_too_large");
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    check(&app.client().ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")), 431, "head_too_large");
}

#[test]
fn bodies_over_the_limit_are_413() {
    let endpoint = Endpoint::start(|mut wire| while wire.message().is_some() {});
    let app = App::before_with(&endpoint, "    max_request_body: 1KiB\n");
    let declared = app.client().ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n");
    check(&declared, 413, "body_too_large");
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let mut client = app.client();
    client
        .write(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"))
        .unwrap();
    check(&client.message().unwrap(), 413, "body_too_large");
    assert_eq!(app.outcomes("client_error"), 1.0, "only the second reached a version, and is not its fault");
}

#[test]
fn a_client_whose_body_breaks_is_not_the_version_s_fault() {
    let endpoint = Endpoint::start(|mut wire| while wire.message().is_some() {});
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n").unwrap();
    check(&client.message().unwrap(), 400, "bad_request");
    eventually("it is counted", || app.outcomes("client_error") == 1.0);
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let endpoint = Endpoint::saying("x");
    let url = endpoint.url();
    let app = App::with_yaml(&format!(
        "limits: {{ head_timeout: 200ms, keep_alive_timeout: 1s }}\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n"
    ));
    let mut silent = app.client();
    check(&silent.message().unwrap(), 408, "head_timeout");
    let mut half = app.client();
    half.write("GET / HTT").unwrap();
    check(&half.message().unwrap(), 408, "head_timeout");
    // Between requests there is nothing to answer: the connection just closes.
    let mut idle = app.client();
    assert_eq!(idle.get("/", "u").status(), 200);
    assert!(idle.is_closed());
}

#[test]
fn at_the_connection_limit_clients_wait() {
    let endpoint = Endpoint::saying("x");
    let url = endpoint.url();
    let app = App::with_yaml(&format!(
        "limits: {{ connections: 2 }}\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n"
    ));
    let mut one = app.client();
    let mut two = app.client();
    assert_eq!((one.get("/", "u").status(), two.get("/", "u").status()), (200, 200));
    let mut three = app.client();
    three.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    three.stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut byte = [0];
    assert!(std::io::Read::read(&mut three.stream, &mut byte).is_err(), "the third was served over the limit");
    drop(one);
    three.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(three.message().unwrap().status(), 200);
    drop(Wire::connect(app.proxy));
}

#[test]
fn what_a_client_broke_is_never_sent_again_as_whole() {
    let (told, seen) = std::sync::mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.message() {
            told.send(String::from_utf8_lossy(&request.body).into_owned()).unwrap();
            let _ = wire.write(ok("x"));
        }
    });
    let app = App::before_with(&endpoint, "    max_request_body: 1KiB\n");
    let mut client = app.client();
    assert_eq!(client.get("/", "u").status(), 200);
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "");
    let chunk = |byte: &str| format!("258\r\n{}\r\n", byte.repeat(600));
    client.write("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    client.write(chunk("a") + &chunk("b") + "0\r\n\r\n").unwrap();
    check(&client.message().unwrap(), 413, "body_too_large");
    let mut leaver = app.client();
    assert_eq!(leaver.get("/", "u").status(), 200);
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "");
    leaver.write("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
    drop(leaver);
    eventually("both are over", || {
        app.metric("pointsman_requests_in_flight") == 0.0
            && app.outcomes("client_error") + app.outcomes("client_cancel") == 2.0
    });
    assert!(seen.try_recv().is_err(), "a broken body arrived as a whole one");
}

#[test]
fn an_answer_with_trailers_counts_by_its_status() {
    let endpoint = Endpoint::answering(|_| {
        "HTTP/1.1 500 X\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n1\r\nx\r\n0\r\nx-t: 1\r\n\r\n".into()
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().status(), 500);
    eventually("it is counted", || app.outcomes("server_error") == 1.0);
    assert_eq!(app.outcomes("client_cancel"), 0.0);
}

#[test]
fn a_stalled_upload_is_the_client_s_fault() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.head();
        while !wire.is_closed() {}
    });
    let app = App::before_with(&endpoint, "    timeouts: { response: 300ms }\n");
    let mut client = app.client();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
    check(&client.message().unwrap(), 408, "body_timeout");
    assert_eq!((app.outcomes("client_error"), app.outcomes("response_timeout")), (1.0, 0.0));
}

#[test]
fn stale_connections_and_dead_endpoints_together_are_survived() {
    let (dead, gone) = (unused_address(), unused_address());
    let live = Endpoint::start(|mut wire| {
        if wire.message().is_some() {
            let _ = wire.write(ok("alive"));
        }
    });
    let app = App::with_agents(&format!(
        "  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['http://{dead}', 'http://{gone}', '{}'] }} }}, stable: 1.0.0 }}\n",
        live.url()
    ));
    let mut client = app.client();
    for _ in 0..100 {
        assert_eq!(client.get("/", "u").text(), "alive");
    }
}

#[test]
fn targets_and_hosts_that_are_none_are_refused() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    for request in [
        "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b<>/\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ] {
        check(&app.client().ask(request), 400, "bad_request");
    }
    let coded = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    check(&app.client().ask(coded), 501, "method_not_supported");
}
