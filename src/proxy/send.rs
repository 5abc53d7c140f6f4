//! A decided request to an endpoint: choose, lease or connect, write, and wait for the response head.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::header::{HOST, HeaderName, HeaderValue};
use http::{Request, Response, request};
use hyper::body::Incoming;

use super::balance;
use super::body::RequestBody;
use super::connection::ClientConn;
use super::error::Fault;
use super::interim;
use super::outcome::Record;
use super::read::{body_too_large, body_too_late};
use super::upstream::{self, ConnectError, Lease};
use crate::routing::spec::{ExchangeSpec, HostPolicy};
use crate::routing::table::{Agent, Endpoint};
use crate::telemetry::counters::{ErrorCode, add};

/// A client that sends this says that its request may be repeated, whatever the method.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How many endpoints are tried before a request is given up because none takes a connection.
const MAX_CONNECTS: usize = 3;
/// Sends the request to an endpoint of the decided version; a retry never changes the version.
///
/// Tried again is only what no endpoint can have acted on: a connection that could not be made, a
/// request that was never written, and on a reused connection that ended before any answer a request
/// that may be repeated (RFC 9110 §9.2.2). A stale pooled connection says nothing of its endpoint, so
/// it costs no attempt; it happens once, for after it only new connections are used.
pub(super) async fn send(
    record: &mut Record,
    agent: &Arc<Agent>,
    mut parts: request::Parts,
    mut body: RequestBody,
    forward_interim: bool,
) -> Result<(Response<Incoming>, Lease), Fault> {
    let conn = record.conn().clone();
    let counters = conn.worker.counters();
    let repeatable = parts.method.is_idempotent() || parts.headers.contains_key(IDEMPOTENCY_KEY);
    let probe = !repeatable || !body.is_empty();
    let host_sent = parts.headers.contains_key(HOST);
    let (mut refused, mut again_at, mut pooled_allowed) = (Vec::new(), None, true);
    loop {
        let endpoints = &agent.versions[record.decision.version].endpoints;
        let choose = || balance::choose(endpoints, &conn.worker.pools, &refused, || conn.worker.random());
        let Some(index) = again_at.take().or_else(choose) else { return Err(no_endpoint(record)) };
        let endpoint = &endpoints[index];
        let mut lease = match lease(&conn, endpoint, &agent.spec.exchange, pooled_allowed, probe).await {
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
        apply_host_policy(&mut parts, &agent.spec.exchange.host, endpoint, host_sent);
        if let Some(log) = &mut record.log {
            log.endpoint = Some(endpoint.address.to_string());
        }
        let may_be_stale = lease.upstream().reused;
        let spare = (may_be_stale && repeatable).then(|| (parts.clone(), body.keep_for_repeat()));
        let mut request = Request::from_parts(parts, body);
        if forward_interim {
            interim::relay(&mut request, &conn);
        }
        (parts, body) = match until_head(&conn, &mut lease, request).await {
            Ok(response) => return check_response(response).map(|response| (response, lease)),
            Err(Unsent::NotStarted(request)) if may_be_stale => request.into_parts(),
            Err(unsent) => match again(&conn, &unsent, spare) {
                Some(request) => request,
                None => return Err(unsent.into_fault(&conn, agent)),
            },
        };
        (again_at, pooled_allowed) = (Some(index), false);
        add(&counters.upstream_stale);
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
        _ => Fault::new(ErrorCode::ConnectFailed, "the agent could not be reached"),
    }
}

/// A connection to the endpoint: a live pooled one, or a new one.
async fn lease(
    conn: &ClientConn,
    endpoint: &Endpoint,
    spec: &ExchangeSpec,
    pooled_allowed: bool,
    probe: bool,
) -> Result<Lease, ConnectError> {
    let counters = conn.worker.counters();
    let pool = conn.worker.pools.of(endpoint.id);
    if pooled_allowed && let Some(lease) = pool.take(&conn.damper, probe, conn.exchange_start()) {
        add(&counters.upstream_reused);
        return Ok(lease);
    }
    let mut connecting = pin!(upstream::connect(&endpoint.address, spec.connect_timeout, spec.pool_idle));
    // The response's own time-out counts from before the connection, and may be the shorter one.
    let upstream = poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Pending if conn.take_expired() => Poll::Ready(Err(ConnectError::TimedOut)),
        polled => polled,
    });
    let upstream = upstream.await?;
    add(&counters.upstream_opened);
    Ok(Lease::new(pool, upstream, &conn.damper))
}

fn apply_host_policy(parts: &mut request::Parts, policy: &HostPolicy, endpoint: &Endpoint, sent: bool) {
    match policy {
        HostPolicy::Pass if sent => {}
        HostPolicy::Pass | HostPolicy::Endpoint => {
            parts.headers.insert(HOST, endpoint.authority.clone());
        }
        HostPolicy::Fixed(name) => {
            if let Ok(name) = HeaderValue::from_str(name) {
                parts.headers.insert(HOST, name);
            }
        }
    }
}

/// Why there is no response head.
enum Unsent {
    /// Nothing of it was written: the request is whole.
    NotStarted(Box<Request<RequestBody>>),
    /// The connection ended before any byte of an answer.
    Closed,
    /// It said something that is not HTTP.
    Garbage,
    Expired,
}

impl Unsent {
    fn into_fault(self, conn: &ClientConn, agent: &Agent) -> Fault {
        match (conn.request_fault.get(), self) {
            (Some(ErrorCode::BodyTooLarge), _) => body_too_large(&agent.spec.exchange),
            (Some(ErrorCode::BodyTimeout), _) => body_too_late(),
            (Some(code), _) => Fault::new(code, "the request body broke off"),
            (None, Self::Expired) => Fault::new(ErrorCode::ResponseTimeout, "the agent did not answer in time"),
            (None, Self::Garbage) => Fault::new(ErrorCode::BadResponse, "the agent's answer is not valid HTTP"),
            (None, Self::Closed | Self::NotStarted(_)) => {
                Fault::new(ErrorCode::UpstreamReset, "the agent closed the connection before answering")
            }
        }
    }
}

/// The request anew, where the connection was stale and there is something to send again.
///
/// What the client broke is not sent again: cut short, it would look whole.
fn again(
    conn: &ClientConn,
    unsent: &Unsent,
    spare: Option<(request::Parts, RequestBody)>,
) -> Option<(request::Parts, RequestBody)> {
    let stale = matches!(unsent, Unsent::Closed) && conn.request_fault.get().is_none();
    let (parts, body) = spare.filter(|_| stale)?;
    Some((parts, body.again()?))
}

/// Writes the request and drives the connection until the response head is there.
async fn until_head(
    conn: &ClientConn,
    lease: &mut Lease,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, Unsent> {
    let mut response = pin!(lease.upstream().sender.try_send_request(request));
    poll_fn(|_| {
        let ended = lease.upstream().drive(&conn.damper);
        // It can only have been resolved by `drive`: nobody else is to be woken.
        match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                Some(request) => Unsent::NotStarted(Box::new(request)),
                None if error.error().is_parse() => Unsent::Garbage,
                None => Unsent::Closed,
            })),
            Poll::Pending if conn.take_expired() => {
                if conn.awaits_client.get() {
                    conn.request_fault.set(Some(ErrorCode::BodyTimeout));
                }
                Poll::Ready(Err(Unsent::Expired))
            }
            Poll::Pending if ended => Poll::Ready(Err(Unsent::Closed)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn check_response(response: Response<Incoming>) -> Result<Response<Incoming>, Fault> {
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(Fault::new(ErrorCode::BadResponse, "the agent switched protocols without being asked to"));
    }
    Ok(response)
}
