//! TLS with a client, up to where HTTP begins: its handshake, what both will speak, and whose certificate it has shown.
//!
//! Runs on the worker, in the connection's task, and must be done when the timer fires. Nobody is told why a
//! handshake failed but the client, by an alert; we count it, and log it at `debug`. Who speaks HTTP to this port is
//! told so in HTTP.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use rustls::{AlertDescription, Error, HandshakeKind, ServerConfig, ServerConnection};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::SEND_BYTES;
use super::{Client, LINGER};
use crate::proxy::error::raw_reply;
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::tls::Handshake;
use crate::tls::server::{self, HTTP2};

/// The first byte of TLS: a record of the handshake (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// A connection with TLS on it.
pub(super) struct Secured {
    pub stream: Box<TlsStream<TcpStream>>,
    pub http2: bool,
}

/// Shakes hands. `None`: the connection is over, and everyone has been told.
pub(super) async fn secure(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    client: &Client,
    mut timer: Pin<&mut Sleep>,
) -> Option<Secured> {
    let first = in_time(client, timer.as_mut(), first_byte(&stream)).await;
    let shaken = match first {
        Some(Ok(Some(HANDSHAKE_RECORD))) => {
            let limited = |session: &mut ServerConnection| session.set_buffer_limit(Some(SEND_BYTES));
            in_time(client, timer, TlsAcceptor::from(config).accept_with(stream, limited)).await
        }
        Some(Ok(Some(byte))) if byte.is_ascii_alphabetic() => {
            refuse_plaintext(&stream, client);
            return None;
        }
        Some(Ok(Some(_))) => Some(Err(io::ErrorKind::InvalidData.into())),
        Some(Ok(None)) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        Some(Err(error)) => Some(Err(error)),
        None => None,
    };
    match shaken {
        Some(Ok(stream)) => secured(Box::new(stream), client),
        Some(Err(error)) => {
            note(client, meaning(&error), &error);
            None
        }
        None => {
            note(client, Handshake::Timeout, &"it took too long");
            None
        }
    }
}

fn secured(stream: Box<TlsStream<TcpStream>>, client: &Client) -> Option<Secured> {
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(HTTP2);
    match server::holder(session, SystemTime::now()) {
        Ok(Some(holder)) => client.identify(holder),
        Ok(None) => {}
        Err(error) => {
            note(client, Handshake::BadCertificate, &error);
            return None;
        }
    }
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    client.worker.counters().handshakes.count(if resumed { Handshake::Resumed } else { Handshake::Full });
    Some(Secured { stream, http2 })
}

fn note(client: &Client, result: Handshake, why: &dyn std::fmt::Display) {
    client.worker.counters().handshakes.count(result);
    tracing::debug!(client = %client.peer, result = result.as_str(), %why, "no TLS with a client");
}

/// Polls `step` to its end, or to the timer's. At a stop it has little time: nothing is under way yet.
async fn in_time<T>(client: &Client, mut timer: Pin<&mut Sleep>, step: impl Future<Output = T>) -> Option<T> {
    let (mut step, mut lingers) = (pin!(step), false);
    poll_fn(|cx| {
        client.task.remember(cx.waker());
        if let Poll::Ready(value) = step.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        if client.stopping.get() && !std::mem::replace(&mut lingers, true) {
            let deadline = timer.deadline().min(Instant::now() + LINGER);
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Looks at it, and leaves it where it is.
async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let count = poll_fn(|cx| stream.poll_peek(cx, &mut buffer)).await?;
    Ok((count > 0).then_some(byte[0]))
}

fn refuse_plaintext(stream: &TcpStream, client: &Client) {
    note(client, Handshake::Plaintext, &"it speaks HTTP without TLS");
    client.worker.counters().error(ErrorCode::BadRequest);
    // Read what is here: a socket that is closed with bytes unread takes the reply with it.
    let mut scratch = client.worker.scratch.buffer();
    let _ = stream.try_read(&mut scratch);
    let _ = stream.try_write(&raw_reply(ErrorCode::BadRequest, "this port speaks TLS; ask for https:// instead"));
}

fn meaning(error: &io::Error) -> Handshake {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        let malformed = error.kind() == io::ErrorKind::InvalidData;
        return if malformed { Handshake::Malformed } else { Handshake::Closed };
    };
    match error {
        Error::NoCertificatesPresented => Handshake::NoCertificate,
        Error::InvalidCertificate(_) => Handshake::BadCertificate,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Handshake::NothingInCommon,
        Error::AlertReceived(AlertDescription::UserCanceled | AlertDescription::CloseNotify) => Handshake::Closed,
        Error::AlertReceived(_) => Handshake::RefusedByClient,
        _ => Handshake::Malformed,
    }
}
