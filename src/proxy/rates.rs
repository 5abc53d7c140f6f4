//! Rate limits in the course of a request: asked before anything is read of its body or sent, told of in its answer,
//! settled at its end.

use std::time::Instant;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};

use super::connection::ClientConn;
use super::error::Fault;
use super::outcome::Record;
use crate::routing::rate::{self, Admitted, Kind, Nanos, Refused, Seat, Spent};
use crate::routing::table::{Agent, Head};
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::stats::Usage;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const SECOND: Nanos = 1_000_000_000;

/// What a request with limits holds to its end.
pub(super) struct Held {
    admitted: Admitted,
    /// When it was let in.
    at: Nanos,
}

/// `None` for an agent without limits.
pub(super) fn admit(
    conn: &ClientConn,
    agent: &Agent,
    head: &Head<'_>,
    now: Instant,
) -> Result<Option<Box<Held>>, Fault> {
    let rates = &conn.worker.shared.rates;
    let Some(seats) = agent.rates(rates) else { return Ok(None) };
    let at = rates.nanos(now);
    match rate::admit(seats, agent, head, at) {
        Ok(admitted) => Ok(Some(Box::new(Held { admitted, at }))),
        Err(refused) => Err(fault(&seats[refused.seat], refused)),
    }
}

fn fault(seat: &Seat, refused: Refused) -> Fault {
    let seconds = refused.wait.div_ceil(SECOND).max(1);
    let (spec, name) = (seat.spec(), &seat.spec().name);
    let most = match refused.kind {
        Kind::Requests => format!("{} requests a minute", spec.requests.map_or(0, |pace| pace.per_minute)),
        Kind::Tokens => format!("{} tokens a minute", spec.tokens.map_or(0, |tokens| tokens.pace.per_minute)),
        Kind::Concurrent => format!("{} requests at a time", spec.concurrent.unwrap_or_default()),
    };
    let message = format!("the rate limit `{name}` lets {most} through; try again in {seconds} s");
    let mut fault = Fault::new(ErrorCode::RateLimited, message);
    fault.fields.push((RETRY_AFTER, HeaderValue::from(seconds)));
    if let Some(policy) = seat.policy(refused.kind) {
        // Nobody knows when a place among those at a time is free again.
        let reset = (refused.kind != Kind::Concurrent).then_some(seconds);
        fault.fields.push((RATE_LIMIT_POLICY, policy.field.clone()));
        fault.fields.extend(standing(&policy.name, 0, reset).map(|value| (RATE_LIMIT, value)));
    }
    fault
}

/// How a limit stands, as `RateLimit` says it.
fn standing(name: &str, units: u64, reset: Option<u64>) -> Option<HeaderValue> {
    let reset = reset.map_or_else(String::new, |seconds| format!(";t={seconds}"));
    HeaderValue::try_from(format!("{name};r={units}{reset}")).ok()
}

/// Tells the client how its limits stand.
pub(super) fn answer(record: &Record, headers: &mut HeaderMap) {
    let Some(held) = &record.held else { return };
    let Some(seats) = record.agent().rates(&record.conn().worker.shared.rates) else { return };
    for (seat, kind, left) in held.admitted.left(held.at) {
        let Some(policy) = seats[seat].policy(kind) else { continue };
        headers.append(RATE_LIMIT_POLICY, policy.field.clone());
        if let Some(value) = standing(&policy.name, left.units, left.full_in.map(|wait| wait.div_ceil(SECOND))) {
            headers.append(RATE_LIMIT, value);
        }
    }
}

/// How an exchange ended, as far as it bears on what it cost.
pub(super) struct End {
    /// An answer of our own took the place of the version's.
    pub failed: bool,
    /// The whole answer went out.
    pub whole: bool,
    /// The version's; 0 before its head.
    pub status: u16,
    pub usage: Usage,
}

impl End {
    fn spent(&self) -> Spent {
        let told = match self.usage {
            Usage { input_tokens: None, output_tokens: None } => None,
            Usage { input_tokens, output_tokens } => {
                Some(input_tokens.unwrap_or_default().saturating_add(output_tokens.unwrap_or_default()))
            }
        };
        match told {
            Some(tokens) if self.whole => Spent::Exactly(tokens),
            Some(tokens) => Spent::AtLeast(tokens),
            None if self.failed || self.status >= 400 => Spent::Exactly(0),
            None => Spent::Unknown,
        }
    }
}

/// The exchange is over.
pub(super) fn settle(held: Held, end: &End, conn: &ClientConn, now: Instant) {
    held.admitted.end(end.spent(), conn.worker.shared.rates.nanos(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(whole: bool, status: u16, tokens: Option<u64>) -> End {
        End { failed: false, whole, status, usage: Usage { input_tokens: tokens, output_tokens: None } }
    }

    #[test]
    fn an_answer_costs_what_it_tells_and_else_what_was_reserved() {
        assert_eq!(end(true, 200, Some(7)).spent(), Spent::Exactly(7));
        assert_eq!(end(false, 200, Some(7)).spent(), Spent::AtLeast(7));
        assert_eq!(end(true, 200, None).spent(), Spent::Unknown);
        assert_eq!(end(false, 0, None).spent(), Spent::Unknown, "the client left, and the agent was at work");
    }

    #[test]
    fn errors_cost_nothing() {
        assert_eq!(end(true, 500, None).spent(), Spent::Exactly(0));
        assert_eq!(End { failed: true, ..end(false, 0, None) }.spent(), Spent::Exactly(0));
    }

    #[test]
    fn what_is_said_of_usage_cannot_overflow() {
        let usage = Usage { input_tokens: Some(u64::MAX), output_tokens: Some(u64::MAX) };
        assert_eq!(End { usage, ..end(true, 200, None) }.spent(), Spent::Exactly(u64::MAX));
    }
}
