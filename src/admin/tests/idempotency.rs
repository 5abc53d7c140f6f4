//! Repeated requests with a key, and the bounds of what is kept.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, extract::State};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

use super::port::Port;
use crate::admin::idempotency::{Answers, MAX_KEPT};

const ROLLBACK: &str = "/api/v1/agents/support-bot/rollback";

#[tokio::test]
async fn a_rollback_that_is_sent_twice_is_done_once_and_answered_twice() {
    let port = Port::local().await;
    let send = |key: &str, body: &str| {
        let (headers, body) = (format!("host: localhost\r\nidempotency-key: {key}\r\n"), body.to_owned());
        let port = &port;
        async move { port.send("POST", ROLLBACK, &headers, &body).await }
    };
    let refused = send("one", "{").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "a refusal is not kept");
    let first = send("one", "{\"reason\":\"it swears\"}").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let second = send("one", "{\"reason\":\"it swears\"}").await;
    assert_eq!((second.status, &second.body), (StatusCode::OK, &first.body));
    let other_body = send("one", "{\"reason\":\"it lies\"}").await;
    assert_eq!(
        (other_body.status, other_body.problem().as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
    );
    assert_eq!(send("two", "{\"reason\":\"it swears\"}").await.problem(), "already_rolled_back");
    assert_eq!(port.get("/api/v1/table").await.json()["epoch"], 2);
    for wrong in ["", &"x".repeat(256), "ä"] {
        assert_eq!(send(wrong, "").await.problem(), "bad_request", "{wrong:?}");
    }
    let twice = "host: localhost\r\nidempotency-key: a\r\nidempotency-key: b\r\n";
    assert_eq!(port.send("POST", ROLLBACK, twice, "").await.problem(), "bad_request");
}

/// A service that counts what it does, and waits where it is told to.
#[derive(Clone, Default)]
struct Counted {
    done: Arc<AtomicUsize>,
    go_on: Arc<Notify>,
    answers: Answers,
}

impl Counted {
    async fn ask(&self, target: &str, key: &str) -> (StatusCode, String) {
        async fn count(State(counted): State<Counted>) -> String {
            counted.done.fetch_add(1, Ordering::Relaxed).to_string()
        }
        async fn wait(State(counted): State<Counted>) -> String {
            counted.go_on.notified().await;
            count(State(counted)).await
        }
        async fn once(State(answers): State<Answers>, request: axum::extract::Request, next: Next) -> Response {
            answers.handle(request, next).await
        }
        let router: Router = Router::new()
            .route("/count", post(count))
            .route("/wait", post(wait))
            .route("/panic", post(|| async { panic!("on purpose") as StatusCode }))
            .layer(from_fn_with_state(self.answers.clone(), once))
            .with_state(self.clone());
        let request = Request::post(target).header("idempotency-key", key).body(Body::empty()).expect("a request");
        let service = hyper_util::service::TowerToHyperService::new(router);
        let response = hyper::service::Service::call(&service, request).await.into_response();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 16).await.expect("a short body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

#[tokio::test]
async fn a_repetition_of_what_is_under_way_is_refused_and_the_work_goes_on_without_its_client() {
    let counted = Counted::default();
    let first = tokio::spawn({
        let counted = counted.clone();
        async move { counted.ask("/wait", "k").await }
    });
    while counted.answers.is_empty() {
        tokio::task::yield_now().await;
    }
    let second = counted.ask("/wait", "k").await;
    assert_eq!(second.0, StatusCode::CONFLICT);
    assert!(second.1.contains("idempotency_key_in_use"), "{}", second.1);
    first.abort();
    assert!(first.await.is_err(), "its client is gone");
    counted.go_on.notify_one();
    let third = loop {
        match counted.ask("/wait", "k").await {
            (StatusCode::CONFLICT, _) => tokio::task::yield_now().await,
            other => break other,
        }
    };
    assert_eq!(third, (StatusCode::OK, "0".into()));
    assert_eq!(counted.done.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_a_day_and_the_oldest_goes_first() {
    let counted = Counted::default();
    assert_eq!(counted.ask("/count", "first").await.1, "0");
    tokio::time::advance(Duration::from_secs(24 * 3_600 - 1)).await;
    assert_eq!(counted.ask("/count", "first").await.1, "0");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(counted.ask("/count", "first").await.1, "1", "a day is over");
    for n in 0..MAX_KEPT {
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(counted.ask("/count", &format!("k{n}")).await.0, StatusCode::OK);
    }
    assert_eq!(counted.answers.len(), MAX_KEPT);
    assert_eq!(counted.ask("/count", "k1").await.1, "3", "still known");
    assert_eq!(counted.ask("/count", "first").await.1, (MAX_KEPT + 2).to_string(), "the oldest had to go");
}

#[tokio::test]
async fn what_broke_down_can_be_tried_again() {
    let counted = Counted::default();
    assert_eq!(counted.ask("/panic", "k").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(counted.answers.is_empty());
    assert_eq!(counted.ask("/count", "k").await, (StatusCode::OK, "0".into()));
}
