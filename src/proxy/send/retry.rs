//! What may follow an attempt that failed.
//!
//! What no endpoint can have acted on is sent again in any case, at once and out of no budget: it has cost no endpoint
//! anything. That is a connection that could not be made (to up to [`MAX_CONNECTS`] endpoints), a request that was
//! never written or that an HTTP/2 endpoint has refused (RFC 9113 §8.7), and on a reused connection that ended before
//! any answer a request that may be repeated (RFC 9110 §9.2.2). A stale pooled connection says nothing of its endpoint.
//! On HTTP/1.1 it happens once, for after it only new connections are used; on HTTP/2 what was not acted on is sent up
//! to [`MAX_REPEATS`] times more.
//!
//! What an endpoint may have acted on is sent again as the agent's `retries` say, and only where it may be repeated and
//! its body is still there: after any failure before the head, a head that did not come in `per_try_timeout`, or one of
//! `statuses`. Each of these is taken out of the version's budget and goes to another endpoint, where there is one.
//! Without budget an attempt that is slow is not cut either, but left to the time-outs of the exchange.

use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::failure::{Failure, Link, Unsent};
use crate::proxy::balance::{self, Attempt, Choice};
use crate::proxy::body::RequestBody;
use crate::proxy::connection::ClientConn;
use crate::proxy::grpc;
use crate::proxy::outcome::Record;
use crate::proxy::upstream::{Broken, ConnectError, Head};
use crate::routing::endpoint::Endpoints;
use crate::routing::spec::ExchangeSpec;
use crate::routing::table::Agent;
use crate::telemetry::counters::add;
use crate::telemetry::endpoints::EjectionReason;
use crate::telemetry::stats::{Outcome, RetryResult};

/// How many endpoints are tried before a request is given up because none takes a connection.
const MAX_CONNECTS: usize = 3;

/// How often a request is sent again that no endpoint has acted on.
const MAX_REPEATS: u32 = 3;

/// What the attempts of one request have come to.
pub(in crate::proxy) struct Retry<'a> {
    conn: &'a ClientConn,
    spec: &'a ExchangeSpec,
    /// It may be acted on twice.
    repeatable: bool,
    /// Endpoints that have failed it.
    tried: Vec<usize>,
    /// Those of them that took no connection.
    unconnected: usize,
    /// Where to go next, whatever the load.
    again_at: Option<Choice>,
    /// A pooled connection was stale: a new one is made.
    stale: bool,
    repeats: u32,
    /// Out of the budget.
    retries: u32,
    /// The deadline is the attempt's and not the exchange's.
    is_short: bool,
}

/// What follows when time is up.
pub(super) enum Expiry {
    /// It is the exchange's.
    Over,
    /// It was the attempt's, and another one is granted.
    TryAgain,
    /// It was the attempt's, and there is no other: it has the rest of the time.
    GoOn,
}

impl<'a> Retry<'a> {
    pub(super) fn new(conn: &'a ClientConn, agent: &'a Agent, repeatable: bool) -> Self {
        Self {
            conn,
            spec: &agent.spec.exchange,
            repeatable,
            tried: Vec::new(),
            unconnected: 0,
            again_at: None,
            stale: false,
            repeats: 0,
            retries: 0,
            is_short: false,
        }
    }

    /// Where the next attempt goes. `None`: there is no endpoint.
    pub(super) fn choose(&mut self, endpoints: Endpoints<'_>) -> Option<Choice> {
        self.again_at.take().or_else(|| balance::choose(endpoints, &self.conn.worker, &self.tried))
    }

    /// Whether the next attempt may go over a connection that has been idle.
    pub(super) fn may_reuse(&self) -> bool {
        !self.stale
    }

    /// Whether an attempt may follow that needs the body again.
    pub(super) fn may_follow(&self) -> bool {
        self.repeatable && self.retries < self.spec.resilience.retries.attempts
    }

    /// Sets the deadline of an attempt. That of the first is set already, unless it has one of its own.
    pub(super) fn begin(&mut self) {
        match self.spec.resilience.retries.per_try_timeout.filter(|_| self.may_follow()) {
            Some(each) => {
                let now = Instant::now();
                self.is_short = self.left(now).is_none_or(|left| each < left);
                if self.is_short { self.conn.wait(now, each) } else { self.wait_for_all() }
            }
            None if std::mem::take(&mut self.is_short) || self.retries > 0 => self.wait_for_all(),
            None => {}
        }
    }

    /// From now on the deadline is that of the exchange.
    pub(super) fn wait_for_all(&self) {
        match self.spec.response_timeout {
            Some(whole) => self.conn.wait(self.conn.exchange_start(), whole),
            None => self.conn.wait(Instant::now(), self.spec.idle_timeout),
        }
    }

    /// Of the time for the whole; `None`: there is no limit.
    fn left(&self, now: Instant) -> Option<Duration> {
        let spent = now.saturating_duration_since(self.conn.exchange_start());
        self.spec.response_timeout.map(|whole| whole.saturating_sub(spent))
    }

    /// The deadline has passed while the endpoint was waited for.
    pub(super) fn expired(&mut self, record: &mut Record, body: &RequestBody) -> Expiry {
        let is_short = std::mem::take(&mut self.is_short);
        if !is_short || self.conn.is_over_limit() || (body.is_empty() && self.is_over()) {
            return Expiry::Over;
        }
        // A client that is slow to send its request says nothing of the endpoint.
        if !self.conn.awaits_client.get() && self.permit(record, body) {
            return Expiry::TryAgain;
        }
        self.go_on(body);
        Expiry::GoOn
    }

    /// The attempt gets the time of the exchange, which counts from the last progress of its body, if it has one.
    fn go_on(&self, body: &RequestBody) {
        let each = self.spec.resilience.retries.per_try_timeout.unwrap_or_default();
        let whole = self.spec.response_timeout.unwrap_or(self.spec.idle_timeout);
        if body.is_empty() { self.wait_for_all() } else { self.conn.wait(Instant::now(), whole.saturating_sub(each)) }
    }

    /// The time for the whole is over.
    fn is_over(&self) -> bool {
        self.conn.is_over_limit() || self.left(Instant::now()).is_some_and(|left| left.is_zero())
    }

    /// Whether an answer is as good as none.
    pub(super) fn is_failure(&self, head: &Head, record: &Record) -> bool {
        let statuses = &self.spec.resilience.retries.statuses;
        match head.status.as_u16() {
            status @ 400.. => statuses.contains(&status),
            _ => {
                let unavailable = || grpc::is_unavailable(&head.headers);
                record.call.is_some() && unavailable() && statuses.contains(&StatusCode::SERVICE_UNAVAILABLE.as_u16())
            }
        }
    }

    /// Notes what a failure says of its endpoint, and answers how long to wait before the next attempt; `None`: it is
    /// passed on.
    pub(super) fn after(
        &mut self,
        failure: &Failure,
        choice: Choice,
        record: &mut Record,
        body: &RequestBody,
    ) -> Option<Duration> {
        match failure {
            Failure::Refused(_) => None,
            Failure::NoConnection(error) => {
                note(record, choice, error.reason().filter(|_| !is_late(self.conn)));
                // Another endpoint would want a descriptor, too.
                let is_ours = matches!(error, ConnectError::NoDescriptor);
                if is_ours { None } else { self.connect_elsewhere(choice, record) }
            }
            Failure::Unsent(unsent, link) if self.is_untouched(unsent, link) && body.may_be_repeated() => {
                self.repeat(choice, link, record);
                Some(Duration::ZERO)
            }
            Failure::Unsent(unsent, link) => {
                let is_stale = matches!(unsent, Unsent::Broken(Broken::Closed)) && link.is_reused && !link.is_shared;
                note(record, choice, unsent.reason(self.conn).filter(|_| !is_stale));
                let granted = match unsent {
                    // Else it would not have been cut.
                    Unsent::Slow => true,
                    Unsent::Expired | Unsent::Broken(Broken::Request | Broken::NotStarted) => false,
                    Unsent::Broken(_) => self.permit(record, body),
                };
                granted.then(|| self.again(choice, None, record))
            }
            Failure::Answered(head, _) => self.permit(record, body).then(|| {
                // Nobody will see how that answer ends.
                balance::settle(record, Outcome::Success);
                self.again(choice, retry_after(&head.headers), record)
            }),
        }
    }

    fn connect_elsewhere(&mut self, choice: Choice, record: &mut Record) -> Option<Duration> {
        self.unconnected += 1;
        self.tried.push(choice.index);
        let endpoints = record.version().endpoints.len();
        if self.unconnected >= endpoints.min(MAX_CONNECTS) || self.is_over() {
            return None;
        }
        record.retry(RetryResult::Sent);
        Some(Duration::ZERO)
    }

    /// Whether no endpoint can have acted on the request, or it may be acted on twice and the connection was stale.
    ///
    /// What the client broke is not sent again: cut short, it would look whole.
    fn is_untouched(&self, unsent: &Unsent, link: &Link) -> bool {
        let untouched = match unsent {
            Unsent::Broken(Broken::NotStarted) => true,
            Unsent::Broken(Broken::Closed) => self.repeatable && link.is_reused && self.repeats == 0,
            _ => false,
        };
        untouched && self.repeats < MAX_REPEATS && self.conn.request_fault.get().is_none()
    }

    fn repeat(&mut self, choice: Choice, link: &Link, record: &mut Record) {
        self.repeats += 1;
        self.stale = true;
        if !link.is_shared {
            self.again_at = Some(choice);
            add(&self.conn.worker.counters().upstream_stale);
        }
        record.retry(RetryResult::Sent);
    }

    /// Whether there may be one more attempt of what an endpoint may have acted on; it is taken out of the budget.
    fn permit(&mut self, record: &mut Record, body: &RequestBody) -> bool {
        let spec = &self.spec.resilience.retries;
        let is_whole = self.conn.request_fault.get().is_none() && body.may_be_repeated();
        if !self.repeatable || !is_whole || spec.attempts == 0 || self.is_over() {
            return false;
        }
        if self.retries >= spec.attempts {
            record.retry(RetryResult::Exhausted);
            return false;
        }
        let now = Instant::now();
        let stats = &record.version().stats;
        let protection = &stats.protection;
        if !spec.budget.take(&protection.retries_spent, stats.requests(), protection.elapsed(now)) {
            record.retry(RetryResult::NoBudget);
            return false;
        }
        true
    }

    /// One more attempt, which was permitted: at another endpoint, after a while.
    fn again(&mut self, choice: Choice, asked: Option<Duration>, record: &mut Record) -> Duration {
        let wait = self.spec.resilience.retries.backoff.wait(self.retries, asked, self.conn.worker.random());
        self.tried.push(choice.index);
        self.retries += 1;
        self.stale = false;
        record.retry(RetryResult::Sent);
        wait
    }
}

/// The time for the whole is over, and the client took most of it.
pub(super) fn is_late(conn: &ClientConn) -> bool {
    conn.is_over_limit() && conn.was_late()
}

fn note(record: &Record, choice: Choice, reason: Option<EjectionReason>) {
    if let Some(reason) = reason {
        balance::note(record, choice, Attempt::Failed(reason));
    }
}

/// In seconds; a date is not waited for.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
