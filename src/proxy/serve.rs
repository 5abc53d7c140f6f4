//! One request, top-down: read, match, admit, key, pin, decide, send, respond. The record is written by drop.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version, request};

use super::body::{Relay, RequestBody, ResponseBody};
use super::client_body::ClientBody;
use super::connection::ClientConn;
use super::conversation;
use super::error::Fault;
use super::grpc;
use super::headers::VERSION_HEADER;
use super::outcome::{Busy, Record};
use super::rates;
use super::read::{self, Host};
use super::send::{Answer, send};
use super::tunnel::Tunnel;
use super::worker::Snapshot;
use crate::routing::decide::decide;
use crate::routing::spec::Protocol;
use crate::routing::table::{Head, Reason};
use crate::telemetry::counters::ErrorCode;

/// Answers one request. Never fails: what goes wrong becomes an answer of our own.
pub(super) async fn serve(conn: Rc<ClientConn>, request: Request<ClientBody>) -> Response<ResponseBody> {
    let snapshot = conn.worker.snapshot();
    let busy = Busy::new(&conn, &snapshot.options);
    match exchange(busy, snapshot, request).await {
        Ok(response) => response,
        Err(refusal) => {
            conn.worker.counters().error(refusal.fault.code);
            refusal.response()
        }
    }
}

/// An answer of our own on its way.
struct Refusal {
    fault: Fault,
    /// The connection's mark, where no record took it over.
    busy: Option<Busy>,
    /// The ready version header, where a version was chosen.
    version: Option<HeaderValue>,
    /// To be answered in gRPC.
    grpc: bool,
}

impl Refusal {
    fn response(self) -> Response<ResponseBody> {
        let text = (!self.grpc).then(|| self.fault.body());
        let body = ResponseBody::Own { text, _busy: self.busy };
        let mut response = if self.grpc { grpc::refusal(&self.fault, body) } else { self.fault.response(body) };
        if let Some(version) = self.version {
            response.headers_mut().insert(VERSION_HEADER, version);
        }
        response
    }
}

async fn exchange(
    busy: Busy,
    snapshot: Rc<Snapshot>,
    request: Request<ClientBody>,
) -> Result<Response<ResponseBody>, Refusal> {
    let conn = busy.conn.clone();
    let (mut parts, body) = request.into_parts();

    // Read: the head is here; put its target and host into the one form that follows.
    if parts.version == Version::HTTP_2
        && let Err(fault) = read::http2::settle(&mut parts, snapshot.options.head_fields)
    {
        return Err(refuse(fault, busy, &parts, &Host::new(None)));
    }
    conn.locate(&mut parts.headers, &snapshot.options);
    let host = match read::normalise_target(&mut parts, snapshot.options.paths) {
        Ok(host) => host,
        Err(fault) => return Err(refuse(fault, busy, &parts, &Host::new(None))),
    };

    let has_body = !body.has_ended();
    if has_body && let Some(fault) = read::unknown_coding(&parts) {
        return Err(refuse(fault, busy, &parts, &host));
    }

    // Match.
    let head = read::head(&parts, &host, &conn, conn.worker.random());
    let Some(place) = snapshot.table.place(&conn.environment, &head) else {
        return Err(refuse(read::no_route(&parts, &host), busy, &parts, &host));
    };
    let agent = &snapshot.table.agents[place.agent];
    let limits = &agent.spec.exchange;
    let (shedding, counters) = (&snapshot.options.shedding, &conn.worker.counters().shedding);
    if let Err(fault) = conn.worker.load.check(shedding, limits.resilience.priority, counters) {
        return Err(refuse(fault, busy, &parts, &host));
    }
    if has_body {
        let max_bytes = agent.max_request_body_bytes(place.route);
        conn.max_body_bytes.set(max_bytes);
        if read::declared_length(&parts) > max_bytes {
            return Err(refuse(read::body_too_large(max_bytes), busy, &parts, &host));
        }
    }
    conn.set_limit(limits.request_timeout.map(|most| busy.start + most));
    conn.wait(busy.start, limits.response_timeout.unwrap_or(limits.idle_timeout));

    // Admit: a request beyond its rates is read no further, and no version hears of it.
    let held = match rates::admit(&conn, agent, &head, busy.start) {
        Ok(held) => held,
        Err(fault) => return Err(refuse(fault, busy, &parts, &host)),
    };

    // Key: the only reason to look into a body.
    let mut body = body;
    let mut read_ahead = VecDeque::new();
    let mut json = None;
    if has_body && read::wants_json(agent, &head) {
        match read::read_json(&mut body, &mut read_ahead, agent.spec.bucketing.json_limit_bytes, &conn).await {
            Ok(value) => json = value,
            Err(fault) => return Err(refuse(fault, busy, &parts, &host)),
        }
    }

    // Pin: what holds the request to a version before anything is decided.
    let head = Head { json: json.as_ref(), ..head };
    let standing = conversation::stand(&conn, &snapshot, agent, &head);

    // Decide.
    let mut decision = standing.decision().unwrap_or_else(|| decide(agent, &head));
    if decision.reason == Reason::NoKey {
        agent.stats.without_key(conn.worker.index);
    }
    let turn = standing.settle(&conn, agent, &mut decision);
    conversation::strip(&mut parts.headers, &snapshot, agent);
    let mut record = Record::new(busy, snapshot.clone(), place.agent, decision);
    record.turn = turn;
    record.held = held;
    if limits.protocol == Protocol::Http2 {
        record.call = grpc::Call::of(&parts.headers);
    }
    if snapshot.options.access_log.is_some() {
        record.log = Some(read::log_head(&parts, &host, &conn));
    }

    // Send.
    let body = RequestBody::new(&conn, body, read_ahead, conn.max_body_bytes.get());
    match send(&mut record, agent, &parts, &host, body).await {
        // Respond.
        Ok(answer) => Ok(respond(answer, record, &parts.method, snapshot.options.version_header)),
        Err(fault) => {
            record.fail(&fault);
            let version = snapshot.options.version_header.then(|| record.version().header.clone());
            Err(Refusal { fault, busy: None, version, grpc: grpc::is_grpc(&parts.headers) })
        }
    }
}

/// Refuses a request that has reached no version; it is logged all the same.
fn refuse(fault: Fault, busy: Busy, parts: &request::Parts, host: &Host) -> Refusal {
    if matches!(fault.code, ErrorCode::BadRequest | ErrorCode::MethodNotSupported) {
        // Whoever sends what can be read in two ways may mean what follows in another.
        busy.conn.close_after.set(true);
    }
    if busy.conn.worker.snapshot().options.access_log.is_some() {
        busy.log_refusal(&fault, read::log_head(parts, host, &busy.conn));
    }
    Refusal { fault, busy: Some(busy), version: None, grpc: grpc::is_grpc(&parts.headers) }
}

fn respond(answer: Answer, mut record: Record, method: &Method, version_header: bool) -> Response<ResponseBody> {
    let Answer { head, mut lease, request } = answer;
    let now = Instant::now();
    record.head(head.status.as_u16(), now);
    record.fields(&head.headers);
    record.tap(method, &head, &lease, now);
    if record.is_stream() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        record.conn().set_limit(None);
    }
    record.conn().wait(now, record.agent().spec.exchange.idle_timeout);
    let mut headers = head.headers;
    conversation::answer(&mut record, &mut headers, head.status.is_success());
    rates::answer(&record, &mut headers);
    if version_header {
        headers.append(VERSION_HEADER, record.version().header.clone());
    }
    let upgrade = head.upgrade.filter(|_| head.status == StatusCode::SWITCHING_PROTOCOLS);
    let body = if let (Some(protocol), Some(_)) = (upgrade, lease.upstream().http1()) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
        let conn = record.conn().clone();
        conn.tunnel.set(Some(Tunnel::new(lease, record)));
        ResponseBody::Own { text: None, _busy: None }
    } else {
        ResponseBody::Relay(Box::new(Relay::new(lease, request, record, now)))
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}
