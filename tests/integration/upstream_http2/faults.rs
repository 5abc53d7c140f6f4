//! What an endpoint may do to a stream or to its connection, and what becomes of the requests.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use super::endpoint::{Endpoint2, pattern, post, response, send};
use crate::harness::{App, Endpoint, PATIENCE, eventually, ok};

/// Answers with the request's body, but for the first requests, which it refuses.
fn echo_after(refusals: usize) -> Endpoint2 {
    let left = AtomicUsize::new(refusals);
    Endpoint2::start(move |mut call| {
        let refuse = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        async move {
            if refuse {
                return call.respond.send_reset(Reason::REFUSED_STREAM);
            }
            let (body, _) = call.body().await;
            call.answer(body).await;
        }
    })
}

#[test]
fn a_refused_stream_is_sent_again_whole_whatever_its_method() {
    let endpoint = echo_after(2);
    let app = endpoint.app("");
    let mut client = app.client();
    let body = pattern(10_000);
    post(&mut client, "/", "", &body);
    let answer = client.message().unwrap();
    assert!(answer.status() == 200 && answer.body == body, "{}: {} bytes", answer.status(), answer.body.len());
    assert_eq!((app.outcomes("success"), app.metric("pointsman_retries_total")), (1.0, 2.0));
}

#[test]
fn a_request_that_is_refused_again_and_again_is_502() {
    let endpoint = echo_after(usize::MAX);
    let app = endpoint.app("");
    let answer = app.client().get("/", "ann");
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"upstream_reset".into()));
    assert_eq!((app.outcomes("reset"), app.metric("pointsman_retries_total")), (1.0, 3.0));
}

#[test]
fn connections_that_say_goodbye_in_mid_traffic_fail_no_request() {
    let endpoint = Endpoint2::start(|mut call| async move {
        if call.number == 10 {
            call.go_away();
        }
        let (body, _) = call.body().await;
        call.answer(body).await;
    });
    let app = endpoint.app("    timeouts: { connect: 20s }\n");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = app.client();
                for round in 0..100_u32 {
                    let body = round.to_string();
                    post(&mut client, "/", "", body.as_bytes());
                    let answer = client.message().unwrap();
                    assert_eq!((answer.status(), answer.text()), (200, body.as_str()));
                }
            });
        }
    });
    assert!(endpoint.connections() > 10, "{}", endpoint.connections());
    assert_eq!(app.outcomes("success"), 800.0);
}

#[test]
fn a_connection_that_has_ended_in_between_costs_no_request() {
    let (told, killed) = mpsc::channel();
    let endpoint = Endpoint2::start(move |mut call| {
        let told = told.clone();
        async move {
            let (body, _) = call.body().await;
            let (path, order) = (call.path().to_owned(), call.killer());
            call.answer(body).await;
            if path == "/last" {
                // The answer is on its way before the end.
                tokio::time::sleep(Duration::from_millis(5)).await;
                order.kill().await;
                told.send(()).unwrap();
            }
        }
    });
    let app = endpoint.app("    timeouts: { pool_idle: 1m }\n");
    for round in 1..=10 {
        let mut client = app.client();
        post(&mut client, "/last", "", b"hello");
        assert_eq!(client.message().unwrap().text(), "hello");
        killed.recv_timeout(PATIENCE).unwrap();
        // Not idempotent: it could not be repeated if it had gone into the ended connection.
        post(&mut client, "/", "", b"again");
        assert_eq!(client.message().unwrap().text(), "again", "{round}");
    }
    assert_eq!(app.outcomes("success"), 20.0);
}

#[test]
fn a_stream_reset_within_its_answer_is_cut_short_and_the_others_live() {
    let endpoint = Endpoint2::start(|mut call| async move {
        if call.path() == "/whole" {
            return call.answer("whole").await;
        }
        let mut stream = call.head(response(&[]));
        send(&mut stream, Bytes::from_static(b"half of")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    });
    let app = endpoint.app("");
    let mut client = app.client();
    client.write("GET /half HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().status(), 200);
    assert_eq!(client.chunk().unwrap().unwrap(), b"half of");
    assert!(client.is_closed());
    eventually("it is counted", || app.outcomes("truncated") == 1.0);
    assert_eq!(app.client().get("/whole", "ann").text(), "whole");
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn what_ends_before_an_answer_is_502_and_not_repeated_where_it_was_acted_on() {
    let (calls, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = calls.clone();
    let endpoint = Endpoint2::start(move |mut call| {
        count.fetch_add(1, Ordering::SeqCst);
        let seen = seen.clone();
        async move {
            match call.path() {
                "/reset" => call.respond.send_reset(Reason::INTERNAL_ERROR),
                "/kill" => call.killer().kill().await,
                _ => {
                    // A length that its data does not keep.
                    let mut stream = call.head(response(&[("content-length", "9")]));
                    let _ = stream.send_data(Bytes::from_static(b"x"), true);
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    let app = endpoint.app("");
    let mut client = app.client();
    for (path, calls_by_then) in [("/reset", 1), ("/kill", 2)] {
        post(&mut client, path, "", b"");
        let answer = client.message().unwrap();
        assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"upstream_reset".into()), "{path}");
        assert_eq!(calls.load(Ordering::SeqCst), calls_by_then, "{path}");
    }
    assert_eq!(app.outcomes("reset"), 2.0);
    client.write("GET /short HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.head();
    assert!(client.message().is_none());
    eventually("it is counted", || app.outcomes("truncated") == 1.0);
}

#[test]
fn a_client_that_leaves_cancels_its_stream_and_no_other() {
    let (told, reasons) = mpsc::channel();
    let endpoint = Endpoint2::start(move |mut call| {
        let told = told.clone();
        async move {
            match call.path() {
                "/silent" => {
                    told.send(None).unwrap();
                    told.send(Some(call.cancelled().await)).unwrap();
                }
                "/stream" => {
                    let mut stream = call.head(response(&[]));
                    told.send(None).unwrap();
                    while send(&mut stream, Bytes::from_static(b"event")).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    told.send(Some(reason.unwrap())).unwrap();
                }
                _ => call.answer("ok").await,
            }
        }
    });
    let app = endpoint.app("");
    for path in ["/silent", "/stream"] {
        let mut client = app.client();
        client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        assert_eq!(reasons.recv_timeout(PATIENCE), Ok(None));
        drop(client);
        assert_eq!(reasons.recv_timeout(PATIENCE), Ok(Some(Reason::CANCEL)), "{path}");
    }
    assert_eq!(app.client().get("/", "ann").text(), "ok");
    eventually("they are counted as the clients' doing", || app.outcomes("client_cancel") == 2.0);
    assert!(endpoint.connections() <= 2, "one for each worker at most");
    assert_eq!(app.metric("pointsman_requests_in_flight{"), 0.0);
}

#[test]
fn a_client_that_takes_nothing_holds_bounded_memory_and_no_other_client() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let endpoint = Endpoint2::start(move |mut call| {
        let count = count.clone();
        async move {
            if call.path() == "/" {
                return call.answer("ok").await;
            }
            let mut stream = call.head(response(&[]));
            let piece = Bytes::from(vec![b'x'; 16 << 10]);
            while send(&mut stream, piece.clone()).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    });
    let app = endpoint.app("");
    let stalled: Vec<_> = (0..8)
        .map(|_| {
            let mut client = app.client();
            client.write("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            client.head().unwrap();
            client
        })
        .collect();
    let mut before = 0;
    eventually("the endpoint is held back", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = sent.load(Ordering::SeqCst);
        std::mem::replace(&mut before, now) == now && now > 0
    });
    assert_eq!(app.client().get("/", "ann").text(), "ok");
    assert!(endpoint.connections() <= 2, "{}", endpoint.connections());
    drop(stalled);
    eventually("the clients' doing", || app.outcomes("client_cancel") == 8.0);
}

#[test]
fn an_endpoint_that_speaks_something_else_is_502() {
    let endpoint = Endpoint::answering(|_| ok("HTTP/1.1"));
    let app = App::before_with(&endpoint, "    protocol: http2\n");
    let answer = app.client().get("/", "ann");
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"connect_failed".into()));
}

#[test]
fn a_head_with_a_field_of_http1_s_connections_is_502() {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let endpoint = Endpoint::start(move |wire| {
        let mut stream = wire.stream;
        stream.read_exact(&mut [0; 24]).unwrap();
        stream.write_all(&frame(4, 0, 0, b"")).unwrap();
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).unwrap();
            match (head[3], head[4]) {
                (4, 0) => stream.write_all(&frame(4, 1, 0, b"")).unwrap(),
                // `:status: 200` of the static table, and a literal field.
                (1, _) => stream.write_all(&frame(1, 5, head[8], b"\x88\x00\x0aconnection\x05close")).unwrap(),
                _ => {}
            }
        }
    });
    let app = App::before_with(&endpoint, "    protocol: http2\n");
    let answer = app.client().get("/", "ann");
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"bad_response".into()));
    assert_eq!(app.outcomes("bad_response"), 1.0);
}
