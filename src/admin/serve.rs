//! The admin port's connections: few, short-lived, and none able to starve the probes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::auth::Remote;

/// Open at once; more wait in the kernel's accept queue until one ends.
pub const CONNECTIONS: usize = 64;

/// From a connection's start, or the end of its last answer, to the next whole head. Also ends idle ones.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// After this a connection ends with its current answer, and [`CLOSING`] later whatever happens: a client that
/// reads nothing cannot hold its place.
const LIFETIME: Duration = Duration::from_secs(60);
const CLOSING: Duration = Duration::from_secs(10);

/// How long a stop waits for answers under way.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// After an accept error (no file descriptors, most likely), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` says true or its sender is gone, then lets answers under way end.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    let stopped = stop.wait_for(|stop| *stop);
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = accept(&listener, &places) => accepted,
        };
        connections.spawn(connection(accepted, router.clone(), stopping.clone()));
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ = tokio::time::timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// Put into each request: says when the connection's time is over, for answers that would never end by themselves.
#[derive(Clone)]
pub struct Closing(watch::Receiver<bool>);

impl Closing {
    pub async fn wait(mut self) {
        // The sender is gone when the connection is.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// Lets go of its place when it is dropped.
struct Accepted {
    stream: TcpStream,
    remote: Remote,
    _place: Option<OwnedSemaphorePermit>,
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Accepted {
    // The semaphore is never closed, so the permit is always there.
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => return Accepted { stream, remote: Remote(remote), _place: place },
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(accepted: Accepted, router: Router, mut stop: watch::Receiver<bool>) {
    let Accepted { stream, remote, _place } = accepted;
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let (close, closing) = watch::channel(false);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(remote);
        request.extensions_mut().insert(Closing(closing.clone()));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a client's connection ended is the client's affair.
        _ = &mut connection => return,
        () = tokio::time::sleep(LIFETIME) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    close.send_replace(true);
    let _ = tokio::time::timeout(CLOSING, connection).await;
}
