//! One exchange's record: counted and logged exactly once, when it is dropped, however it ends.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::ClientConn;
use super::error::Fault;
use super::worker::{ProxyOptions, Snapshot};
use crate::routing::table::{Agent, Decision, Version};
use crate::telemetry::access::AccessRecord;
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::stats::{Exchange, Outcome, StatusClass};

/// Marks the connection as busy from a whole request head to the end of the answer.
pub(super) struct Busy {
    pub conn: Rc<ClientConn>,
    pub start: Instant,
    /// Where it is known already: a clock costs more than a cell.
    end: Option<Instant>,
}

impl Busy {
    pub fn new(conn: &Rc<ClientConn>, options: &ProxyOptions) -> Self {
        let start = Instant::now();
        conn.begin_exchange(start, options);
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
    pub bytes_out: u64,
    pub retries: u32,
    /// What only the access log wants; `None` when it is off.
    pub log: Option<Box<AccessRecord>>,
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
            bytes_out: 0,
            retries: 0,
            log: None,
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

    /// The response head is here.
    pub fn head(&mut self, status: u16, now: Instant) {
        self.status = status;
        self.first_byte = Some(now.duration_since(self.busy.start));
    }

    /// The whole answer went out.
    pub fn complete(&mut self, now: Instant) {
        self.end = Some(now);
        self.outcome = if self.status >= 500 { Outcome::ServerError } else { Outcome::Success };
    }

    /// An answer of our own took the place of the version's.
    pub fn fail(&mut self, fault: &Fault) {
        self.outcome = fault.outcome();
        self.status = fault.status().as_u16();
        self.error = Some(fault.code);
    }

    /// The version's answer broke off after its head.
    pub fn break_off(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self.end.unwrap_or_else(Instant::now);
        self.busy.end = Some(end);
        let latency = end.duration_since(self.busy.start);
        // Where the version sent no head, the status in the log is ours and says nothing of its class.
        let class = self.first_byte.map_or(StatusClass::None, |_| StatusClass::of(self.status));
        let exchange = Exchange { outcome: self.outcome, class, latency, first_byte: self.first_byte };
        self.version().stats.ended(self.worker(), &exchange);
        self.busy.conn.worker.note_end(&self.version().stats.labels, latency);
        if let Some(log) = self.log.take() {
            self.write_log(log, latency);
        }
    }
}

impl Record {
    fn write_log(&self, mut log: Box<AccessRecord>, latency: Duration) {
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
        log.duration_us = micros(latency);
        log.ttfb_us = self.first_byte.map(micros);
        log.response_bytes = self.bytes_out;
        log.retries = self.retries;
        access.push(*log);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
