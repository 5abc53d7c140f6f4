//! HTTP/2 on both sides: gRPC as its clients and servers speak it.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Version};

use super::endpoint::{Endpoint2, fields, response, send};
use crate::harness::{App, eventually};

/// Echoes each message as it comes, and ends with a status; `/early` ends before its client does.
fn echo() -> Endpoint2 {
    Endpoint2::start(|mut call| async move {
        assert_eq!(call.request.headers()["te"], "trailers");
        let mut stream = call.head(response(&[("content-type", "application/grpc")]));
        let early = call.path() == "/early";
        let body = call.request.body_mut();
        while let Some(message) = body.data().await {
            let message = message.unwrap();
            body.flow_control().release_capacity(message.len()).unwrap();
            send(&mut stream, message).await.unwrap();
            if early {
                break;
            }
        }
        let status = if early { "9" } else { "0" };
        stream.send_trailers(fields(&[("grpc-status", status), ("x-detail", "1")])).unwrap();
    })
}

fn with_client(app: &App, test: impl AsyncFnOnce(SendRequest<Bytes>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.unwrap().block_on(async {
        let stream = tokio::net::TcpStream::connect(app.proxy).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::task::spawn_local(connection);
        test(client).await;
    });
}

fn call(path: &str) -> Request<()> {
    let request = Request::post(format!("http://agent.test{path}")).version(Version::HTTP_2);
    request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
}

#[test]
fn a_call_streams_both_ways_and_ends_with_its_status() {
    let endpoint = echo();
    let app = endpoint.app("");
    with_client(&app, async |mut client| {
        for path in ["/whole", "/early", "/whole"] {
            let (response, mut stream) = client.send_request(call(path), false).unwrap();
            let mut answer = response.await.unwrap().into_body();
            let messages = if path == "/early" { 1 } else { 5 };
            for number in 0..messages {
                let message = Bytes::from(format!("message {number}"));
                stream.send_data(message.clone(), false).unwrap();
                assert_eq!(answer.data().await.unwrap().unwrap(), message);
            }
            if path == "/whole" {
                stream.send_data(Bytes::new(), true).unwrap();
            }
            assert!(answer.data().await.is_none());
            let trailers = answer.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], if path == "/early" { "9" } else { "0" });
            assert_eq!(trailers["x-detail"], "1");
        }
    });
    eventually("they are counted", || app.outcomes("success") == 3.0);
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn a_client_s_cancel_reaches_the_endpoint_and_is_no_fault_of_the_version() {
    let endpoint = echo();
    let app = endpoint.app("");
    with_client(&app, async |mut client| {
        let (response, mut stream) = client.send_request(call("/whole"), false).unwrap();
        let answer = response.await.unwrap();
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
    });
    eventually("it is counted", || app.outcomes("client_cancel") == 1.0);
    assert_eq!(app.metric("pointsman_requests_in_flight{"), 0.0);
}

#[test]
fn an_answer_of_our_own_is_trailers_only() {
    let app = App::with_agents(
        "  bot:\n    protocol: http2\n    versions:\n      1.0.0: { endpoints: [] }\n    stable: 1.0.0\n",
    );
    with_client(&app, async |mut client| {
        let (response, _stream) = client.send_request(call("/x"), true).unwrap();
        let answer = response.await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
        assert!(answer.body().is_end_stream(), "nothing follows");
    });
}
