//! One request, top-down: read, match, key, decide, send, respond. The record is written by drop.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use super::balance;
use super::body::{Relay, RequestBody, ResponseBody};
use super::connection::ClientConn;
use super::error::Fault;
use super::headers::{self, VERSION_HEADER};
use super::interim;
use super::outcome::{Busy, Record};
use super::upstream::{self, ConnectError, Lease};
use crate::routing::decide::decide;
use crate::routing::key;
use crate::routing::spec::{Attribute, ExchangeSpec, HostPolicy};
use crate::routing::table::{Agent, Endpoint, Head, Reason};
use crate::telemetry::access::AccessRecord;
use crate::telemetry::counters::{ErrorCode, add};

/// A client that sends this says that its request may be repeated, whatever the method.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How many endpoints are tried before a request is given up because none takes a connection.
const MAX_CONNECTS: usize = 3;

/// Answers one request. Never fails: what goes wrong becomes an answer of our own.
pub(super) async fn serve(
    conn: Rc<ClientConn>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let busy = Busy::new(&conn);
    Ok(match exchange(busy, request).await {
        Ok(response) => response,
        Err(refusal) => {
            conn.worker.counters().error(refusal.fault.code);
            refusal.response()
        }
    })
}

/// An answer of our own on its way.
struct Refusal {
    fault: Fault,
    /// The connection's mark, where no record took it over.
    busy: Option<Busy>,
    /// The ready version header, where a version was chosen.
    version: Option<HeaderValue>,
}

impl Refusal {
    fn response(self) -> Response<ResponseBody> {
        let body = ResponseBody::Own { text: Some(self.fault.body()), _busy: self.busy };
        let mut response = self.fault.response(body);
        if let Some(version) = self.version {
            response.headers_mut().insert(VERSION_HEADER, version);
        }
        response
    }
}

async fn exchange(busy: Busy, request: Request<Incoming>) -> Result<Response<ResponseBody>, Refusal> {
    let conn = busy.conn.clone();
    let (mut parts, body) = request.into_parts();

    // Read: the head is here; put its target and host into the one form that follows.
    let host = match normalise_target(&mut parts) {
        Ok(host) => host,
        Err(fault) => return Err(refuse(fault, busy, &parts, &Host::new(None))),
    };

    if let Some(fault) = unknown_coding(&parts) {
        return Err(refuse(fault, busy, &parts, &host));
    }

    // Match.
    let snapshot = conn.worker.snapshot();
    let nonce = conn.worker.random();
    let Some(agent_index) = snapshot.table.route(&conn.environment, &head(&parts, &host, &conn, None, nonce)) else {
        return Err(refuse(no_route(&parts, &host), busy, &parts, &host));
    };
    let agent = &snapshot.table.agents[agent_index];
    let limits = &agent.spec.exchange;
    if !body.is_end_stream() && declared_length(&parts) > limits.max_request_body_bytes {
        return Err(refuse(body_too_large(limits), busy, &parts, &host));
    }
    conn.wait(busy.start, limits.response_timeout.unwrap_or(limits.idle_timeout));

    // Key: the only reason to look into a body.
    let mut body = body;
    let mut read_ahead = VecDeque::new();
    let mut json = None;
    if wants_json(agent, &parts, &host, &conn) {
        match read_json(&mut body, &mut read_ahead, agent.spec.bucketing.json_limit_bytes, &conn).await {
            Ok(value) => json = value,
            Err(fault) => return Err(refuse(fault, busy, &parts, &host)),
        }
    }

    // Decide.
    let decision = decide(agent, &head(&parts, &host, &conn, json.as_ref(), nonce));
    if decision.reason == Reason::NoKey {
        agent.stats.without_key(conn.worker.index);
    }
    let mut record = Record::new(busy, snapshot.clone(), agent_index, decision);
    if snapshot.options.access_log.is_some() {
        record.log = Some(log_head(&parts, &host, &conn));
    }

    // Send.
    let body = RequestBody::new(&conn, body, read_ahead, limits.max_request_body_bytes);
    // HTTP/1.0 knows no interim answers.
    let forward_interim = parts.version == Version::HTTP_11;
    prepare_request(&mut parts, &host, &conn, &body);
    match send(&mut record, agent, parts, body, forward_interim).await {
        // Respond.
        Ok((response, lease)) => Ok(respond(response, lease, record, snapshot.options.version_header)),
        Err(fault) => {
            record.fail(&fault);
            let version = snapshot.options.version_header.then(|| record.version().header.clone());
            Err(Refusal { fault, busy: None, version })
        }
    }
}

/// Refuses a request that has reached no version; it is logged all the same.
fn refuse(fault: Fault, busy: Busy, parts: &request::Parts, host: &Host) -> Refusal {
    if busy.conn.worker.snapshot().options.access_log.is_some() {
        busy.log_refusal(&fault, log_head(parts, host, &busy.conn));
    }
    Refusal { fault, busy: Some(busy), version: None }
}

fn head<'a>(
    parts: &'a request::Parts,
    host: &'a Host,
    conn: &ClientConn,
    json: Option<&'a serde_json::Value>,
    nonce: u64,
) -> Head<'a> {
    Head {
        method: &parts.method,
        host: host.name(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        client: conn.peer.ip(),
        json,
        nonce,
    }
}

/// The authority that a request is for.
struct Host {
    value: Option<HeaderValue>,
    /// How much of it is the name, without the port. Zero where there is none or it is no text.
    name_bytes: usize,
}

impl Host {
    fn new(value: Option<HeaderValue>) -> Self {
        let authority = value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("").as_bytes();
        let name_bytes = match memchr::memrchr(b':', authority) {
            // The colons of an IPv6 literal stand inside its brackets.
            Some(colon) if !authority[colon..].contains(&b']') => colon,
            _ => authority.len(),
        };
        Self { value, name_bytes }
    }

    fn name(&self) -> &str {
        let name = self.value.as_ref().and_then(|value| value.as_bytes().get(..self.name_bytes));
        name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }
}

/// Turns an absolute-form target into origin form (RFC 9112 §3.2) and finds the host.
fn normalise_target(parts: &mut request::Parts) -> Result<Host, Fault> {
    if parts.method == Method::CONNECT {
        return Err(Fault::new(ErrorCode::MethodNotSupported, "CONNECT is not supported: this is a reverse proxy"));
    }
    // Only where some field is repeated at all is it worth looking which.
    if parts.headers.len() != parts.headers.keys_len() && parts.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Fault::new(ErrorCode::BadRequest, "the request has more than one Host field"));
    }
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(Fault::new(ErrorCode::BadRequest, "the target * is for OPTIONS only"));
    }
    if let Some(authority) = parts.uri.authority() {
        // The target's authority replaces whatever Host says.
        let host = HeaderValue::from_str(authority.as_str()).ok();
        let host = host.filter(|_| !authority.as_str().contains('@'));
        let Some(host) = host else {
            return Err(Fault::new(ErrorCode::BadRequest, "the request target's authority is not valid"));
        };
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
        parts.headers.insert(HOST, host);
    }
    let host = parts.headers.get(HOST).cloned();
    if host.as_ref().is_some_and(|host| !is_authority(host.as_bytes())) {
        return Err(Fault::new(ErrorCode::BadRequest, "the Host field is not a host and port"));
    }
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err(Fault::new(ErrorCode::BadRequest, "an HTTP/1.1 request must have a Host field"));
    }
    Ok(Host::new(host))
}

/// What a host, an IP literal and a port are made of (RFC 3986 §3.2.2); no user part.
fn is_authority(host: &[u8]) -> bool {
    host.iter().all(|byte| AUTHORITY_BYTES[usize::from(*byte)])
}

static AUTHORITY_BYTES: [bool; 256] = {
    let (mut allowed, punctuation, mut index) = ([false; 256], b"-._~!$&'()*+,;=:[]%", 0);
    while index < 256 {
        allowed[index] = (index as u8).is_ascii_alphanumeric();
        index += 1;
    }
    index = 0;
    while index < punctuation.len() {
        allowed[punctuation[index] as usize] = true;
        index += 1;
    }
    allowed
};

fn no_route(parts: &request::Parts, host: &Host) -> Fault {
    let text = format!("no agent matches host {:?} and path {:?}", host.name(), parts.uri.path());
    Fault::new(ErrorCode::NoRoute, text)
}

fn body_too_large(limits: &ExchangeSpec) -> Fault {
    let text = format!("the request body is larger than {} bytes", limits.max_request_body_bytes);
    Fault::new(ErrorCode::BodyTooLarge, text)
}

/// A transfer coding other than `chunked` would be lost here: it is of this hop, and we cannot undo it.
fn unknown_coding(parts: &request::Parts) -> Option<Fault> {
    let coding = parts.headers.get(TRANSFER_ENCODING)?;
    let known = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let message = "only the transfer coding chunked is supported";
    (!known).then(|| Fault::new(ErrorCode::MethodNotSupported, message))
}

fn body_too_late() -> Fault {
    Fault::new(ErrorCode::BodyTimeout, "the request body did not arrive in time")
}

/// Zero where none is declared; hyper has refused what is no number.
fn declared_length(parts: &request::Parts) -> u64 {
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether the key may be in the body: no source before the first `json:` one is present.
fn wants_json(agent: &Agent, parts: &request::Parts, host: &Host, conn: &ClientConn) -> bool {
    if !agent.key_wants_json || !parts.headers.get(CONTENT_TYPE).is_some_and(|value| is_json(value.as_bytes())) {
        return false;
    }
    let before = agent.key.iter().take_while(|source| !matches!(source, Attribute::Json(_))).count();
    key::find(&agent.key[..before], &head(parts, host, conn, None, 0)).is_none()
}

fn is_json(content_type: &[u8]) -> bool {
    let media = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"application/json") || media.to_ascii_lowercase().ends_with(b"+json")
}

/// Reads the body for its key, up to the limit; what was read goes on with the rest. A body that is
/// larger, or no JSON, has no key.
async fn read_json(
    body: &mut Incoming,
    read_ahead: &mut VecDeque<Bytes>,
    limit_bytes: usize,
    conn: &ClientConn,
) -> Result<Option<serde_json::Value>, Fault> {
    let mut read_bytes = 0;
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending if conn.take_expired() => Poll::Ready(Err(body_too_late())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        });
        match frame.await? {
            None => break,
            Some(Err(_)) => return Err(Fault::new(ErrorCode::BadRequest, "the request body broke off")),
            Some(Ok(frame)) => {
                conn.progress();
                let Ok(data) = frame.into_data() else { continue };
                read_bytes += data.len();
                read_ahead.push_back(data);
                if read_bytes > limit_bytes {
                    return Ok(None);
                }
            }
        }
    }
    let text = match read_ahead.len() {
        1 => read_ahead[0].clone(),
        _ => read_ahead.iter().flatten().copied().collect(),
    };
    Ok(serde_json::from_slice(&text).ok())
}

/// What only the access log wants of the request; without the query, which may hold secrets.
fn log_head(parts: &request::Parts, host: &Host, conn: &ClientConn) -> Box<AccessRecord> {
    let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    Box::new(AccessRecord {
        time: SystemTime::now(),
        client: conn.peer.ip(),
        method: parts.method.clone(),
        host: host.value.as_ref().map(|_| host.name().to_owned()),
        path: parts.uri.path().to_owned(),
        environment: conn.environment.shared(),
        agent: None,
        version: None,
        bucket: None,
        reason: None,
        epoch: 0,
        status: None,
        outcome: None,
        error: None,
        duration_us: 0,
        ttfb_us: None,
        request_bytes: declared_length(parts),
        response_bytes: 0,
        endpoint: None,
        retries: 0,
        request_id: text("x-request-id"),
        user_agent: text("user-agent"),
    })
}

fn prepare_request(parts: &mut request::Parts, host: &Host, conn: &ClientConn, body: &RequestBody) {
    headers::strip_hop_by_hop(&mut parts.headers);
    headers::keep_chunked_framing(&mut parts.headers, &parts.method, !body.is_empty());
    conn.forwarded.append_to(&mut parts.headers, host.value.as_ref());
    parts.version = Version::HTTP_11;
}

/// Sends the request to an endpoint of the decided version; a retry never changes the version.
///
/// Tried again is only what no endpoint can have acted on: a connection that could not be made, a
/// request that was never written, and on a reused connection that ended before any answer a request
/// that may be repeated (RFC 9110 §9.2.2). A stale pooled connection says nothing of its endpoint, so
/// it costs no attempt; it happens once, for after it only new connections are used.
async fn send(
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

fn respond(
    response: Response<Incoming>,
    lease: Lease,
    mut record: Record,
    version_header: bool,
) -> Response<ResponseBody> {
    let now = Instant::now();
    record.head(response.status().as_u16(), now);
    record.conn().wait(now, record.agent().spec.exchange.idle_timeout);
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    if let (Some(length), Some(entry)) = (body.size_hint().exact(), parts.headers.get_mut(CONTENT_LENGTH))
        && !body.is_end_stream()
    {
        // `5, 5` is one length to hyper, and not to every client.
        if entry.as_bytes().contains(&b',') {
            *entry = HeaderValue::from(length);
        }
    }
    parts.version = Version::HTTP_11;
    if version_header {
        parts.headers.insert(VERSION_HEADER, record.version().header.clone());
    }
    Response::from_parts(parts, ResponseBody::Relay(Box::new(Relay::new(body, lease, record))))
}
