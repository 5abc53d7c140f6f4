//! The admin port's connections: few, short-lived, and none able to starve the probes; with TLS or without.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::auth::Remote;
use crate::tls::reload::Cell;
use crate::tls::server::{self, Server};

/// Open at once; more wait in the kernel's accept queue until one ends.
pub const CONNECTIONS: usize = 64;

/// From a connection's start to the end of its TLS handshake, where there is one; then, as from the end of its last
/// answer, to the next whole head. Also ends idle ones.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// After this a connection ends with its current answer, and [`CLOSING`] later whatever happens: a client that
/// reads nothing cannot hold its place.
const LIFETIME: Duration = Duration::from_secs(60);
const CLOSING: Duration = Duration::from_secs(10);

/// How long a stop waits for answers under way.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// After an accept error (no file descriptors, most likely), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What who speaks HTTP to a port with TLS is told.
const PLAINTEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 48\r\n\
                           connection: close\r\n\r\nthis port speaks TLS; ask for https:// instead\r\n";

/// Serves until `stop` says true or its sender is gone, then lets answers under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Cell<Server>>>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
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
        let tls = tls.as_ref().map(|tls| tls.load().config.clone());
        connections.spawn(connection(accepted, tls, router.clone(), stopping.clone()));
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

async fn connection(accepted: Accepted, tls: Option<Arc<ServerConfig>>, router: Router, stop: watch::Receiver<bool>) {
    let Accepted { stream, remote, _place } = accepted;
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return converse(stream, remote, router, stop).await };
    match tokio::time::timeout(HEAD_TIMEOUT, secure(stream, tls)).await {
        Ok(Ok(stream)) => converse(stream, remote, router, stop).await,
        Ok(Err(error)) => tracing::debug!(client = %remote.0, %error, "no TLS with a client of the admin port"),
        Err(_) => tracing::debug!(client = %remote.0, "no TLS with a client of the admin port: it took too long"),
    }
}

async fn secure(mut stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic() {
        // Read what is here: a socket that is closed with bytes unread takes the reply with it.
        let _ = stream.try_read(&mut [0; 4096]);
        stream.write_all(PLAINTEXT).await?;
        return Err(io::Error::other("it speaks HTTP without TLS"));
    }
    let stream = TlsAcceptor::from(tls).accept(stream).await?;
    server::holder(stream.get_ref().1, SystemTime::now()).map_err(io::Error::other)?;
    Ok(stream)
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    remote: Remote,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
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
