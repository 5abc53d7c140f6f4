//! One checked stream, over a connection of its own or one that streams share.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use memchr::memmem;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How the mock agent's first token looks.
const FIRST_TOKEN: &[u8] = br#""delta":{"content":"The"}"#;
const LAST_EVENT: &[u8] = b"data: [DONE]\n\n";
/// The first token comes within so many bytes.
const OPENING_BYTES: usize = 4096;

/// What came of a whole stream.
pub struct Heard {
    pub bytes: u64,
    /// From the request's first byte.
    pub first_token: Duration,
}

#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    connection: Connection,
}

enum Connection {
    None,
    Own(http1::SendRequest<Full<Bytes>>),
    Shared(http2::SendRequest<Full<Bytes>>),
}

impl Clone for Connection {
    /// A connection of one's own is not shared: the clone makes another.
    fn clone(&self) -> Self {
        if let Self::Shared(connection) = self { Self::Shared(connection.clone()) } else { Self::None }
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: Connection::None }
    }

    /// Clients that share HTTP/2 connections; it is known beforehand that the server speaks it.
    pub async fn shared(address: SocketAddr, connections: usize) -> anyhow::Result<Vec<Self>> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let io = TokioIo::new(connect(address).await?);
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            clients.push(Self { address, connection: Connection::Shared(sender) });
        }
        Ok(clients)
    }

    /// Asks for a stream and reads it to its end; `opened` is called when its first token is there.
    pub async fn ask(&mut self, path: &str, model: &str, opened: impl FnOnce()) -> anyhow::Result<Heard> {
        self.make_ready().await?;
        let body = json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "Which way?" }] });
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .header("x-user-id", model)
            .body(Full::from(body.to_string()))?;
        let begin = Instant::now();
        let response = match &mut self.connection {
            Connection::Own(connection) => connection.send_request(in_http1_form(request)?).await,
            Connection::Shared(connection) => connection.send_request(request).await,
            Connection::None => bail!("there is no connection"),
        };
        read(response.context("no answer")?, model, begin, opened).await
    }

    /// A connection of one's own is made anew where the last stream ended it.
    async fn make_ready(&mut self) -> anyhow::Result<()> {
        match &mut self.connection {
            Connection::Shared(connection) => return connection.ready().await.context("the connection ended"),
            Connection::Own(connection) => {
                if connection.ready().await.is_ok() {
                    return Ok(());
                }
            }
            Connection::None => {}
        }
        let io = TokioIo::new(connect(self.address).await?);
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        self.connection = Connection::Own(sender);
        Ok(())
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// HTTP/1.1 has the host in a field, not in the request line; HTTP/2 must not have both.
fn in_http1_form<T>(mut request: Request<T>) -> anyhow::Result<Request<T>> {
    let uri = std::mem::take(request.uri_mut()).into_parts();
    let host = uri.authority.context("no authority")?;
    request.headers_mut().insert("host", host.as_str().parse()?);
    *request.uri_mut() = uri.path_and_query.context("no path")?.into();
    Ok(request)
}

async fn read(
    response: Response<Incoming>,
    model: &str,
    begin: Instant,
    opened: impl FnOnce(),
) -> anyhow::Result<Heard> {
    ensure!(response.status() == 200, "answered with {}", response.status());
    let promised = response.headers().get("repr-digest").context("no digest in the head")?.clone();
    let mut body = response.into_body();
    let mut check = Check::default();
    let mut opened = Some(opened);
    let mut first_token = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the stream broke")?.into_data() else { continue };
        check.see(&data);
        if first_token.is_none() && memmem::find(&check.opening, FIRST_TOKEN).is_some() {
            first_token = Some(begin.elapsed());
            opened.take().into_iter().for_each(|opened| opened());
        }
    }
    let first_token = first_token.context("no first token")?;
    check.end(model, promised.as_bytes())?;
    Ok(Heard { bytes: check.bytes, first_token })
}

/// What is remembered of the bytes.
#[derive(Default)]
struct Check {
    digest: Sha256,
    bytes: u64,
    /// The first of them, and the last.
    opening: Vec<u8>,
    tail: Vec<u8>,
}

impl Check {
    fn see(&mut self, data: &[u8]) {
        self.digest.update(data);
        self.bytes += data.len() as u64;
        let room = OPENING_BYTES - self.opening.len();
        self.opening.extend_from_slice(&data[..data.len().min(room)]);
        self.tail.extend_from_slice(&data[data.len().saturating_sub(LAST_EVENT.len())..]);
        let excess = self.tail.len().saturating_sub(LAST_EVENT.len());
        self.tail.drain(..excess);
    }

    fn end(&mut self, model: &str, promised: &[u8]) -> anyhow::Result<()> {
        let model = format!(r#""model":"{model}""#);
        ensure!(memmem::find(&self.opening, model.as_bytes()).is_some(), "it is the stream of another request");
        ensure!(self.tail == LAST_EVENT, "its last event is missing, after {} bytes", self.bytes);
        let seen = format!("sha-256=:{}:", STANDARD.encode(self.digest.finalize_reset()));
        ensure!(seen.as_bytes() == promised, "its {} bytes are not those that were sent", self.bytes);
        Ok(())
    }
}
