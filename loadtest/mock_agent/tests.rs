//! The mock agent over real sockets, spoken to in plain bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use base64::Engine;
use sha2::{Digest, Sha256};
use units::Wait;

/// No delays, so that the tests wait for nothing.
fn prompt() -> Behaviour {
    let none = Wait::from_millis(0);
    Behaviour { latency: none, jitter: none, token_interval: none, ..Behaviour::default() }
}

async fn start(behaviour: Behaviour) -> MockAgent {
    MockAgent::start(([127, 0, 0, 1], 0).into(), "1.5.0", behaviour).await.unwrap()
}

/// One exchange on its own connection: the status line's code and all that follows it.
async fn ask(agent: &MockAgent, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

/// The JSON body of an answer that is not streamed.
async fn ask_json(agent: &MockAgent, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, answer) = ask(agent, method, path, body).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap())
}

const CHAT: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "three short words"}]}"#;

#[tokio::test]
async fn a_plain_completion_says_who_answered_and_what_it_used() {
    let agent = start(prompt()).await;
    let (status, body) = ask_json(&agent, "POST", "/v1/chat/completions", CHAT).await;
    assert_eq!(status, 200);
    assert_eq!(body["system_fingerprint"], "1.5.0");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43 }));
    assert!(body["choices"][0]["message"]["content"].as_str().unwrap().starts_with("The points are set,"));
    assert_eq!((agent.counts.completions(), agent.counts.failed()), (1, 0));
}

#[tokio::test]
async fn a_stream_has_a_chunk_per_token_a_finish_the_usage_and_an_end() {
    let agent = start(prompt()).await;
    let asked = r#"{"messages": [], "stream": true, "max_tokens": 3, "stream_options": {"include_usage": true}}"#;
    let (status, answer) = ask(&agent, "POST", "/v1/chat/completions", asked).await;
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: text/event-stream"));
    let events: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    let delta = |index: usize| &chunks[index]["choices"][0]["delta"];
    assert_eq!(chunks.len(), 1 + 3 + 1 + 1);
    assert_eq!(delta(0)["role"], "assistant");
    assert_eq!((&delta(1)["content"], &delta(3)["content"]), (&json!("The"), &json!(" are")));
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[5]["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn usage_is_streamed_only_to_those_who_ask_for_it() {
    let agent = start(prompt()).await;
    let (_, answer) = ask(&agent, "POST", "/v1/chat/completions", r#"{"stream": true}"#).await;
    assert!(answer.contains("[DONE]") && !answer.contains("usage"));
}

/// A streamed answer: its body without the chunks' framing, and whether the last chunk came.
fn dechunk(answer: &str) -> (String, bool) {
    let (_, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        match usize::from_str_radix(size, 16).unwrap() {
            0 => return (body, true),
            size => {
                body.push_str(&chunk[..size]);
                rest = &chunk[size + 2..];
            }
        }
    }
    (body, false)
}

/// The body that `path` streams, held against its digest.
async fn stream(agent: &MockAgent, path: &str) -> (String, bool) {
    let (status, answer) = ask(agent, "POST", path, r#"{"stream": true, "max_tokens": 4, "model": "m"}"#).await;
    assert_eq!(status, 200, "{answer}");
    let (body, is_whole) = dechunk(&answer);
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&body));
    assert!(answer.contains(&format!("repr-digest: sha-256=:{digest}:\r\n")), "{answer}");
    (body, is_whole)
}

#[tokio::test]
async fn each_dialect_streams_what_its_digest_says() {
    let agent = start(prompt()).await;
    for (path, first, tokens, last) in [
        ("/v1/chat/completions", "data: {", "\"content\":\"", "data: [DONE]\n\n"),
        ("/v1/messages", "event: message_start\n", "text_delta", "data: {\"type\":\"message_stop\"}\n\n"),
        ("/sse", ": m\n\n", "event: token\n", "event: token\ndata:  set,\n\n"),
        ("/ndjson", "{", "\"token\":", "\"version\":\"1.5.0\"}\n"),
    ] {
        let (body, is_whole) = stream(&agent, path).await;
        assert!(is_whole && body.starts_with(first) && body.ends_with(last), "{path}: {body}");
        // OpenAI's opening has an empty content of its own.
        let expected = if path.ends_with("completions") { 5 } else { 4 };
        assert_eq!(body.matches(tokens).count(), expected, "{path}: {body}");
    }
}

#[tokio::test]
async fn each_dialect_fails_in_the_middle_as_it_is_told() {
    let agent = start(prompt()).await;
    for (path, end, error) in [
        ("/v1/chat/completions", "[DONE]", "data: {\"error\":"),
        ("/v1/messages", "message_stop", "event: error\ndata: {\"error\":"),
        ("/sse", " set,", "event: error\n"),
        ("/ndjson", "\"done\":true", "{\"error\":"),
    ] {
        let (body, is_whole) = stream(&agent, &format!("{path}?fault=error")).await;
        assert!(is_whole && body.contains(error) && !body.contains(end), "{path}: {body}");
        let (body, is_whole) = stream(&agent, &format!("{path}?fault=end")).await;
        assert!(is_whole && body.contains(" points") && !body.contains(" are") && !body.contains(error), "{path}");
        let (cut, is_whole) = stream(&agent, &format!("{path}?fault=cut")).await;
        assert!(!is_whole && cut.len() > body.len() && !cut.ends_with('\n'), "{path}: {cut}");
    }
}

#[tokio::test]
async fn a_stalled_stream_says_half_and_keeps_the_connection() {
    let agent = start(prompt()).await;
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(b"GET /sse?tokens=2&fault=stall HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut said = String::new();
    while !said.contains("data: The\n\n") {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(read > 0, "it closed after {said:?}");
        said.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 64])).await;
    assert!(more.is_err(), "something came: {more:?}");
}

#[tokio::test]
async fn anthropic_s_message_says_what_it_used() {
    let agent = start(prompt()).await;
    let (_, body) = ask_json(&agent, "POST", "/v1/messages", CHAT).await;
    assert_eq!(body["usage"], json!({ "input_tokens": 3, "output_tokens": 40 }));
    assert_eq!((&body["type"], &body["stop_reason"]), (&json!("message"), &json!("end_turn")));
    assert!(body["content"][0]["text"].as_str().unwrap().starts_with("The points are set,"));
}

#[tokio::test]
async fn a_query_changes_one_request_only() {
    let agent = start(prompt()).await;
    assert_eq!(ask(&agent, "GET", "/sse?error_rate=100%25", "").await.0, 500);
    assert_eq!(ask(&agent, "GET", "/sse?tokenz=1", "").await.0, 400);
    assert_eq!(ask(&agent, "GET", "/sse?tokens=1", "").await.0, 200);
    assert_eq!(*agent.behaviour.load_full(), prompt());
}

#[tokio::test]
async fn behaviour_changes_while_it_runs_in_process_and_over_http() {
    let agent = start(prompt()).await;
    let (status, body) = ask_json(&agent, "PATCH", "/behaviour", r#"{"error_rate": "100%"}"#).await;
    assert_eq!((status, &body["error_rate"], &body["latency"]), (200, &json!("100%"), &json!("0s")));
    let (status, body) = ask_json(&agent, "POST", "/v1/chat/completions", CHAT).await;
    assert_eq!((status, &body["error"]["code"]), (500, &json!("mock_failure")));

    agent.behaviour.store(Arc::new(prompt()));
    assert_eq!(ask(&agent, "POST", "/v1/chat/completions", CHAT).await.0, 200);
    assert_eq!((agent.counts.completions(), agent.counts.failed()), (2, 1));

    let (status, body) = ask_json(&agent, "PUT", "/behaviour", r#"{"tokens": 2}"#).await;
    assert_eq!((status, &body["tokens"], &body["latency"]), (200, &json!(2), &json!("40ms")));
    assert_eq!(ask_json(&agent, "GET", "/behaviour", "").await.1, body);
}

#[tokio::test]
async fn bad_requests_are_refused_and_change_nothing() {
    let agent = start(prompt()).await;
    assert_eq!(ask_json(&agent, "PUT", "/behaviour", r#"{"error_rate": "200%"}"#).await.0, 400);
    assert_eq!(ask_json(&agent, "PATCH", "/behaviour", "{").await.0, 400);
    assert_eq!(*agent.behaviour.load_full(), prompt());
    assert_eq!(ask_json(&agent, "POST", "/v1/chat/completions", "not json").await.0, 400);
    assert_eq!(ask_json(&agent, "GET", "/nothing", "").await.0, 404);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let agent = start(prompt()).await;
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let too_long = MAX_BODY_BYTES + 1;
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {too_long}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test]
async fn it_says_its_version_is_healthy_and_frees_its_port_when_stopped() {
    let agent = start(prompt()).await;
    assert_eq!(ask(&agent, "GET", "/healthz", "").await.0, 200);
    assert_eq!(ask_json(&agent, "GET", "/", "").await.1["version"], "1.5.0");
    let address = agent.address;
    agent.stop().await;
    drop(TcpListener::bind(address).await.unwrap());
}
