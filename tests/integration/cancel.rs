//! Clients that go away.

use std::sync::mpsc;
use std::time::Instant;

use crate::harness::{App, Endpoint, PATIENCE, eventually};

#[test]
fn a_client_that_leaves_before_the_answer_cancels_the_endpoint_s_work() {
    let (told, gone) = mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        told.send("working").unwrap();
        assert!(wire.is_closed());
        told.send("cancelled").unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(gone.recv_timeout(PATIENCE), Ok("working"));
    let left = Instant::now();
    drop(client);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok("cancelled"));
    println!("a cancel before the answer was with the endpoint after {:?}", left.elapsed());
    eventually("it is counted as the client's doing", || app.outcomes("client_cancel") == 1.0);
    assert_eq!(app.metric("pointsman_requests_in_flight{"), 0.0);
}

#[test]
fn a_client_that_leaves_a_stream_cancels_it() {
    let (told, gone) = mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").unwrap();
        while wire.write("1\r\nx\r\n").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        told.send(()).unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.head().unwrap();
    client.chunk().unwrap();
    drop(client);
    gone.recv_timeout(PATIENCE).unwrap();
    eventually("it is counted as the client's doing", || app.outcomes("client_cancel") == 1.0);
}

#[test]
fn a_client_that_leaves_a_silent_answer_cancels_it() {
    for head in ["content-length: 5", "transfer-encoding: chunked"] {
        let (told, gone) = mpsc::channel();
        let endpoint = Endpoint::start(move |mut wire| {
            wire.message().unwrap();
            wire.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).unwrap();
            assert!(wire.is_closed());
            told.send(()).unwrap();
        });
        let app = App::before(&endpoint);
        let mut client = app.client();
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        client.head().unwrap();
        let left = Instant::now();
        drop(client);
        gone.recv_timeout(PATIENCE).unwrap();
        println!("a cancel of a silent answer was with the endpoint after {:?}", left.elapsed());
        eventually("it is counted as the client's doing", || app.outcomes("client_cancel") == 1.0);
    }
}

#[test]
fn a_client_that_leaves_its_upload_cancels_it() {
    for head in ["content-length: 9", "transfer-encoding: chunked"] {
        let (told, gone) = mpsc::channel();
        let endpoint = Endpoint::start(move |mut wire| {
            wire.head().unwrap();
            told.send("working").unwrap();
            while wire.line().is_some() {}
            told.send("cancelled").unwrap();
        });
        let app = App::before(&endpoint);
        let mut client = app.client();
        client.write(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n3\r\nabc")).unwrap();
        assert_eq!(gone.recv_timeout(PATIENCE), Ok("working"));
        drop(client);
        assert_eq!(gone.recv_timeout(PATIENCE), Ok("cancelled"));
        eventually("nothing is in flight", || app.metric("pointsman_requests_in_flight{") == 0.0);
        assert_eq!(app.outcomes("client_cancel") + app.outcomes("client_error"), 1.0);
    }
}

#[test]
fn a_client_that_leaves_while_no_endpoint_accepts_ends_the_wait() {
    // A queue of one that nobody takes from: once it is full, the kernel answers no more connections.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let patience = std::time::Duration::from_millis(300);
    let fill = || std::net::TcpStream::connect_timeout(&address, patience).ok();
    let filling: Vec<_> = std::iter::from_fn(fill).take(16).collect();
    assert!(filling.len() < 16, "the queue has no end");
    let app = App::with_agents(&format!(
        "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['http://{address}'] }}\n    stable: 1.0.0\n    timeouts: {{ connect: 60s, response: 60s }}\n"
    ));
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    eventually("it is on its way", || app.metric("pointsman_requests_in_flight{") == 1.0);
    drop(client);
    eventually("it is counted as the client's doing", || app.outcomes("client_cancel") == 1.0);
}
