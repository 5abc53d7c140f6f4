//! One try of one check.

use std::io;
use std::time::Duration;

use http::{Request, header};
use http_body_util::Full;
use hyper::body::Bytes;

use super::command;
use super::spec::{CheckKind, HealthCheck, HttpCheck};
use crate::control::client::{self, ClientError, Peer};
use crate::control::template;
use crate::descriptors;
use crate::routing::spec::EndpointAddress;

/// How much of a wrong answer's body is shown.
const BODY_SHOWN: usize = 200;

/// Why a try did not go well.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// What was wrong.
    Endpoint(String),
    /// There was no descriptor for the question: nothing is known of the endpoint.
    Ours,
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Endpoint(what)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if descriptors::is_ours(&error) { Self::Ours } else { Self::Endpoint(format!("cannot connect: {error}")) }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect(error) => error.into(),
            error => Self::Endpoint(error.to_string()),
        }
    }
}

/// Asks the endpoint. `names` are for the templates in a command.
pub async fn once(check: &HealthCheck, endpoint: Peer<'_>, names: &[(&str, &str)]) -> Result<(), Trouble> {
    match &check.kind {
        CheckKind::Http(http) => in_time(check.timeout, ask(http, endpoint)).await,
        CheckKind::Tcp => in_time(check.timeout, knock(endpoint.address)).await,
        CheckKind::Command(argv) => {
            let argv: Vec<String> = argv.iter().map(|part| template::fill(part, names)).collect();
            Ok(command::run(&argv, check.timeout).await?)
        }
    }
}

async fn in_time(timeout: Duration, work: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
    let late = |_| Err(format!("no answer in {}", humantime::format_duration(timeout)).into());
    tokio::time::timeout(timeout, work).await.unwrap_or_else(late)
}

async fn knock(endpoint: &EndpointAddress) -> Result<(), Trouble> {
    Ok(client::reach(endpoint).await.map(drop)?)
}

async fn ask(http: &HttpCheck, endpoint: Peer<'_>) -> Result<(), Trouble> {
    let host = http.host.clone().unwrap_or_else(|| endpoint.address.authority());
    let mut request = Request::builder()
        .method(http.method.as_str())
        .uri(&http.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("pointsman/", env!("CARGO_PKG_VERSION"), " health check"))
        .header(header::CONNECTION, "close");
    for (name, value) in &http.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    let shown = |status| if http.status.contains(status) { 0 } else { BODY_SHOWN };
    let answer = client::send(endpoint, request, shown).await?;
    if http.status.contains(answer.status) {
        return Ok(());
    }
    let body = super::one_line(String::from_utf8_lossy(&answer.body).trim());
    let said = if body.is_empty() { String::new() } else { format!(": {body}") };
    Err(format!("status {}, expected {}{said}", answer.status.as_u16(), http.status).into())
}
