//! The client against a server whose every answer is written down: what it sends, when it asks again, and what
//! it says. What a real instance does is for the integration tests.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{Call, Client};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::text::Style;
use super::{reads, wait, watch};

/// Answers one connection after the other from a list, and drops those that come after its end.
struct Script {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                seen.lock().unwrap().push(request);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, asked }
    }

    fn client(&self) -> Client {
        Client::new(self.address.parse().unwrap(), None, Some("secret")).unwrap()
    }

    fn session(&self) -> Session {
        Session { client: self.client(), environment: None, json: true, style: Style::of_stdout() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Head and body as text.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        text.extend_from_slice(&piece[..read]);
        let shown = String::from_utf8_lossy(&text).to_lowercase();
        let Some((head, body)) = shown.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if read == 0 || length.is_none_or(|length| body.len() >= length.parse().unwrap()) {
            return String::from_utf8(text).unwrap();
        }
    }
}

fn answer(status: &str, body: &Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn field<'r>(request: &'r str, name: &str) -> Option<&'r str> {
    let start = format!("{name}: ");
    request.lines().find_map(|line| line.strip_prefix(start.as_str()))
}

const LOST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":";

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let in_use = answer("409 Conflict", &json!({ "code": "idempotency_key_in_use", "title": "Under way" }));
    let script = Script::start(vec![LOST.into(), in_use, answer("200 OK", &json!({ "done": true }))]).await;
    let call = Call::post("/api/v1/x", json!({ "reason": "r" })).query("environment", Some("a b&c"));
    let document = script.client().send(&call).await.unwrap();
    assert_eq!(document, json!({ "done": true }));
    let asked = script.asked();
    let keys: Vec<_> = asked.iter().map(|request| field(request, "idempotency-key").unwrap()).collect();
    assert_eq!(keys, [keys[0]; 3]);
    assert_eq!(keys[0].len(), 32);
    let first = asked[0].lines().next().unwrap();
    assert_eq!(first, "POST /api/v1/x?environment=a%20b%26c HTTP/1.1");
    assert_eq!(field(&asked[0], "authorization"), Some("Bearer secret"));
    assert!(asked[0].ends_with("{\"reason\":\"r\"}"), "{}", asked[0]);
    let other = Script::start(vec![answer("200 OK", &json!({}))]).await;
    other.client().send(&call).await.unwrap();
    assert_ne!(field(&other.asked()[0], "idempotency-key"), Some(keys[0]), "another command has another key");
}

#[tokio::test]
async fn what_has_no_key_is_not_sent_twice() {
    let script = Script::start(vec![LOST.into(), answer("200 OK", &json!({}))]).await;
    let failure = script.client().send(&Call::patch("/x", json!({}))).await.unwrap_err();
    assert!(matches!(failure, Failure::Lost { changes: true, .. }), "{failure}");
    assert!(failure.to_string().contains("is not known"), "{failure}");
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_goes_away_after_the_request_leaves_it_unknown() {
    let script = Script::start(vec![LOST.into()]).await;
    let failure = script.client().send(&Call::post("/x", json!({}))).await.unwrap_err();
    assert!(matches!(failure, Failure::Lost { changes: true, .. }), "{failure}");
}

#[tokio::test]
async fn nobody_there_says_what_to_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let failure = Client::new(server, None, None).unwrap().send(&Call::get("/x")).await.unwrap_err();
    assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
    for words in ["pointsman run", "admin.address", "--server"] {
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

#[tokio::test]
async fn what_is_no_pointsman_is_told_apart() {
    let page = "<html>hello</html>";
    let html = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{page}", page.len());
    for status in ["200 OK", "404 Not Found"] {
        let script = Script::start(vec![html(status)]).await;
        let failure = script.client().send(&Call::get("/x")).await.unwrap_err();
        assert!(matches!(failure, Failure::Foreign { .. }), "{failure}");
    }
    let script = Script::start(vec![answer("200 OK", &json!([1]))]).await;
    let failure = script.client().ask::<super::wire::Deployment>(&Call::get("/x")).await.err().unwrap();
    assert!(matches!(failure, Failure::Foreign { .. }), "{failure}");
}

#[test]
fn a_token_that_cannot_be_one_is_refused() {
    let server: super::Server = "http://127.0.0.1:1".parse().unwrap();
    assert!(Client::new(server, None, Some("a\nb")).is_err());
}

fn deployment(state: &str) -> String {
    answer("200 OK", &json!({ "id": "d1", "agent": "bot", "version": "2.0.0", "state": state, "weightPercent": 5.0 }))
}

async fn waited(answers: Vec<String>) -> Result<Exit, Failure> {
    let script = Script::start(answers).await;
    let patience: wait::Patience = patience(&[]);
    wait::follow(&script.session(), "bot", "d1", &patience).await
}

fn patience(arguments: &[&str]) -> wait::Patience {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        patience: wait::Patience,
    }
    clap::Parser::try_parse_from([&["wait"], arguments].concat()).map(|Alone { patience }| patience).unwrap()
}

#[tokio::test]
async fn a_wait_ends_as_the_deployment_does() {
    for (last, exit) in [
        ("completed", Exit::Done),
        ("rolled_back", Exit::NotComplete),
        ("aborted", Exit::NotComplete),
        ("superseded", Exit::NotComplete),
    ] {
        let states = ["waiting", "running", "a state of a later server", "paused", last];
        assert_eq!(waited(states.map(deployment).into()).await.unwrap(), exit, "{last}");
    }
}

#[tokio::test]
async fn a_wait_outlasts_a_server_that_is_away_and_not_one_that_refuses() {
    let busy = answer("503 Service Unavailable", &json!({ "code": "starting" }));
    let answers = vec![deployment("running"), busy, deployment("completed")];
    assert_eq!(waited(answers).await.unwrap(), Exit::Done);
    let gone = answer("404 Not Found", &json!({ "code": "no_deployment", "title": "There is no such deployment" }));
    let failure = waited(vec![deployment("running"), gone]).await.unwrap_err();
    assert!(failure.to_string().starts_with("There is no such deployment (404 no_deployment)"), "{failure}");
}

#[tokio::test]
async fn a_wait_has_an_end() {
    let script = Script::start(vec![deployment("running"); 20]).await;
    let exit = wait::follow(&script.session(), "bot", "d1", &patience(&["--timeout", "700ms"])).await.unwrap();
    assert_eq!(exit, Exit::TimedOut);
}

#[tokio::test]
async fn a_watch_goes_on_after_the_last_event_that_it_saw() {
    let stream = |events: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{events}");
    let refused = answer("401 Unauthorized", &json!({ "code": "wrong_token", "title": "The token is not known" }));
    let script = Script::start(vec![
        stream("id: 7\nevent: step\ndata: {\"agent\":\"bot\"}\n\nid: 8\ndata: {}\n\n"),
        stream(": nothing new\n\n"),
        answer("503 Service Unavailable", &json!({ "code": "stopping" })),
        stream("id: 9\ndata: {}\n\nid: 10\ndata: cut o"),
        refused,
    ])
    .await;
    let arguments = ["watch", "--after", "6"];
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: watch::Args,
    }
    let Alone { args } = clap::Parser::try_parse_from(arguments).unwrap();
    let failure = watch::run(&script.session(), &args).await.unwrap_err();
    assert!(failure.to_string().contains("wrong_token"), "{failure}");
    let asked = script.asked();
    let resumed: Vec<_> = asked.iter().map(|request| field(request, "last-event-id").unwrap()).collect();
    assert_eq!(resumed, ["6", "8", "8", "8", "9"]);
}

#[tokio::test]
async fn the_audit_is_read_from_its_end_as_far_as_it_is_wanted() {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: reads::Audit,
    }
    let page = |newest: u64| {
        let items = [newest, newest - 1].map(|sequence| json!({ "sequence": sequence }));
        answer("200 OK", &json!({ "items": items, "next": (newest - 1).to_string() }))
    };
    for (flag, value, pages) in [("--limit", "2", 1), ("--limit", "3", 2), ("--after", "7", 1), ("--after", "6", 2)] {
        let script = Script::start(vec![page(9), page(7)]).await;
        let Alone { args } = clap::Parser::try_parse_from(["audit", flag, value]).unwrap();
        reads::audit(&script.session(), &args).await.unwrap();
        let asked = script.asked();
        assert_eq!(asked.len(), pages, "{flag} {value}: {asked:?}");
        assert!(asked.iter().all(|request| request.contains("order=newest")), "{asked:?}");
    }
}
