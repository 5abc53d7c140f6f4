//! A small HTTP client for the control-plane API: one connection per request, on the hyper that the proxy uses.
//!
//! Rules: a request that changes something carries an `Idempotency-Key`, so the server does it once however
//! often it arrives; only therefore may it be sent again when its answer was lost. A refused connection is
//! not tried again: nothing was done, and the operator should know at once.
//!
//! Bounds: [`CONNECT_TIMEOUT`] to a connection, [`ANSWER_TIMEOUT`] to a whole answer, [`ANSWER_LIMIT`] bytes of
//! it, [`ATTEMPTS`] in all.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::failure::{Failure, Problem, Refusal};
use super::secure::Secure;
use super::server::Server;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More than the server itself allows for a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: usize = 64 << 20;
const ATTEMPTS: u32 = 3;
/// Before the second attempt; twice as long before the third.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

pub struct Client {
    pub server: Server,
    /// `None`: it is asked in clear.
    secure: Option<Secure>,
    authorization: Option<HeaderValue>,
}

/// With TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// What is asked of the server.
pub struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), headers: Vec::new(), body: None }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    pub fn patch(path: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PATCH, path) }
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub fn header(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.headers.extend(value.map(|value| (name, value.to_string())));
        self
    }

    fn changes(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it may arrive twice: a POST does, for it has a key.
    fn repeatable(&self) -> bool {
        matches!(self.method, Method::GET | Method::POST)
    }

    fn target(&self) -> String {
        let fields = self.query.iter().enumerate().map(|(index, (name, value))| {
            let mark = if index == 0 { '?' } else { '&' };
            format!("{mark}{name}={}", encode(value))
        });
        format!("{}{}", self.path, fields.collect::<String>())
    }
}

/// One segment of a path, or a value of the query.
pub fn encode(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

impl Client {
    pub fn new(server: Server, secure: Option<Secure>, token: Option<&str>) -> anyhow::Result<Self> {
        let header = |token: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            Ok::<_, http::header::InvalidHeaderValue>(value)
        };
        let authorization = token
            .map(header)
            .transpose()
            .map_err(|_| anyhow::anyhow!("the token has characters that no token has, such as a line break within"))?;
        Ok(Self { server, secure, authorization })
    }

    /// The answer, in the shape that it should have, and as it came.
    pub async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<(T, Value), Failure> {
        let document = self.send(call).await?;
        let shaped = T::deserialize(&document)
            .map_err(|error| self.foreign(format_args!("{} {}: {error}", call.method, call.path)))?;
        Ok((shaped, document))
    }

    /// The answer as it came.
    pub async fn send(&self, call: &Call) -> Result<Value, Failure> {
        let key = if call.method == Method::POST { Some(idempotency_key()?) } else { None };
        let mut lost = None;
        let mut attempt = 1;
        loop {
            let failure = match self.once(call, key.as_deref()).await {
                Ok(document) => return Ok(document),
                Err(failure) => failure,
            };
            let again = match &failure {
                Failure::Lost { .. } => call.repeatable(),
                // The first attempt is still under way at the server; its answer is what we want.
                Failure::Refused(refusal) => refusal.problem.code == "idempotency_key_in_use",
                _ => false,
            };
            if !again || attempt == ATTEMPTS {
                // Nothing came of an attempt without a connection, but an earlier one may have done it.
                let unreachable = matches!(failure, Failure::Unreachable { .. });
                return Err(if unreachable { lost.unwrap_or(failure) } else { failure });
            }
            lost = Some(failure);
            sleep(RETRY_PAUSE * attempt).await;
            attempt += 1;
        }
    }

    async fn once(&self, call: &Call, key: Option<&str>) -> Result<Value, Failure> {
        let answer = async {
            let response = self.open(call, key).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
            let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
                Ok(_) => self.foreign(format_args!("its answer is larger than {} MiB", ANSWER_LIMIT >> 20)),
                Err(error) => self.lost(call, error),
            })?;
            self.read(status, &body.to_bytes())
        };
        let late = |_| self.lost(call, format_args!("none came within {} s", ANSWER_TIMEOUT.as_secs()));
        timeout(ANSWER_TIMEOUT, answer).await.map_err(late)?
    }

    /// Sends the request; the answer's body is still to be read.
    async fn open(&self, call: &Call, key: Option<&str>) -> Result<http::Response<Incoming>, Failure> {
        let unreachable = |why: String| Failure::Unreachable { server: self.server.clone(), why };
        let stream = match timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        let request = self.request(call, key)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(Box::into_pin(stream))).await.map_err(|error| self.lost(call, error))?;
        // Ends with the answer's body; how a connection ended is the body's to say.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        sender.send_request(request).await.map_err(|error| self.lost(call, error))
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.server.address()).await?;
        let Some(Secure { connector, name }) = &self.secure else { return Ok(Box::new(stream)) };
        Ok(Box::new(connector.connect(name.clone(), stream).await?))
    }

    fn request(&self, call: &Call, key: Option<&str>) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(self.server.target(&call.target()))
            .header(header::HOST, self.server.authority())
            .header(header::USER_AGENT, concat!("pointsman/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let body = match &call.body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body)?.into()
            }
        };
        Ok(request.body(Full::new(body))?)
    }

    fn read(&self, status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
        let not_json = || self.foreign(format_args!("it answered {status}, and not with JSON"));
        let document: Value = serde_json::from_slice(body).map_err(|_| not_json())?;
        if status.is_success() {
            return Ok(document);
        }
        let mut problem = Problem::deserialize(&document).map_err(|_| not_json())?;
        problem.status = status.as_u16();
        Err(Failure::Refused(Box::new(Refusal { problem, document })))
    }

    /// An answer whose body is a stream, which ends when it likes.
    pub async fn stream(&self, call: &Call) -> Result<Incoming, Failure> {
        let late = |_| self.lost(call, format_args!("none came within {} s", ANSWER_TIMEOUT.as_secs()));
        let response = timeout(ANSWER_TIMEOUT, self.open(call, None)).await.map_err(late)??;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect();
        let body = timeout(ANSWER_TIMEOUT, body).await.map_err(late)?.map_err(|error| self.lost(call, error))?;
        let refusal = self.read(status, &body.to_bytes()).err();
        Err(refusal.unwrap_or_else(|| self.foreign(format_args!("it answered {status}"))))
    }

    fn lost(&self, call: &Call, why: impl ToString) -> Failure {
        Failure::Lost { server: self.server.clone(), why: why.to_string(), changes: call.changes() }
    }

    fn foreign(&self, why: impl ToString) -> Failure {
        Failure::Foreign { server: self.server.clone(), why: why.to_string() }
    }
}

/// Not to be had twice, and not to be guessed.
fn idempotency_key() -> anyhow::Result<String> {
    let (high, low) = (getrandom::u64(), getrandom::u64());
    let unavailable = |error| anyhow::anyhow!("the system has no random numbers: {error}");
    Ok(format!("{:016x}{:016x}", high.map_err(unavailable)?, low.map_err(unavailable)?))
}
