//! Streams: side by side, in both directions, cancelled and stuck.

use std::future::poll_fn;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use h2::Reason;
use h2::client::Builder;
use http::{HeaderMap, HeaderValue, Method};

use super::client::{Answer, Http2, client, get, holding, limited, post, request, watching};
use super::connection::eventually_async;
use crate::harness::{App, Endpoint, eventually, ok};
use crate::upstream_http2::endpoint::{Endpoint2, fields, response, send};

#[test]
fn streams_of_one_connection_do_not_wait_for_each_other() {
    let (endpoint, go) = holding();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let (held, _) = http2.send.send_request(get("/held"), true).unwrap();
        for _ in 0..3 {
            assert_eq!(http2.get("/quick").await.text(), "GET /quick HTTP/1.1");
        }
        go.send(()).unwrap();
        let held = Answer::read(held.await.unwrap()).await.unwrap();
        assert_eq!(held.text(), "GET /held HTTP/1.1");
    });
    assert_eq!(app.metric("pointsman_client_connections_accepted_total"), 1.0);
}

#[test]
fn large_bodies_pass_unaltered_both_ways() {
    let endpoint = Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
            if wire.write(head).and_then(|()| wire.write(&request.body)).is_err() {
                return;
            }
        }
    });
    let app = App::before(&endpoint);
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for length in [None, Some(body.len())] {
            let mut request = post("/");
            if let Some(length) = length {
                request.headers_mut().insert("content-length", length.into());
            }
            let (response, mut upload) = http2.begin(request, false).await;
            // All of it is held on this side; it goes as the proxy's windows let it.
            upload.send_data(body.clone().into(), true).unwrap();
            let answer = Answer::read(response.await.unwrap()).await.unwrap();
            assert!(answer.body == body, "{length:?}: {} bytes", answer.body.len());
        }
    });
}

/// An answer; `/chunked`: its end comes apart from the last of it.
fn framed(start: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let (framing, end) = match start.contains("/chunked") {
        true if body.is_empty() => ("transfer-encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        true => (format!("transfer-encoding: chunked\r\n\r\n{length:x}"), "\r\n0\r\n\r\n"),
        false => (format!("content-length: {length}\r\n"), ""),
    };
    [format!("HTTP/1.1 200 OK\r\n{framing}\r\n").as_bytes(), body, end.as_bytes()].concat()
}

#[test]
fn bodies_of_any_size_pass_through_windows_of_any_size() {
    let endpoint = Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            wire.write(framed(&request.start, &request.body)).unwrap();
        }
    });
    let app = App::before(&endpoint);
    let sizes = [0, 1, 8191, 8192, 8193, 65_535, 65_536, 65_537, 150_000];
    for window in [100, 8192, 65_535, 1 << 20] {
        client(async {
            let mut builder = Builder::new();
            builder.initial_window_size(window);
            let mut http2 = Http2::connect_with(app.proxy, &builder).await;
            for (size, path) in sizes.into_iter().flat_map(|size| [(size, "/length"), (size, "/chunked")]) {
                let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
                let mut request = post(path);
                request.headers_mut().insert("content-length", HeaderValue::from(size));
                let (response, mut upload) = http2.begin(request, false).await;
                upload.send_data(body.clone().into(), true).unwrap();
                let answer = Answer::read(response.await.unwrap()).await.unwrap();
                assert!(answer.body == body, "{size} by {path} through {window}: {} bytes", answer.body.len());
            }
        });
    }
    assert_eq!(app.outcomes("success"), 4.0 * 2.0 * sizes.len() as f64);
}

#[test]
fn trailers_pass_both_ways() {
    let (told, takes_trailers) = mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.head() {
            assert_eq!(request.header("transfer-encoding"), Some("chunked"), "{request:?}");
            told.send(request.header("te").map(str::to_owned)).unwrap();
            while wire.chunk_data().is_some() {}
            let mut trailers = String::new();
            while let Some(line) = wire.line().filter(|line| !line.is_empty()) {
                trailers += &line;
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\ntrailer: x-end, x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\nx-end: {trailers}\r\nx-sum: 7\r\ncontent-length: 9\r\n\r\n"
            );
            wire.write(answer).unwrap();
        }
    });
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let mut request = post("/");
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let (response, mut upload) = http2.begin(request, false).await;
        upload.send_data("body".into(), false).unwrap();
        let trailers = [("x-asked", "yes"), ("host", "evil")]
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        upload.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        let answer = Answer::read(response.await.unwrap()).await.unwrap();
        let trailers = answer.trailers.expect("has trailers");
        assert_eq!((answer.body.as_slice(), trailers.len()), (&b"hi"[..], 2), "{trailers:?}");
        assert_eq!((trailers["x-end"].as_bytes(), trailers["x-sum"].as_bytes()), (&b"x-asked: yes"[..], &b"7"[..]));
    });
    // The same for a client of HTTP/1.1 that says that it takes them, and not for another.
    for (te, expected) in
        [("te: trailers\r\nconnection: te\r\n", vec!["x-end: x-asked: yes", "x-sum: 7"]), ("", vec![])]
    {
        let mut http1 = app.client();
        http1
            .write(format!(
                "POST / HTTP/1.1\r\nhost: a\r\n{te}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-asked: yes\r\n\r\n"
            ))
            .unwrap();
        http1.head().unwrap();
        while http1.chunk_data().is_some() {}
        let mut found = Vec::new();
        while let Some(line) = http1.line().filter(|line| !line.is_empty()) {
            found.push(line);
        }
        found.sort();
        assert_eq!(found, expected);
    }
    assert_eq!(app.outcomes("success"), 3.0);
    let told: Vec<_> = takes_trailers.try_iter().collect();
    assert_eq!(told, [Some("trailers".to_owned()), Some("trailers".to_owned()), None]);
}

#[test]
fn a_grpc_conversation_passes_as_it_goes() {
    // Answers each message when it comes, and says at the end how it went.
    let endpoint = Endpoint2::start(|mut call| async move {
        assert_eq!(call.request.headers()["te"], "trailers");
        let mut answer = call.head(response(&[("content-type", "application/grpc")]));
        while let Some(message) = call.request.body_mut().data().await {
            let message = message.unwrap();
            call.request.body_mut().flow_control().release_capacity(message.len()).unwrap();
            send(&mut answer, message).await.unwrap();
        }
        answer.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
    });
    let app = endpoint.app("");
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let mut request = post("/chat.Chat/Talk");
        *request.headers_mut() = fields(&[("te", "trailers"), ("content-type", "application/grpc")]);
        let (answer, mut messages) = http2.begin(request, false).await;
        messages.send_data("hello".into(), false).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), "hello");
        messages.send_data("goodbye".into(), true).unwrap();
        assert_eq!(answer.data().await.unwrap().unwrap(), "goodbye");
        assert!(answer.data().await.is_none());
        assert_eq!(answer.trailers().await.unwrap().expect("has trailers")["grpc-status"], "0");
    });
    eventually("it is counted", || app.outcomes("success") == 1.0);
}

#[test]
fn a_reset_cancels_the_endpoint_s_work_and_no_other_stream() {
    let (endpoint, mut seen) = watching();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for (request, reason, data) in [
            (get("/wait"), Reason::CANCEL, None),
            (get("/stream"), Reason::CANCEL, None),
            (post("/wait"), Reason::CANCEL, Some("half")),
            // Which some take for a clean end.
            (post("/wait"), Reason::NO_ERROR, Some("half")),
            (post("/stream"), Reason::NO_ERROR, Some("half")),
        ] {
            let what = format!("{} {} {reason:?}", request.method(), request.uri().path());
            let (response, mut upload) = http2.begin(request, data.is_none()).await;
            if let Some(data) = data {
                upload.send_data(data.into(), false).unwrap();
            }
            assert_eq!(seen.recv().await, Some("working"), "{what}");
            upload.send_reset(reason);
            drop(response);
            assert_eq!(seen.recv().await, Some("gone"), "{what}");
            assert_eq!(http2.get("/plain").await.text(), "plain", "{what}");
        }
    });
    eventually("each is counted as the client's doing", || app.outcomes("client_cancel") == 5.0);
    assert_eq!(app.metric("pointsman_requests_in_flight"), 0.0);
}

#[test]
fn a_connection_that_breaks_cancels_all_of_its_streams() {
    let (endpoint, mut seen) = watching();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let _wait = http2.send.send_request(get("/wait"), true).unwrap();
        let _stream = http2.send.send_request(get("/stream"), true).unwrap();
        let (_answer, mut upload) = http2.begin(post("/wait"), false).await;
        upload.send_data("half".into(), false).unwrap();
        for _ in 0..3 {
            assert_eq!(seen.recv().await, Some("working"));
        }
        http2.ended.abort();
        for _ in 0..3 {
            assert_eq!(seen.recv().await, Some("gone"));
        }
    });
    eventually("each is counted as the client's doing", || app.outcomes("client_cancel") == 3.0);
    eventually("the connection is gone", || app.metric("pointsman_client_connections_open") == 0.0);
}

#[test]
fn a_stream_that_its_client_does_not_read_holds_back_its_endpoint_and_then_ends() {
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.message() {
            if !request.start.contains("/endless") {
                wire.write(ok("other")).unwrap();
                continue;
            }
            wire.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
            let block = [b'x'; 64 << 10];
            while wire.write(block).is_ok() {
                counter.fetch_add(block.len() as u64, Ordering::SeqCst);
            }
            return;
        }
    });
    let app = App::before_with(&endpoint, "    timeouts: { idle: 1s }\n");
    client(async {
        // The window of the connection is large, so that only the one stream is stuck.
        let mut builder = Builder::new();
        builder.initial_connection_window_size(8 << 20);
        let mut http2 = Http2::connect_with(app.proxy, &builder).await;
        let (response, _) = http2.send.send_request(get("/endless"), true).unwrap();
        let mut stuck = response.await.unwrap().into_body();
        stuck.data().await.unwrap().unwrap();
        assert_eq!(http2.get("/").await.text(), "other");
        // It is read no more; what is in between fills up, and then it is reset.
        let ended = loop {
            match stuck.data().await {
                Some(Ok(_)) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
        assert_eq!(http2.get("/").await.text(), "other");
    });
    let most = 24 << 20;
    assert!(
        written.load(Ordering::SeqCst) < most,
        "{} bytes were taken from the endpoint",
        written.load(Ordering::SeqCst)
    );
    assert_eq!(app.outcomes("client_cancel"), 1.0);
}

#[test]
fn interim_answers_come_before_their_answer() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n";
    let endpoint = Endpoint::answering(move |_| format!("{hints}{hints}{}", ok("late")));
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for _ in 0..2 {
            let (mut response, _) = http2.begin(get("/"), true).await;
            for _ in 0..2 {
                let hints = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
                assert_eq!((hints.status().as_u16(), hints.headers().len()), (103, 1));
                assert_eq!(hints.headers()["link"], "</a.css>");
            }
            assert_eq!(Answer::read(response.await.unwrap()).await.unwrap().text(), "late");
        }
    });
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_asked_for_by_the_endpoint() {
    let endpoint = Endpoint::asking();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let expecting = |path: &str| {
            let mut request = post(path);
            for (name, value) in [("expect", "100-continue"), ("content-length", "4")] {
                request.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            request
        };
        let (mut response, mut upload) = http2.begin(expecting("/"), false).await;
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(interim.status().as_u16(), 100);
        upload.send_data("body".into(), true).unwrap();
        assert_eq!(Answer::read(response.await.unwrap()).await.unwrap().text(), "body");
        // A refusal comes instead: the client never sends the body.
        let (mut response, _upload) = http2.begin(expecting("/refuse"), false).await;
        assert!(poll_fn(|cx| response.poll_informational(cx)).await.is_none());
        assert_eq!(response.await.unwrap().status(), 417);
    });
}

/// Answers with so many bytes as soon as the head is here, and takes the request beside that.
fn answering_at_once(bytes: usize) -> Endpoint {
    Endpoint::start(move |mut wire| {
        while let Some(head) = wire.head() {
            let mut writing = wire.writer();
            let answer = framed(&head.start, &vec![b'y'; bytes]);
            let answering = std::thread::spawn(move || writing.write_all(&answer));
            let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(u64::MAX);
            wire.skip(length);
            // A client that is refused in between takes no more of it.
            let _ = answering.join().unwrap();
        }
    })
}

/// Begins an answer, and does not read it before so much has been sent; `None` where that breaks off.
async fn send_all_then_read(http2: &mut Http2, path: &str, bytes: usize, tells_length: bool) -> Option<Answer> {
    let mut request = post(path);
    if tells_length {
        request.headers_mut().insert("content-length", HeaderValue::from(bytes));
    }
    let (response, mut upload) = http2.begin(request, false).await;
    let response = response.await.unwrap();
    let mut left = bytes;
    while left > 0 {
        upload.reserve_capacity(left.min(64 << 10));
        let room = poll_fn(|cx| upload.poll_capacity(cx)).await?.ok()?.min(left);
        left -= room;
        upload.send_data(vec![b'x'; room].into(), left == 0).ok()?;
    }
    Answer::read(response).await.ok()
}

#[test]
fn a_client_may_read_nothing_before_it_has_sent_everything() {
    // More than fits anywhere in between; and so little that all that waits is the last of it.
    for (bytes, path) in [(16 << 20, "/"), (100 << 10, "/"), (100 << 10, "/chunked"), (70 << 10, "/chunked")] {
        let endpoint = answering_at_once(bytes);
        let app = App::before(&endpoint);
        client(async {
            let mut http2 = Http2::connect(app.proxy).await;
            let answer = send_all_then_read(&mut http2, path, 1 << 20, true).await.expect("comes whole");
            assert!(answer.body.len() == bytes && answer.body.iter().all(|byte| *byte == b'y'));
        });
        assert_eq!(app.outcomes("success"), 1.0);
    }
}

#[test]
fn a_body_that_is_too_large_ends_its_exchange_also_while_nothing_is_read() {
    let endpoint = answering_at_once(16 << 20);
    let app = App::before_with(&endpoint, "    max_request_body: 1MiB\n");
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        assert!(send_all_then_read(&mut http2, "/", 2 << 20, false).await.is_none());
        // At once, and not when its time is over.
        eventually_async("it is the client's doing", async || app.outcomes("client_error") == 1.0).await;
    });
    let mut http1 = app.client();
    http1.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(64 << 10));
    for _ in 0..32 {
        if http1.write(&chunk).is_err() {
            break;
        }
    }
    eventually("the same over HTTP/1.1", || app.outcomes("client_error") == 2.0);
}

#[test]
fn an_answer_of_our_own_to_head_has_no_body() {
    let endpoint = Endpoint::saying("x");
    let app = App::with_yaml(&format!(
        "agents:\n  bot: {{ match: [{{ path_prefix: /here }}], versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        endpoint.url()
    ));
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let answer = http2.ask(request(Method::HEAD, "/elsewhere")).await.unwrap();
        assert_eq!((answer.status(), answer.body.len()), (404, 0));
        let same = http2.get("/elsewhere").await;
        assert_eq!(answer.header("content-length"), Some(same.body.len().to_string().as_str()));
        assert!(same.header("date").is_some());
    });
}

#[test]
fn an_answer_that_waits_for_its_client_is_not_cut_when_the_connection_is_to_end() {
    let body = "x".repeat(60_000);
    let said = ok(&body);
    let endpoint = Endpoint::answering(move |_| said.clone());
    let app = limited(&endpoint, "requests_per_connection: 1");
    client(async {
        let mut builder = Builder::new();
        builder.initial_window_size(10_000);
        let mut http2 = Http2::connect_with(app.proxy, &builder).await;
        let (response, _) = http2.begin(get("/"), true).await;
        let response = response.await.unwrap();
        // All of it is with the connection, which has said that it takes no more.
        eventually_async("it is counted", async || app.outcomes("success") == 1.0).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(Answer::read(response).await.unwrap().text(), body);
        assert!(http2.ended.await.unwrap().is_ok(), "closed in order");
    });
}
