//! A small HTTP/1.1 client for checks and queries: one connection, one request, a bounded answer.
//!
//! It lives in the future of its caller alone: dropping that ends everything, so a time-out is the caller's.
//! With an `https` address it speaks TLS, as requests to that address do. Left out: redirects, and reuse of
//! connections; a check that reuses one would not see a dead listener.

use std::error::Error;
use std::io;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::descriptors;
use crate::routing::spec::{EndpointAddress, EndpointTls, Protocol};
use crate::tls::client::{Clients, Failure};

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// As much of it as was asked for.
    pub body: Vec<u8>,
    /// There was more.
    pub truncated: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("no TLS: {0}")]
    Tls(#[from] Failure),
    #[error("no valid answer: {}", with_causes(.0))]
    Http(#[from] hyper::Error),
}

/// Either kind of socket.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// Whom to ask, and what TLS with it takes.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    pub address: &'a EndpointAddress,
    pub tls: &'a Arc<EndpointTls>,
    pub clients: &'a Clients,
}

/// A connection, without TLS.
pub async fn reach(address: &EndpointAddress) -> io::Result<Box<dyn Socket>> {
    // As connections of requests do, these leave the last of the reserve to the admin side.
    Ok(match address {
        EndpointAddress::Http { host, port } | EndpointAddress::Https { host, port } => {
            let socket = TcpStream::connect((host.as_str(), *port)).await?;
            descriptors::check(&socket)?;
            Box::new(socket)
        }
        EndpointAddress::Unix(path) => {
            let socket = UnixStream::connect(path).await?;
            descriptors::check(&socket)?;
            Box::new(socket)
        }
    })
}

async fn connect(peer: Peer<'_>) -> Result<Box<dyn Socket>, ClientError> {
    let socket = reach(peer.address).await?;
    let EndpointAddress::Https { host, .. } = peer.address else { return Ok(socket) };
    let (stream, _) = peer.clients.connect(socket, peer.tls, host, Protocol::Http1).await?;
    Ok(Box::new(stream))
}

/// Sends the request and reads of the body what `wanted` says for the status; with 0 it is not waited for.
pub async fn send(
    peer: Peer<'_>,
    request: Request<Full<Bytes>>,
    wanted: impl FnOnce(StatusCode) -> usize,
) -> Result<Answer, ClientError> {
    let socket = TokioIo::new(connect(peer).await?);
    let (mut sender, connection) = http1::handshake(socket).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let limit = wanted(response.status());
        read(response, limit).await
    };
    // Whatever ends the connection has reached the exchange, which then ends too.
    let driver = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = exchange => Ok(answer?),
        never = driver => never,
    }
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Answer, hyper::Error> {
    let status = response.status();
    let (mut incoming, mut body, mut truncated) = (response.into_body(), Vec::new(), false);
    while limit > 0 && !truncated {
        let Some(frame) = incoming.frame().await.transpose()? else { break };
        let data = frame.into_data().unwrap_or_default();
        let room = data.len().min(limit - body.len());
        body.extend_from_slice(&data[..room]);
        truncated = room < data.len();
    }
    Ok(Answer { status, body, truncated })
}

/// hyper's own words say little without their causes.
fn with_causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
