//! gRPC calls: what they count as, and what their clients are told when there is no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::endpoint::{Endpoint2, fields, response, send};
use crate::harness::{App, Message, eventually, unused_address};

/// A call's first bytes are the same over HTTP/1.1, which is enough for what is counted.
fn call(app: &App, path: &str) -> Message {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-type: application/grpc+proto\r\n");
    app.client().ask(&format!("{head}content-length: 5\r\n\r\n\0\0\0\0\0"))
}

/// Ends each call with the status that its path names; without one, it just ends.
fn endpoint() -> Endpoint2 {
    Endpoint2::start(|mut call| async move {
        call.body().await;
        let path = call.path().to_owned();
        let (kind, status) = path[1..].split_once('/').unwrap();
        let mut trailers = fields(&[]);
        trailers.insert("grpc-status", status.parse().unwrap());
        if kind == "trailers-only" {
            let mut head = response(&[("content-type", "application/grpc")]);
            head.headers_mut().extend(trailers);
            call.respond.send_response(head, true).unwrap();
            return;
        }
        let mut stream = call.head(response(&[("content-type", "application/grpc")]));
        send(&mut stream, Bytes::from_static(b"\0\0\0\0\0")).await.unwrap();
        match kind {
            "trailers" => stream.send_trailers(trailers).unwrap(),
            _ => stream.send_data(Bytes::new(), true).unwrap(),
        }
    })
}

#[test]
fn a_call_counts_by_the_status_in_its_trailers() {
    let endpoint = endpoint();
    let app = endpoint.app("");
    let mut expected = (0.0, 0.0);
    for kind in ["trailers", "trailers-only"] {
        for status in 0..=16 {
            let answer = call(&app, &format!("/{kind}/{status}"));
            assert_eq!(answer.status(), 200);
            if [2, 4, 12, 13, 14, 15].contains(&status) {
                expected.1 += 1.0
            } else {
                expected.0 += 1.0
            }
            let counted = || (app.outcomes("success"), app.outcomes("server_error"));
            eventually(&format!("{kind} {status} is counted"), || counted() == expected);
        }
    }
    call(&app, "/none/at-all");
    eventually("a call without a status is cut short", || app.outcomes("truncated") == 1.0);
}

#[test]
fn a_call_that_finds_nobody_is_made_again_where_its_client_allows_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    // Every other one, by an answer of trailers only.
    let endpoint = Endpoint2::start(move |mut call| {
        let status = if counter.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { "14" } else { "0" };
        async move {
            call.body().await;
            let head = response(&[("content-type", "application/grpc"), ("grpc-status", status)]);
            call.respond.send_response(head, true).unwrap();
        }
    });
    let app = endpoint.app("");
    let head = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n";
    let status = |fields: &str| {
        let answer = app.client().ask(&format!("{head}{fields}\r\n"));
        (answer.header("grpc-status").unwrap().to_owned(), calls.load(Ordering::SeqCst))
    };
    assert_eq!(status(""), ("14".into(), 1));
    assert_eq!(status(""), ("0".into(), 2));
    assert_eq!(status("idempotency-key: 1\r\n"), ("0".into(), 4));
    assert_eq!(app.metric("pointsman_retries_total{result=\"sent\"}"), 1.0);
}

#[test]
fn other_answers_of_the_same_agent_count_by_their_http_status() {
    let endpoint = endpoint();
    let app = endpoint.app("");
    assert_eq!(app.client().get("/trailers/13", "ann").status(), 200);
    eventually("it is counted", || app.outcomes("success") == 1.0);
}

#[test]
fn a_call_that_we_answer_ourselves_is_answered_in_grpc() {
    let nobody = unused_address();
    let app = App::with_agents(&format!(
        "  bot:\n    match: [{{ path_prefix: /bot }}]\n    protocol: http2\n    versions:\n      1.0.0: {{ endpoints: ['http://{nobody}'] }}\n    stable: 1.0.0\n"
    ));
    for (path, status, text) in [("/bot/x", "14", "could not be reached"), ("/other", "12", "no agent matches")] {
        let answer = call(&app, path);
        let of_grpc = (answer.status(), answer.header("content-type"), answer.header("grpc-status"));
        assert_eq!(of_grpc, (200, Some("application/grpc"), Some(status)), "{path}");
        assert!(answer.header("grpc-message").unwrap().contains(text) && answer.body.is_empty(), "{answer:?}");
    }
    assert_eq!(app.outcomes("connect_failed"), 1.0);
}
