use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server;
use http::Request;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::super::super::io::UpstreamStream;
use super::super::connection::{Connection, Place};
use super::*;

/// The clock jumps when all wait for it.
fn with_paused_clock(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build_local(Default::default()).unwrap().block_on(test);
}

/// A connection with one call on it.
struct Called<T> {
    connection: Rc<Connection>,
    place: Place,
    response: ResponseFuture,
    endpoint: server::Connection<UnixStream, Bytes>,
    /// The call at the endpoint, which nobody answers.
    _accepted: T,
}

async fn call() -> Called<impl Sized> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let opening = spawn_local(Connection::over(UpstreamStream::Unix(ours), Duration::MAX, Rc::new(Notify::new())));
    let mut endpoint = server::handshake(theirs).await.unwrap();
    let calling = async {
        let connection = Rc::new(opening.await.unwrap().unwrap_or_else(|error| panic!("{error}")));
        let place = connection.place().unwrap();
        let (response, _) = place.send(Request::new(()), true).unwrap();
        (connection, place, response)
    };
    let ((connection, place, response), _accepted) = tokio::join!(calling, endpoint.accept());
    Called { connection, place, response, endpoint, _accepted }
}

#[test]
fn an_endpoint_that_answers_no_ping_is_given_up() {
    with_paused_clock(async {
        let call = call().await;
        let start = Instant::now();
        // It reads nothing any more.
        let broken = timeout(Duration::from_secs(3600), call.response).await.expect("not for ever");
        assert!(broken.is_err() && call.connection.is_spent());
        let after = start.elapsed();
        assert!(after > TICK * SILENT_TICKS && after <= TICK * (SILENT_TICKS + 2), "{after:?}");
    });
}

#[test]
fn an_endpoint_that_is_only_silent_is_kept() {
    with_paused_clock(async {
        let mut call = call().await;
        // Answering pings is what it still does.
        let reading = spawn_local(async move { call.endpoint.accept().await.is_some() });
        let waited = timeout(Duration::from_secs(86_400), call.response).await;
        assert!(waited.is_err() && !call.connection.is_spent() && !reading.is_finished(), "a day of silence");
    });
}

#[test]
fn a_connection_without_exchanges_is_not_asked() {
    with_paused_clock(async {
        let call = call().await;
        drop((call.place, call.response));
        sleep(Duration::from_secs(3600)).await;
        assert!(!call.connection.is_spent(), "nobody needs it, so nobody asks");
        drop(call.endpoint);
        sleep(Duration::from_secs(1)).await;
        assert!(call.connection.is_spent(), "its end is noticed");
    });
}
