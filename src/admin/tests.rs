//! The admin port over a real socket.

mod audit;
mod commands;
mod events;
mod idempotency;
mod migrations;
mod openapi;
mod port;
mod roles;

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use port::Port;

#[tokio::test]
async fn without_a_token_no_web_page_gets_in() {
    let port = Port::local().await;
    let hosts = [
        ("127.0.0.1", true),
        ("127.0.0.1:9901", true),
        ("[::1]:9901", true),
        ("localhost:9901", true),
        ("LocalHost", true),
        ("evil.example", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example:9901", false),
    ];
    for (host, allowed) in hosts {
        for target in ["/api/v1/table", "/metrics"] {
            let answer = port.send("GET", target, &format!("host: {host}\r\n"), "").await;
            assert_eq!(answer.status == StatusCode::OK, allowed, "{target} for {host}");
            assert!(allowed || answer.problem() == "foreign_host");
        }
        let probe = port.send("GET", "/livez", &format!("host: {host}\r\n"), "").await;
        assert_eq!(probe.status, StatusCode::OK, "a probe says nothing worth hiding");
    }
    let absolute = port.send("GET", "http://evil.example/api/v1/table", "host: localhost\r\n", "").await;
    assert_eq!(absolute.problem(), "foreign_host");

    let (rollback, own) = ("/api/v1/agents/support-bot/rollback", "host: localhost:9901\r\n");
    let foreign = [
        "origin: http://evil.example\r\n",
        "origin: null\r\n",
        "origin: http://localhost:3000\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "origin: http://localhost:9901\r\nsec-fetch-site: cross-site\r\n",
    ];
    for headers in foreign {
        let answer = port.send("POST", rollback, &format!("{own}{headers}"), "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::FORBIDDEN, "cross_site"), "{headers}");
    }
    let headers = format!("{own}origin: http://localhost:9901\r\nsec-fetch-site: same-origin\r\n");
    assert_eq!(port.send("POST", rollback, &headers, "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn probes_say_when_to_send_traffic_and_metrics_are_text() {
    let port = Port::local().await;
    assert_eq!(port.get("/livez").await.status, StatusCode::OK);
    assert_eq!(port.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let ready = port.state.ready.ready();
    assert_eq!(port.get("/readyz").await.status, StatusCode::OK);
    drop(ready);
    assert_eq!(port.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let metrics = port.get("/metrics").await;
    assert_eq!(metrics.body, "# the metrics\n");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
}

#[tokio::test]
async fn the_table_shows_what_is_live() {
    let port = Port::local().await;
    let table = port.get("/api/v1/table").await.json();
    assert_eq!((&table["epoch"], &table["configHash"]), (&1.into(), &"cafe".into()));
    let names: Vec<_> =
        table["agents"].as_array().expect("agents").iter().map(|a| (&a["environment"], &a["agent"])).collect();
    let expected = [("production", "support-bot"), ("production", "twin"), ("staging", "twin")];
    assert_eq!(
        names,
        expected.map(|(e, a)| (Value::from(e), Value::from(a))).iter().map(|(e, a)| (e, a)).collect::<Vec<_>>()
    );

    let agent = &table["agents"][0];
    assert_eq!((&agent["stable"], &agent["deployment"]["state"]), (&"1.4.2".into(), &"running".into()));
    assert_eq!(table["agents"][1]["deployment"], Value::Null);
    let canary =
        &agent["versions"].as_array().expect("versions").iter().find(|v| v["version"] == "1.5.0").expect("the canary");
    assert_eq!(canary["weightPercent"], 1.0);
    assert_eq!(canary["bucketRanges"], serde_json::json!([{ "start": 0, "end": 999 }]));
    assert_eq!(canary["endpoints"], serde_json::json!(["http://127.0.0.1:7002"]));

    let one = port.get("/api/v1/agents/support-bot").await.json();
    assert_eq!((&one["agent"], &one["versions"], &one["epoch"]), (&agent["agent"], &agent["versions"], &1.into()));
}

#[tokio::test]
async fn an_explanation_places_a_key_wherever_it_comes_from() {
    let port = Port::local().await;
    let by_key = port.get("/api/v1/agents/support-bot/explain?key=u%2B1").await.json();
    assert_eq!((&by_key["key"], &by_key["agent"]), (&"u+1".into(), &"support-bot".into()));
    assert!(by_key["bucket"].is_u64() && by_key["version"].is_string() && by_key["reason"].is_string(), "{by_key}");
    let by_header = "/api/v1/agents/support-bot/explain?header=accept:*/*&header=x-user-id:%20u%2B1&path=/v1/x?a=b&method=POST&host=h&client=10.0.0.1";
    let by_header = port.get(by_header).await.json();
    assert_eq!((&by_header["bucket"], &by_header["version"]), (&by_key["bucket"], &by_key["version"]));
    let keyless = port.get("/api/v1/agents/support-bot/explain").await.json();
    assert_eq!((&keyless["bucket"], &keyless["version"]), (&Value::Null, &"1.4.2".into()));
    for wrong in ["header=x", "client=me", "method=%20", "kye=u1", "environment=a&environment=b", "header=a%0Ab:c"] {
        let answer = port.get(&format!("/api/v1/agents/support-bot/explain?{wrong}")).await;
        assert_eq!(answer.problem(), "bad_request", "{wrong}");
    }
}

#[tokio::test]
async fn a_rollback_takes_the_canary_out_once() {
    let port = Port::local().await;
    let target = "/api/v1/agents/support-bot/rollback";
    for (body, code) in [("{", "bad_request"), ("{\"why\": \"?\"}", "invalid_fields"), ("[]", "bad_request")] {
        assert_eq!(port.post(target, body).await.problem(), code, "{body}");
    }
    let long = serde_json::json!({ "reason": "x".repeat(1001) }).to_string();
    assert_eq!(port.post(target, &long).await.problem(), "invalid_fields");
    let huge = port.post(target, &"x".repeat(BODY_LIMIT + 1)).await;
    assert_eq!((huge.status, huge.problem().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    assert_eq!(port.get("/api/v1/agents/support-bot/deployment").await.json()["state"], "running");

    let done = port.post(target, "{\"reason\": \"it swears\"}").await;
    assert_eq!(done.status, StatusCode::OK);
    let status = port.get("/api/v1/agents/support-bot/deployment").await.json();
    assert_eq!(status, done.json()["deployment"], "the command's answer is the state that it led to");
    assert_eq!(
        (&status["state"], &status["weightPercent"], &status["guards"]),
        (&"rolled_back".into(), &0.0.into(), &Value::Array(vec![]))
    );
    let rollback = &status["rollback"];
    assert_eq!(
        (&rollback["cause"], &rollback["by"]["name"], &rollback["reason"]),
        (&"operator".into(), &"local".into(), &"it swears".into())
    );
    let at = rollback["at"].as_str().and_then(|at| humantime::parse_rfc3339(at).ok()).expect("a time");
    assert!(at <= SystemTime::now());
    let again = port.post(target, "").await;
    assert_eq!((again.status, again.problem().as_str()), (StatusCode::CONFLICT, "already_rolled_back"));
    assert_eq!(port.get("/api/v1/table").await.json()["epoch"], 2);
}

#[tokio::test]
async fn a_running_deployment_shows_its_step_and_its_guards() {
    let port = Port::local().await;
    let status = port.get("/api/v1/agents/support-bot/deployment?environment=production").await.json();
    assert_eq!((&status["step"], &status["steps"][0]["weightPercent"]), (&1.into(), &1.0.into()));
    assert_eq!(
        (&status["steps"][1]["holdSeconds"], &status["steps"][2]["holdSeconds"]),
        (&1800.0.into(), &Value::Null)
    );
    let guard = &status["guards"][0];
    assert_eq!((&guard["guard"]["metric"], &guard["verdict"]), (&"error_rate".into(), &"hold".into()), "{status}");
    assert_eq!((&status["rollback"], &status["earlierRollback"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_so() {
    let port = Port::local().await;
    let cases = [
        ("/", "no_such_path"),
        ("/api/v1/nothing", "no_such_path"),
        ("/api/v1/agents/support-bto", "unknown_agent"),
        ("/api/v1/agents/support-bot?environment=staging", "unknown_agent"),
        ("/api/v1/agents/twin/explain?key=u1", "which_environment"),
        ("/api/v1/agents/twin/deployment?environment=staging", "no_deployment"),
        ("/api/v1/agents/twin?enviroment=staging", "bad_request"),
        ("/api/v1/agents/%FF", "bad_request"),
    ];
    for (target, code) in cases {
        assert_eq!(port.get(target).await.problem(), code, "{target}");
    }
    let typo = port.get("/api/v1/agents/support-bto").await.json();
    assert!(typo["detail"].as_str().is_some_and(|d| d.contains("did you mean \"support-bot\"?")), "{typo}");
    let nothing_live = port.post("/api/v1/agents/twin/rollback?environment=staging", "").await;
    assert_eq!((nothing_live.status, nothing_live.problem().as_str()), (StatusCode::CONFLICT, "nothing_deployed"));
    let wrong_method = port.post("/api/v1/table", "").await;
    assert_eq!(
        (wrong_method.status, wrong_method.problem().as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
    );
    assert!(wrong_method.head.contains("allow: get,head"), "{}", wrong_method.head);
    let wrong_method = port.get("/api/v1/agents/support-bot/rollback").await;
    assert!(wrong_method.head.contains("allow: post"), "{}", wrong_method.head);
}

#[tokio::test]
async fn the_last_reload_is_told_with_its_error() {
    let port = Port::local().await;
    port.state.reloads.succeeded("cafe", SystemTime::UNIX_EPOCH);
    port.state.reloads.failed("line 3: no such key".into(), SystemTime::UNIX_EPOCH);
    let expected = serde_json::json!({
        "configHash": "cafe",
        "reloadsSucceeded": 1,
        "reloadsFailed": 1,
        "lastSuccessAt": "1970-01-01T00:00:00.000Z",
        "error": { "at": "1970-01-01T00:00:00.000Z", "text": "line 3: no such key" },
        "tls": [],
    });
    assert_eq!(port.get("/api/v1/config").await.json(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_loses_its_place() {
    let port = Port::local().await;
    let mut idle = TcpStream::connect(port.address).await.expect("it listens");
    // The clock is virtual and jumps when all wait, so this ends as soon as the server gives up.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed in order");
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_ends_in_a_time_out() {
    let port = Port::local().await;
    let head = "POST /api/v1/agents/support-bot/rollback HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let answer = port.ask(&format!("{head}content-length: 5\r\n\r\n{{")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::REQUEST_TIMEOUT, "request_timeout"));
}

#[tokio::test]
async fn a_stop_ends_the_port() {
    let port = Port::local().await;
    let mut idle = TcpStream::connect(port.address).await.expect("it listens");
    assert_eq!(port.get("/livez").await.status, StatusCode::OK);
    port.stop.send(true).expect("it listens");
    port.served.await.expect("it does not panic");
    assert_eq!(idle.read(&mut [0; 1]).await.ok(), Some(0), "idle connections are closed");
    assert!(TcpStream::connect(port.address).await.is_err(), "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_waits_until_a_place_is_free() {
    let port = Port::local().await;
    let mut held = Vec::new();
    for _ in 0..serve::CONNECTIONS {
        let mut stream = TcpStream::connect(port.address).await.expect("it listens");
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("it reads");
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.expect("it answers");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    // The clock is virtual: it moves only because all wait for the idle connections to be closed.
    let full = tokio::time::Instant::now();
    assert_eq!(port.get("/livez").await.status, StatusCode::OK);
    let waited = full.elapsed();
    assert!(waited >= Duration::from_secs(5) && waited <= Duration::from_secs(70), "{waited:?}");
}
