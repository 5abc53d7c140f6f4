//! One exchange's record: counted and logged exactly once, when it is dropped, however it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Frame;

use super::balance::{self, Choice};
use super::circuit;
use super::connection::ClientConn;
use super::conversation::{self, Turn};
use super::error::Fault;
use super::grpc::Call;
use super::pool::Lease;
use super::rates::{self, Held};
use super::streamed::{Silence, Streamed};
use super::tap::Transport;
use super::upstream::Head;
use super::worker::{ProxyOptions, Snapshot};
use crate::routing::standing::Keys;
use crate::routing::table::{Agent, Decision, Reason, Version};
use crate::telemetry::access::AccessRecord;
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::stats::{Exchange, Outcome, RetryResult, StatusClass, StreamEnd};

/// A last frame of no more is written with what was before it.
const SHORT_BYTES: usize = 8 << 10;

/// Marks the connection as busy from a whole request head to the end of the answer.
pub(super) struct Busy {
    pub conn: Rc<ClientConn>,
    pub start: Instant,
    /// Where it is known already: a clock costs more than a cell.
    end: Option<Instant>,
}

impl Busy {
    pub fn new(conn: &Rc<ClientConn>, options: &ProxyOptions) -> Self {
        // A stream is made when its head is here.
        let start = if conn.http2 { conn.exchange_start() } else { Instant::now() };
        conn.begin_exchange(start, options);
        conn.worker.load.begin();
        Self { conn: conn.clone(), start, end: None }
    }
}

impl Busy {
    /// Logs a request that was answered by ourselves before a version was chosen.
    pub fn log_refusal(&self, fault: &Fault, mut log: Box<AccessRecord>) {
        let snapshot = self.conn.worker.snapshot();
        let Some(access) = &snapshot.options.access_log else { return };
        if access.wants(true, self.conn.worker.random()) {
            log.epoch = snapshot.table.epoch;
            log.status = Some(fault.status().as_u16());
            log.error = Some(fault.code);
            log.duration_us = micros(self.start.elapsed());
            access.push(*log);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.conn.end_exchange(self.end.unwrap_or_else(Instant::now));
        self.conn.worker.load.end();
    }
}

/// What is known of an exchange with a version. Until told otherwise the client has cancelled it:
/// that is what being dropped early means.
pub(super) struct Record {
    busy: Busy,
    /// Keeps the table, and so the agent and its counters, alive to the end.
    snapshot: Rc<Snapshot>,
    agent: usize,
    pub decision: Decision,
    status: u16,
    first_byte: Option<Duration>,
    end: Option<Instant>,
    outcome: Outcome,
    error: Option<ErrorCode>,
    /// Where it is a gRPC call.
    pub call: Option<Call>,
    pub bytes_out: u64,
    pub retries: u32,
    /// Within the version's circuit breaker, where the agent has one.
    pub place: Option<circuit::Place>,
    /// Whose answer it is, until its end is noted there.
    pub served_by: Cell<Option<Choice>>,
    /// The answer, where it is tapped.
    pub streamed: Option<Box<Streamed>>,
    /// What only the access log wants; `None` when it is off.
    pub log: Option<Box<AccessRecord>>,
    /// `None` where the agent has no conversations.
    pub turn: Option<Box<Turn>>,
    /// `None` where the agent has no rate limits.
    pub held: Option<Box<Held>>,
}

impl Record {
    pub fn new(busy: Busy, snapshot: Rc<Snapshot>, agent: usize, decision: Decision) -> Self {
        let record = Self {
            busy,
            snapshot,
            agent,
            decision,
            status: 0,
            first_byte: None,
            end: None,
            outcome: Outcome::ClientCancel,
            error: None,
            call: None,
            bytes_out: 0,
            retries: 0,
            place: None,
            served_by: Cell::new(None),
            streamed: None,
            log: None,
            turn: None,
            held: None,
        };
        record.version().stats.started(record.worker());
        record
    }

    fn worker(&self) -> usize {
        self.busy.conn.worker.index
    }

    pub fn conn(&self) -> &Rc<ClientConn> {
        &self.busy.conn
    }

    pub fn agent(&self) -> &Arc<Agent> {
        &self.snapshot.table.agents[self.agent]
    }

    pub fn version(&self) -> &Version {
        &self.agent().versions[self.decision.version]
    }

    pub fn keys(&self) -> &Keys {
        &self.snapshot.options.keys
    }

    /// Of the table that decided.
    pub fn epoch(&self) -> u64 {
        self.snapshot.table.epoch
    }

    /// What the agent is told of an override.
    pub fn forwarded_version(&self) -> Option<&HeaderValue> {
        let is_forwarded = || self.keys().overrides.as_ref().is_some_and(|known| known.forward);
        (self.decision.reason == Reason::Override && is_forwarded()).then(|| &self.version().header)
    }

    /// What became of the wish to send the request again.
    pub fn retry(&mut self, result: RetryResult) {
        if result == RetryResult::Sent {
            self.retries += 1;
        }
        self.version().stats.retry(self.worker(), result);
    }

    /// The response head is here.
    pub fn head(&mut self, status: u16, now: Instant) {
        self.status = status;
        self.first_byte = Some(now.duration_since(self.busy.start));
        // Whether a call is refused may stand in its trailers, and nothing before them.
        if status < 500 && self.call.is_none() {
            self.answered(now);
        }
    }

    /// The answer is good so far.
    fn answered(&mut self, now: Instant) {
        if let Some(mut place) = self.place.take() {
            place.answered(self.agent(), self.version(), now);
            self.place = Some(place);
        }
    }

    /// Reads the answer as it passes, where it has anything to say.
    pub fn tap(&mut self, method: &Method, head: &Head, lease: &Lease, now: Instant) {
        let upstream = lease.upstream_ref();
        if !upstream.has_ended() {
            let spec = &self.snapshot.table.agents[self.agent].spec.streams;
            let has_length = upstream.body_left().is_some();
            let head = (head.status, &head.headers);
            self.streamed = Streamed::of(spec, method, head, has_length, &self.busy.conn, now);
        }
    }

    /// Whether the answer goes on for as long as it has something to say: events, or a gRPC call.
    pub fn is_stream(&self) -> bool {
        self.call.is_some() || self.streamed.as_ref().is_some_and(|streamed| streamed.is_stream())
    }

    /// A frame of the answer passes; `last`: nothing more is waited for. `received`: when it was here, where that is
    /// known.
    pub fn pass(&mut self, frame: &Frame<Bytes>, last: bool, received: Option<Instant>) {
        let Some(data) = frame.data_ref() else { return self.pass_trailers(frame) };
        if self.bytes_out == 0 && self.call.is_some() {
            // A message: the version is there, however long the call goes on.
            self.answered(Instant::now());
        }
        self.bytes_out += data.len() as u64;
        let conn = &self.busy.conn;
        let now = match &mut self.streamed {
            // With the rest of the answer gone to the kernel it is over; a long frame may still wait for the client.
            None if last && data.len() <= SHORT_BYTES => return,
            None => Instant::now(),
            Some(streamed) => {
                let now = received.unwrap_or_else(Instant::now);
                let version = &self.snapshot.table.agents[self.agent].versions[self.decision.version];
                streamed.pass(data, now, conn, &version.stats);
                now
            }
        };
        conn.progress_at(now);
    }

    /// Nothing comes; says what to do where the tap has asked to be told.
    pub fn is_silent(&mut self) -> Silence {
        let conn = &self.busy.conn;
        let streamed = self.streamed.as_mut().filter(|_| conn.take_alarm());
        streamed.map_or(Silence::Bear, |streamed| streamed.is_silent(Instant::now(), conn))
    }

    fn pass_trailers(&mut self, frame: &Frame<Bytes>) {
        let Some(fields) = frame.trailers_ref() else { return };
        self.fields(fields);
        if let Some(streamed) = &mut self.streamed {
            streamed.take_fields(&self.snapshot.table.agents[self.agent].spec.streams, fields);
        }
    }

    /// The fields of the answer's head or trailers, as they go out.
    pub fn fields(&mut self, fields: &HeaderMap) {
        if let Some(call) = &mut self.call {
            call.read(fields);
        }
    }

    /// The whole answer went out.
    pub fn complete(&mut self, now: Instant) {
        conversation::see_end(self);
        self.end = Some(now);
        let end = self.end_stream(Transport::Clean);
        self.outcome = match (end, &self.call) {
            (Some(StreamEnd::Error), _) => Outcome::StreamError,
            (Some(StreamEnd::Truncated), _) => Outcome::Truncated,
            (_, Some(call)) => call.outcome(self.status),
            _ if self.status >= 500 => Outcome::ServerError,
            _ => Outcome::Success,
        };
    }

    fn end_stream(&mut self, transport: Transport) -> Option<StreamEnd> {
        self.streamed.as_mut().and_then(|streamed| streamed.end(transport))
    }

    /// An answer of our own took the place of the version's.
    pub fn fail(&mut self, fault: &Fault) {
        self.outcome = fault.outcome();
        self.status = fault.status().as_u16();
        self.error = Some(fault.code);
    }

    /// The version's answer broke off after its head.
    pub fn break_off(&mut self, outcome: Outcome) {
        let transport = match outcome {
            Outcome::Stalled | Outcome::IdleTimeout => Transport::Stalled,
            Outcome::ClientError => Transport::Cancelled,
            _ => Transport::Broken,
        };
        let failed = self.end_stream(transport) == Some(StreamEnd::Error);
        self.outcome = if failed { Outcome::StreamError } else { outcome };
    }

    /// The client left. What the stream had already said of its end holds all the same.
    fn cancel(&mut self) {
        match self.end_stream(Transport::Cancelled) {
            Some(StreamEnd::Error) => self.outcome = Outcome::StreamError,
            Some(StreamEnd::Complete) => self.outcome = Outcome::Success,
            _ => {}
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self.end.unwrap_or_else(Instant::now);
        self.busy.end = Some(end);
        let latency = end.duration_since(self.busy.start);
        let unanswered = self.outcome == Outcome::ClientCancel && self.first_byte.is_none();
        if unanswered && self.call.is_some_and(|call| call.is_overdue(latency)) {
            self.outcome = Outcome::ResponseTimeout;
        }
        if self.outcome == Outcome::ClientCancel {
            self.cancel();
        }
        // Where the version sent no head, the status in the log is ours and says nothing of its class.
        let class = self.first_byte.map_or(StatusClass::None, |_| StatusClass::of(self.status));
        let exchange = self.exchange(class, latency);
        balance::settle(self, self.outcome);
        self.version().stats.ended(self.worker(), &exchange);
        if let Some(place) = self.place.take() {
            place.leave(self.agent(), self.version(), self.outcome, end);
        }
        self.busy.conn.worker.note_end(&self.version().stats.labels, latency);
        if let Some(turn) = self.turn.take() {
            turn.end();
        }
        if let Some(held) = self.held.take() {
            let told = rates::End {
                failed: self.error.is_some(),
                whole: self.end.is_some(),
                status: self.status,
                usage: exchange.usage,
            };
            rates::settle(*held, &told, self.conn(), end);
        }
        if let Some(log) = self.log.take() {
            self.write_log(log, &exchange);
        }
    }
}

impl Record {
    fn exchange(&mut self, class: StatusClass, latency: Duration) -> Exchange {
        let mut exchange = Exchange::plain(self.outcome, class, latency, self.first_byte);
        exchange.stream = self.end_stream(Transport::Cancelled);
        if let Some(streamed) = &self.streamed {
            exchange.first_token = streamed.first_token();
            exchange.usage = streamed.usage();
            let prices = &self.agent().spec.streams.prices;
            exchange.cost_nanos = prices.cost_nanos(streamed.model().unwrap_or_default(), exchange.usage);
        }
        exchange
    }

    fn write_log(&self, mut log: Box<AccessRecord>, exchange: &Exchange) {
        let Some(access) = &self.snapshot.options.access_log else { return };
        if !access.wants(self.outcome.is_error(), self.busy.conn.worker.random()) {
            return;
        }
        log.agent = Some(self.agent().id().shared());
        log.version = Some(self.version().id.shared());
        log.bucket = self.decision.bucket;
        log.reason = Some(self.decision.reason.as_str());
        log.epoch = self.snapshot.table.epoch;
        log.status = (self.status > 0).then_some(self.status);
        log.outcome = Some(self.outcome);
        log.error = self.error;
        log.duration_us = micros(exchange.latency);
        log.ttfb_us = self.first_byte.map(micros);
        log.stream = exchange.stream;
        log.ttft_us = exchange.first_token.map(micros);
        log.input_tokens = exchange.usage.input_tokens;
        log.output_tokens = exchange.usage.output_tokens;
        log.model = self.streamed.as_ref().and_then(|streamed| streamed.model()).map(str::to_owned);
        log.response_bytes = self.bytes_out;
        log.retries = self.retries;
        access.push(*log);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
