//! A decided request to an endpoint: choose, lease or connect, write, and wait for the response head.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::header::{EXPECT, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Version, request};

use super::balance;
use super::body::RequestBody;
use super::connection::ClientConn;
use super::encode::RequestHead;
use super::error::Fault;
use super::outcome::Record;
use super::pool::Lease;
use super::read::{Host, body_too_large, body_too_late};
use super::tunnel;
use super::upstream::{Broken, ConnectError, Dial, Head, Http2, Upstream};
use crate::routing::spec::{ExchangeSpec, HostPolicy, Protocol};
use crate::routing::table::{Agent, Endpoint};
use crate::telemetry::counters::{ErrorCode, add};

/// A client that sends this says that its request may be repeated, whatever the method.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How many endpoints are tried before a request is given up because none takes a connection.
const MAX_CONNECTS: usize = 3;

/// How often a request is sent again that no endpoint has acted on.
const MAX_REPEATS: u32 = 3;

/// The head of an answer, and what the rest of the exchange needs.
pub(super) struct Answer {
    pub head: Head,
    pub lease: Lease,
    /// What the endpoint has not yet taken of the request.
    pub request: RequestBody,
}

/// Sends the request to an endpoint of the decided version; a retry never changes the version.
///
/// Tried again is only what no endpoint can have acted on: a connection that could not be made, a
/// request that was never written or that an HTTP/2 endpoint has refused (RFC 9113 §8.7), and on a reused
/// connection that ended before any answer a request that may be repeated (RFC 9110 §9.2.2). A stale pooled
/// connection says nothing of its endpoint, so it costs no attempt. On HTTP/1.1 it happens once, for after it
/// only new connections are used; on HTTP/2 what was not acted on is sent up to [`MAX_REPEATS`] times more.
pub(super) async fn send(
    record: &mut Record,
    agent: &Arc<Agent>,
    parts: &request::Parts,
    host: &Host,
    mut body: RequestBody,
) -> Result<Answer, Fault> {
    let conn = record.conn().clone();
    let counters = conn.worker.counters();
    let repeatable = parts.method.is_idempotent() || parts.headers.contains_key(IDEMPOTENCY_KEY);
    let probe = !repeatable || !body.is_empty();
    // HTTP/1.0 knows no interim answers. Where the client waits for `100 Continue`, so do we: the endpoint may
    // refuse before the body is sent.
    let forward_interim = parts.version == Version::HTTP_11;
    let waits = forward_interim && !body.is_empty() && parts.headers.contains_key(EXPECT);
    let fixed_host = match &agent.spec.exchange.host {
        HostPolicy::Fixed(name) => HeaderValue::from_str(name).ok(),
        HostPolicy::Pass | HostPolicy::Endpoint => None,
    };
    let offer = tunnel::offer(parts);
    let (mut refused, mut again_at, mut repeats) = (Vec::new(), None, 0);
    loop {
        let endpoints = &agent.versions[record.decision.version].endpoints;
        let choose = || balance::choose(endpoints, &conn.worker.pools, &refused, || conn.worker.random());
        let Some(index) = again_at.take().or_else(choose) else { return Err(no_endpoint(record)) };
        let endpoint = &endpoints[index];
        let mut lease = match lease(&conn, endpoint, &agent.spec.exchange, repeats == 0, probe).await {
            Ok(lease) => lease,
            Err(error) => {
                refused.push(index);
                if refused.len() == endpoints.len().min(MAX_CONNECTS) {
                    return Err(connect_fault(&error));
                }
                record.retries += 1;
                add(&counters.retries);
                continue;
            }
        };
        if let Some(log) = &mut record.log {
            log.endpoint = Some(endpoint.address.to_string());
        }
        let upstream = lease.upstream();
        let (is_reused, is_shared) = (upstream.is_reused(), upstream.is_shared());
        if is_reused || is_shared {
            body.keep_for_repeat();
        }
        if waits {
            body.hold_for_continue();
        }
        let head = RequestHead {
            parts,
            host: fixed_host.as_ref().or_else(|| host_for(&agent.spec.exchange.host, endpoint, host)),
            client_host: host.value.as_ref(),
            forwarded: &conn.forwarded,
            framing: body.framing(parts),
            upgrade: offer.as_ref(),
            version: record.forwarded_version(),
        };
        upstream.begin(&head, !body.is_empty(), parts.method == Method::HEAD, probe);
        let unsent = match until_head(&conn, &mut lease, &mut body, forward_interim).await {
            Ok(head) => {
                check_switch(&head, offer.as_ref(), lease.upstream_ref())?;
                body.forget_sent();
                return Ok(Answer { head, lease, request: body });
            }
            Err(unsent) => unsent,
        };
        if let Unsent::Broken(Broken::Refused(failure)) = &unsent {
            lease.pool().tell_of_tls(&endpoint.address, failure);
        }
        let may_be_repeated =
            repeats < MAX_REPEATS && unsent.may_be_repeated(&conn, repeatable && is_reused && repeats == 0);
        if !(may_be_repeated && body.rewind()) {
            return Err(unsent.into_fault(&conn, agent));
        }
        repeats += 1;
        if !is_shared {
            again_at = Some(index);
            add(&counters.upstream_stale);
        }
        record.retries += 1;
        add(&counters.retries);
    }
}

fn no_endpoint(record: &Record) -> Fault {
    let text = format!("version {} of {} has no endpoint", record.version().id, record.agent().id());
    Fault::new(ErrorCode::NoEndpoint, text)
}

fn connect_fault(error: &ConnectError) -> Fault {
    tracing::debug!(%error, "could not reach an endpoint");
    match error {
        ConnectError::TimedOut => {
            Fault::new(ErrorCode::ConnectTimeout, "the agent did not accept a connection in time")
        }
        ConnectError::Tls(_) => Fault::new(ErrorCode::TlsFailed, NO_TLS),
        _ => Fault::new(ErrorCode::ConnectFailed, "the agent could not be reached"),
    }
}

/// Why is for operators.
const NO_TLS: &str = "no TLS connection to the agent could be made; the log of Pointsman says why";

/// A connection to the endpoint, or a stream of one: a live pooled one, or a new one.
async fn lease(
    conn: &ClientConn,
    endpoint: &Endpoint,
    spec: &ExchangeSpec,
    pooled_allowed: bool,
    probe: bool,
) -> Result<Lease, ConnectError> {
    let counters = conn.worker.counters();
    let pool = conn.worker.pools.of(endpoint.id);
    let dial = Dial { address: &endpoint.address, spec, clients: &conn.worker.shared.clients };
    let tell = |error: &ConnectError| {
        if let ConnectError::Tls(failure) = error {
            pool.tell_of_tls(&endpoint.address, failure);
        }
    };
    if spec.protocol == Protocol::Http2 {
        let place = in_time(conn, pool.http2.place(dial, probe)).await.inspect_err(tell)?;
        add(if place.first { &counters.upstream_opened } else { &counters.upstream_reused });
        return Ok(Lease::new(pool, Upstream::Http2(Box::new(Http2::new(place)))));
    }
    if pooled_allowed && let Some(lease) = pool.take(conn.exchange_start()) {
        add(&counters.upstream_reused);
        return Ok(lease);
    }
    let upstream = in_time(conn, dial.http1()).await.inspect_err(tell)?;
    add(&counters.upstream_opened);
    Ok(Lease::new(pool, upstream))
}

/// The response's own time-out counts from before the connection, and may be the shorter one.
async fn in_time<T>(
    conn: &ClientConn,
    connecting: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let mut connecting = pin!(connecting);
    poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Pending if conn.take_expired() => Poll::Ready(Err(ConnectError::TimedOut)),
        polled => polled,
    })
    .await
}

/// What the agent is told that it is asked for, where the policy gives no name of its own.
fn host_for<'a>(policy: &HostPolicy, endpoint: &'a Endpoint, client: &'a Host) -> Option<&'a HeaderValue> {
    let sent = client.value.as_ref().filter(|_| *policy == HostPolicy::Pass);
    sent.or(Some(&endpoint.authority))
}

/// Why there is no response head.
enum Unsent {
    Broken(Broken),
    Expired,
}

impl Unsent {
    /// Whether no endpoint can have acted on the request, or it may be acted on twice.
    ///
    /// What the client broke is not sent again: cut short, it would look whole.
    fn may_be_repeated(&self, conn: &ClientConn, repeatable: bool) -> bool {
        let allowed = match self {
            Self::Broken(Broken::NotStarted) => true,
            Self::Broken(Broken::Closed) => repeatable,
            _ => false,
        };
        allowed && conn.request_fault.get().is_none()
    }

    fn into_fault(self, conn: &ClientConn, agent: &Agent) -> Fault {
        match (conn.request_fault.get(), self) {
            (Some(ErrorCode::BodyTooLarge), _) => body_too_large(&agent.spec.exchange),
            (Some(ErrorCode::BodyTimeout), _) => body_too_late(),
            (Some(code), _) => Fault::new(code, "the request body broke off"),
            (None, Self::Expired) => Fault::new(ErrorCode::ResponseTimeout, "the agent did not answer in time"),
            (None, Self::Broken(Broken::Malformed(why))) => {
                Fault::new(ErrorCode::BadResponse, format!("the agent's answer is not valid HTTP: {why}"))
            }
            (None, Self::Broken(Broken::CutShort)) => {
                Fault::new(ErrorCode::UpstreamReset, "the agent closed the connection within the head of its answer")
            }
            (None, Self::Broken(Broken::Reset)) => {
                Fault::new(ErrorCode::UpstreamReset, "the agent reset the stream before answering")
            }
            (None, Self::Broken(Broken::NotStarted)) => {
                Fault::new(ErrorCode::UpstreamReset, "the agent refused the request again and again")
            }
            (None, Self::Broken(Broken::Refused(_))) => Fault::new(ErrorCode::TlsFailed, NO_TLS),
            (None, Self::Broken(_)) => {
                Fault::new(ErrorCode::UpstreamReset, "the agent closed the connection before answering")
            }
        }
    }
}

/// Writes the request and reads until the response head is there.
async fn until_head(
    conn: &ClientConn,
    lease: &mut Lease,
    body: &mut RequestBody,
    forward_interim: bool,
) -> Result<Head, Unsent> {
    let mut interim = |status: StatusCode, headers: &HeaderMap| {
        if forward_interim {
            conn.interim.push(status, headers);
        }
    };
    poll_fn(|cx| match lease.upstream().poll_head(cx, &conn.worker.scratch, body, &mut interim) {
        Poll::Pending if conn.take_expired() => {
            if conn.awaits_client.get() {
                conn.request_fault.set(Some(ErrorCode::BodyTimeout));
            }
            Poll::Ready(Err(Unsent::Expired))
        }
        polled => polled.map_err(Unsent::Broken),
    })
    .await
}

/// An endpoint may switch to what was offered, once it has the whole request.
fn check_switch(head: &Head, offer: Option<&HeaderValue>, upstream: &Upstream) -> Result<(), Fault> {
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let wrong = match (offer, &head.upgrade) {
        (None, _) => "the agent switched protocols without being asked to",
        (Some(offer), Some(chosen)) if tunnel::is_offered(offer, chosen) => {
            if upstream.has_sent_all() {
                return Ok(());
            }
            "the agent switched protocols before it had the whole request"
        }
        (Some(_), _) => "the agent switched to a protocol that was not offered",
    };
    Err(Fault::new(ErrorCode::BadResponse, wrong))
}
