//! One query: the HTTP exchange, and what its answer comes to.

use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::BODY_LIMIT;
use super::spec::PrometheusServer;
use crate::control::client::{self, Answer, Peer};
use crate::telemetry::outside::QueryResult;
use crate::tls::client::Clients;

/// Why a query gave no number.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoData {
    #[error("no server is configured: set `prometheus.url`")]
    NoServer,
    #[error("the server did not answer: {0}")]
    Unreachable(String),
    #[error("the server did not answer in {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("the server refused the query: {0}")]
    BadQuery(String),
    #[error("the answer is not that of a Prometheus server: {0}")]
    BadAnswer(String),
    #[error("no series fits the query")]
    Empty,
    #[error("{0} series fit the query; it must give one number, as sum() or max() do")]
    SeveralSeries(usize),
    #[error("the value is NaN, as of a division of nothing by nothing")]
    NotANumber,
}

impl NoData {
    pub fn result(&self) -> QueryResult {
        match self {
            Self::NoServer => QueryResult::NoServer,
            Self::Unreachable(_) => QueryResult::Unreachable,
            Self::TimedOut(_) => QueryResult::TimedOut,
            Self::BadQuery(_) => QueryResult::BadQuery,
            Self::BadAnswer(_) => QueryResult::BadAnswer,
            Self::Empty => QueryResult::Empty,
            Self::SeveralSeries(_) => QueryResult::SeveralSeries,
            Self::NotANumber => QueryResult::NotANumber,
        }
    }
}

pub(super) async fn ask(server: &PrometheusServer, clients: &Clients, query: &str) -> Result<f64, NoData> {
    let request = request(server, query).map_err(|error| NoData::BadQuery(error.to_string()))?;
    let peer = Peer { address: &server.address, tls: &server.tls, clients };
    let exchange = client::send(peer, request, |_| BODY_LIMIT);
    match tokio::time::timeout(server.timeout, exchange).await {
        Err(_) => Err(NoData::TimedOut(server.timeout)),
        Ok(Err(error)) => Err(NoData::Unreachable(error.to_string())),
        Ok(Ok(answer)) => read(&answer),
    }
}

/// A form and no URL: a query may be longer than one.
fn request(server: &PrometheusServer, query: &str) -> http::Result<Request<Full<Bytes>>> {
    let timeout = server.timeout.as_millis();
    let form = format!("query={}&timeout={timeout}ms", utf8_percent_encode(query, NON_ALPHANUMERIC));
    let mut request = Request::post(format!("{}/api/v1/query", server.prefix))
        .header(header::HOST, server.address.authority())
        .header(header::USER_AGENT, concat!("pointsman/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::CONNECTION, "close");
    if let Some(authorization) = &server.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    request.body(Full::new(form.into()))
}

#[derive(Deserialize)]
struct Body {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Point),
    Vector(Vec<Series>),
    Matrix(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    /// None of a native histogram.
    value: Option<Point>,
}

/// A time, and a number as text.
#[derive(Deserialize)]
struct Point(#[allow(dead_code, reason = "it has a place in the answer, and tells nothing new")] f64, String);

pub(super) fn read(answer: &Answer) -> Result<f64, NoData> {
    if answer.truncated {
        return Err(NoData::BadAnswer(format!("it is longer than {BODY_LIMIT} bytes")));
    }
    let body: Body = serde_json::from_slice(&answer.body)
        .map_err(|error| NoData::BadAnswer(format!("status {}, {error}", answer.status.as_u16())))?;
    match body {
        Body { error: Some(error), .. } if refused(answer.status) => Err(NoData::BadQuery(error)),
        Body { error: Some(error), .. } => Err(NoData::Unreachable(error)),
        Body { data: Some(data), .. } if answer.status.is_success() => number(data),
        _ => Err(NoData::BadAnswer(format!("status {}, neither data nor error", answer.status.as_u16()))),
    }
}

/// The query is at fault, and not the server.
fn refused(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
}

fn number(data: Data) -> Result<f64, NoData> {
    let Point(_, text) = match data {
        Data::Scalar(point) => point,
        Data::Vector(mut series) => match (series.pop(), series.len()) {
            (None, _) => return Err(NoData::Empty),
            (Some(Series { value: Some(point) }), 0) => point,
            (Some(Series { value: None }), 0) => {
                return Err(NoData::BadQuery("it gives a histogram, and not a number".into()));
            }
            (Some(_), more) => return Err(NoData::SeveralSeries(more + 1)),
        },
        Data::Matrix(_) => {
            return Err(NoData::BadQuery("it gives a range, and not a number; take off the `[…]`".into()));
        }
        Data::String(_) => return Err(NoData::BadQuery("it gives a text, and not a number".into())),
    };
    // Rust reads `NaN`, `+Inf` and `-Inf` as Prometheus writes them.
    match text.parse::<f64>() {
        Ok(value) if value.is_nan() => Err(NoData::NotANumber),
        Ok(value) => Ok(value),
        Err(_) => Err(NoData::BadAnswer(format!("`{}` is no number", text.chars().take(40).collect::<String>()))),
    }
}
