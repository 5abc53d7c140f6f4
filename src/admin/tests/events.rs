//! Following the events over a real socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::port::Port;
use crate::admin::handlers::events::FOLLOWERS;

const AGENT: &str = "/api/v1/agents/support-bot";

struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    async fn open(port: &Port, headers: &str) -> Self {
        let mut socket = TcpStream::connect(port.address).await.expect("it listens");
        let request = format!("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.expect("it reads");
        Self { socket, text: String::new() }
    }

    /// Reads on until this is there.
    async fn until(&mut self, part: &str) -> &str {
        while !self.text.contains(part) {
            let mut piece = [0; 4096];
            let read = self.socket.read(&mut piece).await.expect("it answers");
            assert_ne!(read, 0, "it ended without {part:?}: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        &self.text
    }

    /// Of the newest event.
    fn last_id(&self) -> String {
        let id = self.text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
        id.expect("an id").to_owned()
    }
}

async fn command(port: &Port, target: &str) {
    let id = port.get(&format!("{AGENT}/deployment")).await.json()["id"].as_str().expect("an id").to_owned();
    let answer = port.post(&format!("{AGENT}/deployments/{id}/{target}"), "{\"reason\":\"for a test\"}").await;
    assert!(answer.status.is_success(), "{target}: {}", answer.body);
}

#[tokio::test]
async fn each_change_is_told_and_a_follower_resumes_where_it_was() {
    let port = Port::local().await;
    let mut stream = Stream::open(&port, "").await;
    let head = stream.until("id: ").await;
    assert!(head.contains("content-type: text/event-stream") && head.contains("retry: "), "{head}");
    command(&port, "pause").await;
    let text = stream.until("event: paused").await.to_owned();
    assert!(!text.contains("event: created"), "what was before is not told");
    let text = stream.until("\"why\":\"for a test\"").await;
    assert!(text.contains("\"agent\":\"support-bot\"") && text.contains("\"name\":\"local\""), "{text}");
    let last = stream.last_id();
    drop(stream);

    command(&port, "resume").await;
    command(&port, "advance").await;
    let mut stream = Stream::open(&port, &format!("last-event-id: {last}\r\n")).await;
    let text = stream.until("event: advanced").await;
    assert!(text.contains("event: resumed") && !text.contains("event: paused"), "{text}");
    command(&port, "rollback").await;
    stream.until("event: rolled_back").await;
}

#[tokio::test]
async fn an_id_of_another_run_is_told_to_be_so() {
    let port = Port::local().await;
    for last in ["0-3", "nonsense", "ffffffffffffffff-1"] {
        let mut stream = Stream::open(&port, &format!("last-event-id: {last}\r\n")).await;
        let text = stream.until("event: missed").await;
        assert!(!text.contains("event: created"), "{text}");
        stream.until("read the state anew").await;
        command(&port, "pause").await;
        stream.until("event: paused").await;
        command(&port, "resume").await;
    }
}

#[tokio::test]
async fn one_who_fell_behind_is_told_and_goes_on_from_there() {
    let port = Port::local().await;
    let mut first = Stream::open(&port, "").await;
    first.until("id: ").await;
    let last = first.last_id();
    for _ in 0..crate::control::feed::EVENTS_KEPT / 2 + 1 {
        command(&port, "pause").await;
        command(&port, "resume").await;
    }
    let mut behind = Stream::open(&port, &format!("last-event-id: {last}\r\n")).await;
    behind.until("event: missed").await;
    command(&port, "abort").await;
    let text = behind.until("event: aborted").await;
    assert!(!text.contains("event: paused"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_shows_life_and_ends_with_its_connection() {
    let port = Port::local().await;
    let mut stream = Stream::open(&port, "").await;
    stream.until(": still here").await;
    // The clock is virtual: this ends when the connection's time is over, and with the end of the body.
    stream.until("\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn only_so_many_follow_at_once() {
    let port = Port::local().await;
    let mut streams = Vec::new();
    for _ in 0..FOLLOWERS {
        let mut stream = Stream::open(&port, "").await;
        stream.until("id: ").await;
        streams.push(stream);
    }
    assert_eq!(port.get("/api/v1/events").await.problem(), "too_many_followers");
    streams.pop();
    // The server learns that it is gone when it next has something to say.
    command(&port, "pause").await;
    loop {
        let mut stream = Stream::open(&port, "").await;
        if stream.until("\r\n\r\n").await.contains("200 OK") {
            break;
        }
    }
    assert_eq!(port.get("/api/v1/events?after=1").await.problem(), "bad_request");
}
