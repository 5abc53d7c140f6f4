//! Clients that go away.

use std::sync::mpsc;

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
    drop(client);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok("cancelled"));
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
