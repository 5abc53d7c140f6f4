//! The mock agent over real sockets, spoken to in plain bytes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use behaviour::Wait;

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
