//! gRPC as far as a proxy must know it: how a call ended, and how to tell a client that one failed.
//!
//! A call's HTTP status is 200 whatever happened; what counts is the `grpc-status` in its trailers, or in its head
//! where there is nothing else. gRPC-Web keeps it in the body, and is plain HTTP here.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::error::Fault;
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::stats::Outcome;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;
const UNAUTHENTICATED: u8 = 16;

/// `application/grpc`, alone or with a message format.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let format = media.strip_prefix(b"application/grpc");
    format.is_some_and(|format| matches!(format.first(), None | Some(b'+' | b';' | b' ')))
}

/// Whether an answer of trailers only says that the server could not be reached.
pub(super) fn is_unavailable(head: &HeaderMap) -> bool {
    head.get(GRPC_STATUS).is_some_and(|status| *status == u16::from(UNAVAILABLE).to_string())
}

/// What is known of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    status: Option<u8>,
    /// How long its client will wait.
    timeout: Option<Duration>,
}

impl Call {
    /// The call that a request with these fields makes.
    pub fn of(request: &HeaderMap) -> Option<Self> {
        let timeout = request.get(GRPC_TIMEOUT).and_then(|value| timeout(value.as_bytes()));
        is_grpc(request).then_some(Self { status: None, timeout })
    }

    /// Looks for the status in an answer's head or trailers.
    pub fn read(&mut self, fields: &HeaderMap) {
        if let Some(value) = fields.get(GRPC_STATUS) {
            let number = value.to_str().ok().and_then(|text| text.parse().ok());
            self.status = Some(number.filter(|code| *code <= UNAUTHENTICATED).unwrap_or(UNKNOWN));
        }
    }

    /// How a call counts whose answer has ended with this HTTP status. Without a status of its own it was cut off,
    /// or answered by something that does not speak gRPC.
    pub fn outcome(&self, http_status: u16) -> Outcome {
        match self.status.or_else(|| of_http(http_status)) {
            None => Outcome::Truncated,
            Some(status) if is_server_fault(status) => Outcome::ServerError,
            Some(_) => Outcome::Success,
        }
    }

    /// Whether its client has given up because its time was over. The client's clock began a little earlier.
    pub fn is_overdue(&self, after: Duration) -> bool {
        self.timeout.is_some_and(|timeout| after >= timeout - timeout / 20)
    }
}

/// What a client makes of an answer without a status of gRPC's; a 200 says nothing.
fn of_http(status: u16) -> Option<u8> {
    Some(match status {
        200 => return None,
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    })
}

/// As OpenTelemetry counts a server's errors; the others are the caller's doing.
fn is_server_fault(status: u8) -> bool {
    matches!(status, UNKNOWN | DEADLINE_EXCEEDED | UNIMPLEMENTED | INTERNAL | UNAVAILABLE | DATA_LOSS)
}

/// At most eight digits and a unit.
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The fault as a gRPC client understands it: an answer of trailers only.
pub(super) fn refusal<B>(fault: &Fault, body: B) -> Response<B> {
    /// What may stand in `grpc-message` as it is.
    const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status(fault.code))));
    let message = percent_encode(fault.message.as_bytes(), ENCODED).to_string();
    headers.insert(GRPC_MESSAGE, HeaderValue::try_from(message).expect("printable ASCII"));
    headers.extend(fault.fields.iter().cloned());
    response
}

fn status(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::NoEndpoint
        | ErrorCode::Overloaded
        | ErrorCode::CircuitOpen
        | ErrorCode::ConnectFailed
        | ErrorCode::ConnectTimeout
        | ErrorCode::TlsFailed
        | ErrorCode::UpstreamReset => UNAVAILABLE,
        ErrorCode::HeadTimeout | ErrorCode::BodyTimeout | ErrorCode::ResponseTimeout | ErrorCode::RequestTimeout => {
            DEADLINE_EXCEEDED
        }
        ErrorCode::HeadTooLarge | ErrorCode::UriTooLong | ErrorCode::BodyTooLarge | ErrorCode::RateLimited => {
            RESOURCE_EXHAUSTED
        }
        ErrorCode::NoRoute | ErrorCode::MethodNotSupported => UNIMPLEMENTED,
        ErrorCode::BadRequest | ErrorCode::BadResponse | ErrorCode::Internal => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_grpc_itself_is_grpc() {
        for (media, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&fields("content-type", media)), expected, "{media}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_call_counts_by_its_own_status() {
        let outcome = |status: &str| {
            let mut call = Call::default();
            call.read(&fields("grpc-status", status));
            call.outcome(200)
        };
        for code in 0..=16_u8 {
            let faults = [2, 4, 12, 13, 14, 15];
            let expected = if faults.contains(&code) { Outcome::ServerError } else { Outcome::Success };
            assert_eq!(outcome(&code.to_string()), expected, "{code}");
        }
        assert_eq!(outcome("17"), Outcome::ServerError);
        assert_eq!(outcome("ok"), Outcome::ServerError);
    }

    #[test]
    fn a_call_without_a_status_counts_by_what_its_client_makes_of_it() {
        let outcome = |http| Call::default().outcome(http);
        assert_eq!([outcome(200), outcome(401)], [Outcome::Truncated, Outcome::Success]);
        assert_eq!([outcome(404), outcome(503), outcome(302)], [Outcome::ServerError; 3]);
    }

    #[test]
    fn a_client_that_gives_up_in_time_is_told_from_one_whose_time_is_over() {
        let call = |timeout: &str| {
            let mut request = fields("content-type", "application/grpc");
            request.extend(fields("grpc-timeout", timeout));
            Call::of(&request).unwrap()
        };
        for (timeout, seconds) in [("1H", 3600), ("2M", 120), ("3S", 3), ("5000m", 5), ("6000000u", 6)] {
            assert!(call(timeout).is_overdue(Duration::from_secs(seconds)), "{timeout}");
            assert!(!call(timeout).is_overdue(Duration::from_millis(seconds * 900)), "{timeout}");
        }
        for none in ["", "5", "S", "123456789S", "+1S", "1s"] {
            assert!(!call(none).is_overdue(Duration::MAX), "{none:?}");
        }
    }

    #[test]
    fn a_fault_is_an_answer_of_trailers_only() {
        let response = refusal(&Fault::new(ErrorCode::NoRoute, "no agent: 100 % für \"a\"\n"), ());
        assert_eq!((response.status().as_u16(), &response.headers()[GRPC_STATUS]), (200, &"12".parse().unwrap()));
        assert_eq!(response.headers()[GRPC_MESSAGE], "no agent: 100 %25 f%C3%BCr \"a\"%0A");
    }
}
