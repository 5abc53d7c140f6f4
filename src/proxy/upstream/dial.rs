//! Connecting to an endpoint: its socket, and where it is `https` the handshake on it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::super::io::{TlsSocket, UpstreamStream};
use super::{Http1, Upstream};
use crate::descriptors;
use crate::routing::spec::{EndpointAddress, ExchangeSpec};
use crate::telemetry::endpoint_tls::Handshake;
use crate::telemetry::endpoints::EjectionReason;
use crate::tls::client::{Clients, Failure};

/// Shared by all who wait for one attempt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("connect: {0}")]
    Io(Rc<io::Error>),
    #[error("TLS: {0}")]
    Tls(Rc<Failure>),
    #[error("the endpoint does not speak HTTP/2 without being asked: {0}")]
    NotHttp2(Rc<h2::Error>),
    #[error("connect timed out")]
    TimedOut,
    /// Nothing is known of the endpoint.
    #[error("no file descriptor is left")]
    NoDescriptor,
}

impl ConnectError {
    /// What the endpoint did. `None`: it was us, who lacked a descriptor, a port or memory.
    pub fn reason(&self) -> Option<EjectionReason> {
        match self {
            Self::NoDescriptor => None,
            Self::Io(error) if descriptors::is_ours(error) => None,
            Self::Tls(failure) if failure.ended == Handshake::Settings => None,
            Self::Io(_) => Some(EjectionReason::ConnectFailed),
            Self::Tls(_) => Some(EjectionReason::TlsFailed),
            Self::NotHttp2(_) => Some(EjectionReason::BadResponse),
            Self::TimedOut => Some(EjectionReason::ConnectTimeout),
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        if descriptors::is_shortage(&error) { Self::NoDescriptor } else { Self::Io(Rc::new(error)) }
    }
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        Self::Tls(Rc::new(failure))
    }
}

/// Whom to connect to, and how.
#[derive(Clone, Copy)]
pub struct Dial<'a> {
    pub address: &'a EndpointAddress,
    pub spec: &'a ExchangeSpec,
    pub clients: &'a Arc<Clients>,
}

impl Dial<'_> {
    /// A new connection for HTTP/1.1.
    pub async fn http1(self) -> Result<Upstream, ConnectError> {
        let stream = self.in_time(self.open()).await?;
        Ok(Upstream::Http1(Box::new(Http1::new(stream, self.spec.pool_idle))))
    }

    /// All that it takes to be connected has one time-out.
    pub async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let patience: Duration = self.spec.connect_timeout;
        timeout(patience, connecting).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    /// The connection, over which the agent's protocol is spoken.
    pub async fn open(self) -> Result<UpstreamStream, ConnectError> {
        match self.address {
            EndpointAddress::Http { host, port } => Ok(UpstreamStream::Tcp(tcp(host, *port).await?)),
            EndpointAddress::Https { host, port } => {
                let socket = tcp(host, *port).await?;
                let (stream, made_with) =
                    self.clients.connect(socket, &self.spec.tls, host, self.spec.protocol).await?;
                Ok(UpstreamStream::Tls(Box::new(TlsSocket::new(stream, made_with))))
            }
            EndpointAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                descriptors::check(&stream)?;
                Ok(UpstreamStream::Unix(stream))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    descriptors::check(&stream)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
