//! What can go wrong with a request: one kind decides the status, the JSON `code`, the metric label
//! and whose fault it is.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::telemetry::counters::ErrorCode;
use crate::telemetry::stats::Outcome;

/// An exchange that ends with an answer of our own.
#[derive(Debug)]
pub(super) struct Fault {
    pub code: ErrorCode,
    /// For the client: what happened and what to do. Never an address or text of the upstream's.
    pub message: Cow<'static, str>,
    /// What else the answer says, such as when to come back.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

impl Fault {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), fields: Vec::new() }
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).expect("a closed list of valid codes")
    }

    /// How the exchange counts for the version that it was meant for.
    pub fn outcome(&self) -> Outcome {
        match self.code {
            ErrorCode::NoEndpoint => Outcome::NoEndpoint,
            ErrorCode::CircuitOpen => Outcome::CircuitOpen,
            ErrorCode::ConnectFailed | ErrorCode::ConnectTimeout | ErrorCode::TlsFailed => Outcome::ConnectFailed,
            ErrorCode::ResponseTimeout | ErrorCode::RequestTimeout => Outcome::ResponseTimeout,
            ErrorCode::UpstreamReset => Outcome::Reset,
            ErrorCode::BadResponse => Outcome::BadResponse,
            _ => Outcome::ClientError,
        }
    }

    pub fn body(&self) -> Bytes {
        json_body(self.code, &self.message)
    }

    /// The response head; the body is [`Fault::body`].
    pub fn response<B>(&self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().extend(self.fields.iter().cloned());
        response
    }
}

fn json_body(code: ErrorCode, message: &str) -> Bytes {
    let error = serde_json::json!({ "error": { "code": code.as_str(), "message": message } });
    let mut text = error.to_string();
    text.push('\n');
    text.into()
}

/// A whole HTTP/1.1 message, for a request whose head cannot be read. Closes the connection.
pub(super) fn raw_reply(code: ErrorCode, message: &str) -> Vec<u8> {
    let fault = Fault::new(code, message.to_owned());
    let (status, body) = (fault.status(), fault.body());
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        body.len()
    );
    let mut reply = head.into_bytes();
    reply.extend_from_slice(&body);
    reply
}
