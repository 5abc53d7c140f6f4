//! Which endpoint of a version, and what its answer says of it: power of two choices on this worker's exchanges in
//! flight, among those in service.
//!
//! What is in service all workers know together (`routing::endpoint`). To choose between two that are costs a load
//! each for that; a good answer costs two more.

use std::time::Instant;

use http::StatusCode;

use super::outcome::Record;
use super::worker::Worker;
use crate::routing::endpoint::{Endpoints, Sent, Tick};
use crate::telemetry::endpoints::EjectionReason;
use crate::telemetry::stats::Outcome;

mod report;
#[cfg(test)]
mod tests;

/// An endpoint of the version, and what the request is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub index: usize,
    pub sent: Sent,
}

/// How an attempt ended, as far as its endpoint answers for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The head of an answer came.
    Answered(StatusCode),
    Failed(EjectionReason),
}

/// Chooses an endpoint, or `None` where there is none. `tried` holds those that have failed this request: they come
/// again only when all have.
pub(super) fn choose(endpoints: Endpoints<'_>, worker: &Worker, tried: &[usize]) -> Option<Choice> {
    let load = |index: usize| worker.pools.of(endpoints.all[index].id).in_use();
    pick(endpoints, tried, load, || worker.random(), || Tick::at(Instant::now()))
}

fn pick(
    endpoints: Endpoints<'_>,
    tried: &[usize],
    load: impl Fn(usize) -> usize,
    mut random: impl FnMut() -> u64,
    now: impl FnOnce() -> Tick,
) -> Option<Choice> {
    let count = endpoints.all.len();
    if count == 0 {
        return None;
    }
    let serves = |index: usize| endpoints.health(index).is_in_service();
    let mut any = |count: usize| if count == 1 { 0 } else { (random() % count as u64) as usize };
    let lighter = |first, second| if first != second && load(second) < load(first) { second } else { first };

    // A request that has failed once is none to try an endpoint with.
    let (first, second) = (any(count), any(count));
    if tried.is_empty() {
        if serves(first) && serves(second) {
            return Some(Choice { index: lighter(first, second), sent: Sent::Plain });
        }
        let now = now();
        let is_probe = |index: &usize| endpoints.health(*index).take_probe(endpoints.rule, now);
        if let Some(index) = [first, second].into_iter().find(is_probe) {
            return Some(Choice { index, sent: Sent::Probe });
        }
    }

    // What has not failed this request comes before what has, and what is in service before what is out. Looked at
    // once each, for other threads change what is in service.
    let (mut best, mut equals, mut first, mut second) = ((true, true), 0, first, second);
    for index in 0..count {
        let rank = (tried.contains(&index), !serves(index));
        if equals == 0 || rank < best {
            (best, equals, first, second) = (rank, 1, index, index);
        } else if rank == best {
            equals += 1;
            // Each of the equals is as likely as the others to be either of the two.
            first = if any(equals) == 0 { index } else { first };
            second = if any(equals) == 0 { index } else { second };
        }
    }
    let (_, is_out) = best;
    Some(Choice { index: lighter(first, second), sent: if is_out { Sent::Anyway } else { Sent::Plain } })
}

/// Notes how an attempt ended: once for each that says something of its endpoint. What the client broke, a stale pooled
/// connection and a refused stream do not. How the answer ends is noted when the record is dropped.
pub(super) fn note(record: &Record, choice: Choice, attempt: Attempt) {
    let endpoints = record.agent().endpoints(record.decision.version);
    let reason = match attempt {
        Attempt::Answered(status) if !endpoints.rule.is_failure(status.as_u16()) => {
            endpoints.health(choice.index).answered();
            record.served_by.set(Some(choice));
            if status == StatusCode::SWITCHING_PROTOCOLS {
                // What follows is no answer, and may last for days.
                settle(record, Outcome::Success);
            }
            return;
        }
        Attempt::Answered(_) => EjectionReason::Status,
        Attempt::Failed(reason) => reason,
    };
    failed(record, choice, reason);
}

/// Notes how the answer that [`note`] was told of has ended, if there is one.
pub(super) fn settle(record: &Record, outcome: Outcome) {
    let Some(choice) = record.served_by.take() else { return };
    match outcome {
        Outcome::Truncated => failed(record, choice, EjectionReason::Truncated),
        Outcome::BadResponse => failed(record, choice, EjectionReason::BadResponse),
        Outcome::IdleTimeout | Outcome::Stalled => failed(record, choice, EjectionReason::Stalled),
        // Also what the client broke off was good so far.
        _ => {
            let health = record.version().endpoints[choice.index].health.as_ref();
            if health.completed(choice.sent, || Tick::at(Instant::now())) {
                report::returned(record, choice.index);
            }
        }
    }
}

fn failed(record: &Record, choice: Choice, reason: EjectionReason) {
    let endpoints = record.agent().endpoints(record.decision.version);
    let (now, random) = (Tick::at(Instant::now()), record.conn().worker.random());
    if let Some(ejected) = endpoints.failed(choice.index, choice.sent, reason, now, random) {
        record.version().stats.ejections.add(reason);
        report::ejected(record, choice.index, reason, ejected);
    }
}
