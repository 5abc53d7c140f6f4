//! One attempt: lease a connection or make one, write the request, and wait for the head of the answer.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use http::header::{EXPECT, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Version, request};

use super::failure::{Failure, Link, Unsent};
use super::retry::{Expiry, Retry};
use super::wait_for;
use crate::proxy::balance::{self, Attempt, Choice};
use crate::proxy::body::RequestBody;
use crate::proxy::connection::ClientConn;
use crate::proxy::encode::RequestHead;
use crate::proxy::error::Fault;
use crate::proxy::grpc;
use crate::proxy::outcome::Record;
use crate::proxy::pool::Lease;
use crate::proxy::read::Host;
use crate::proxy::tunnel;
use crate::proxy::upstream::{Broken, ConnectError, Dial, Head, Http2, Upstream};
use crate::routing::spec::{HostPolicy, Protocol};
use crate::routing::table::{Agent, Endpoint};
use crate::telemetry::counters::{ErrorCode, add};

/// A client that sends this says that its request may be repeated, whatever the method.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What all attempts of a request have in common.
pub(super) struct Request<'a> {
    conn: &'a ClientConn,
    agent: &'a Arc<Agent>,
    parts: &'a request::Parts,
    host: &'a Host,
    fixed_host: Option<HeaderValue>,
    /// Another protocol that the client would speak.
    offer: Option<HeaderValue>,
    /// HTTP/1.0 knows no interim answers.
    forward_interim: bool,
    /// The client waits for `100 Continue`, and so do we: the endpoint may refuse before the body is sent.
    waits: bool,
    /// It may be acted on twice.
    pub repeatable: bool,
    /// An idle connection is asked whether it still lives, for the request could not be sent twice.
    probe: bool,
}

impl<'a> Request<'a> {
    pub fn new(
        conn: &'a ClientConn,
        agent: &'a Arc<Agent>,
        parts: &'a request::Parts,
        host: &'a Host,
        body: &RequestBody,
    ) -> Self {
        let forward_interim = parts.version != Version::HTTP_10;
        let repeatable = parts.method.is_idempotent() || parts.headers.contains_key(IDEMPOTENCY_KEY);
        Self {
            conn,
            agent,
            parts,
            host,
            fixed_host: match &agent.spec.exchange.host {
                HostPolicy::Fixed(name) => HeaderValue::from_str(name).ok(),
                HostPolicy::Pass | HostPolicy::Endpoint => None,
            },
            offer: tunnel::offer(parts),
            forward_interim,
            waits: forward_interim && !body.is_empty() && parts.headers.contains_key(EXPECT),
            repeatable,
            probe: !repeatable || !body.is_empty(),
        }
    }

    /// Waits for a connection. The response's own time-out counts from before it, and may be the shorter one.
    async fn connect<T>(
        &self,
        record: &Record,
        connecting: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, Failure> {
        let connected = wait_for(self.conn, self.agent, record, connecting).await.map_err(Failure::Refused)?;
        connected.unwrap_or(Err(ConnectError::TimedOut)).map_err(Failure::NoConnection)
    }

    /// What the agent is told that it is asked for.
    fn host_for(&self, endpoint: &'a Endpoint) -> Option<&HeaderValue> {
        let passes = self.agent.spec.exchange.host == HostPolicy::Pass;
        let sent = self.host.value.as_ref().filter(|_| passes);
        self.fixed_host.as_ref().or(sent).or(Some(&endpoint.authority))
    }
}

pub(super) async fn make(
    request: &Request<'_>,
    record: &mut Record,
    choice: Choice,
    retry: &mut Retry<'_>,
    body: &mut RequestBody,
) -> Result<(Head, Lease), Failure> {
    let endpoint = &request.agent.versions[record.decision.version].endpoints[choice.index];
    let mut lease = lease(request, record, endpoint, retry.may_reuse()).await?;
    if let Some(log) = &mut record.log {
        log.endpoint = Some(endpoint.address.to_string());
    }
    let upstream = lease.upstream();
    let link = Link { is_reused: upstream.is_reused(), is_shared: upstream.is_shared() };
    if link.is_reused || link.is_shared || retry.may_follow() {
        body.keep_for_repeat();
    }
    if request.waits {
        body.hold_for_continue();
    }
    let head = RequestHead {
        parts: request.parts,
        host: request.host_for(endpoint),
        client_host: request.host.value.as_ref(),
        forwarded: &request.conn.forwarded,
        framing: body.framing(request.parts),
        upgrade: request.offer.as_ref(),
        version: record.forwarded_version(),
    };
    upstream.begin(&head, !body.is_empty(), request.parts.method == Method::HEAD, request.probe);
    let head = match until_head(request, record, &mut lease, retry, body).await {
        Ok(head) => head,
        Err(unsent) => {
            if let Unsent::Broken(Broken::Refused(why)) = &unsent {
                lease.pool().tell_of_tls(&endpoint.address, why);
            }
            return Err(Failure::Unsent(unsent, link));
        }
    };
    // A call that its endpoint refuses is answered with 200.
    let refused = record.call.is_some() && grpc::is_unavailable(&head.headers);
    let status = if refused { StatusCode::SERVICE_UNAVAILABLE } else { head.status };
    balance::note(record, choice, Attempt::Answered(status));
    check_switch(&head, request.offer.as_ref(), lease.upstream_ref()).map_err(Failure::Refused)?;
    Ok((head, lease))
}

/// A connection to the endpoint, or a stream of one: a live pooled one, or a new one.
async fn lease(
    request: &Request<'_>,
    record: &Record,
    endpoint: &Endpoint,
    pooled_allowed: bool,
) -> Result<Lease, Failure> {
    let (conn, spec) = (request.conn, &request.agent.spec.exchange);
    let counters = conn.worker.counters();
    let pool = conn.worker.pools.of(endpoint.id);
    let dial = Dial { address: &endpoint.address, spec, clients: &conn.worker.shared.clients };
    let tell = |failure: &Failure| {
        if let Failure::NoConnection(ConnectError::Tls(why)) = failure {
            pool.tell_of_tls(&endpoint.address, why);
        }
    };
    if spec.protocol == Protocol::Http1
        && pooled_allowed
        && let Some(lease) = pool.take(conn.exchange_start())
    {
        add(&counters.upstream_reused);
        return Ok(lease);
    }
    // What connects is in a place of its own: every client connection would hold its size.
    if spec.protocol == Protocol::Http2 {
        let connecting = Box::pin(pool.http2.place(dial, request.probe));
        let place = request.connect(record, connecting).await.inspect_err(tell)?;
        add(if place.first { &counters.upstream_opened } else { &counters.upstream_reused });
        return Ok(Lease::new(pool, Upstream::Http2(Box::new(Http2::new(place)))));
    }
    let connecting = Box::pin(dial.http1());
    let upstream = request.connect(record, connecting).await.inspect_err(tell)?;
    add(&counters.upstream_opened);
    Ok(Lease::new(pool, upstream))
}

/// Writes the request and reads until the response head is there.
async fn until_head(
    request: &Request<'_>,
    record: &mut Record,
    lease: &mut Lease,
    retry: &mut Retry<'_>,
    body: &mut RequestBody,
) -> Result<Head, Unsent> {
    let conn = request.conn;
    let mut interim = |status: StatusCode, headers: &HeaderMap| {
        if request.forward_interim {
            conn.interim.push(status, headers);
        }
    };
    poll_fn(|cx| match lease.upstream().poll_head(cx, &conn.worker.scratch, body, &mut interim) {
        Poll::Pending if conn.take_expired() => match retry.expired(record, body) {
            Expiry::Over => {
                if conn.awaits_client.get() {
                    conn.request_fault.set(Some(ErrorCode::BodyTimeout));
                }
                Poll::Ready(Err(Unsent::Expired))
            }
            Expiry::TryAgain => Poll::Ready(Err(Unsent::Slow)),
            Expiry::GoOn => Poll::Pending,
        },
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
