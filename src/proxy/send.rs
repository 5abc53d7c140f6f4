//! A decided request to an endpoint: admitted by the version's circuit breaker, then attempts until there is the head
//! of an answer or no attempt is left. [`attempt`] is one of them, [`failure`] how it fails, [`retry`] what may
//! follow it.

mod attempt;
mod failure;
mod retry;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::request;

use super::body::RequestBody;
use super::circuit;
use super::connection::ClientConn;
use super::error::Fault;
use super::outcome::Record;
use super::pool::Lease;
use super::read::Host;
use super::upstream::Head;
use crate::routing::table::Agent;
use crate::telemetry::counters::ErrorCode;
use attempt::Request;
use failure::Failure;
use retry::Retry;

/// The head of an answer, and what the rest of the exchange needs.
pub(super) struct Answer {
    pub head: Head,
    pub lease: Lease,
    /// What the endpoint has not yet taken of the request.
    pub request: RequestBody,
}

/// Sends the request to an endpoint of the decided version; another attempt never changes the version.
pub(super) async fn send(
    record: &mut Record,
    agent: &Arc<Agent>,
    parts: &request::Parts,
    host: &Host,
    mut body: RequestBody,
) -> Result<Answer, Fault> {
    record.place = circuit::enter(agent, record.version())?;
    let conn = record.conn().clone();
    let request = Request::new(&conn, agent, parts, host, &body);
    let mut retry = Retry::new(&conn, agent, request.repeatable);
    loop {
        let endpoints = agent.endpoints(record.decision.version);
        let Some(choice) = retry.choose(endpoints) else { return Err(no_endpoint(record)) };
        retry.begin();
        let failure = match attempt::make(&request, record, choice, &mut retry, &mut body).await {
            Ok((head, lease)) if !retry.is_failure(&head, record) => {
                body.forget_sent();
                return Ok(Answer { head, lease, request: body });
            }
            Ok((head, lease)) => Failure::Answered(head, lease),
            Err(failure) => failure,
        };
        let Some(wait) = retry.after(&failure, choice, record, &body) else {
            return failure.pass_on(&conn, body);
        };
        failure.discard(&conn, &mut body).await;
        body.rewind();
        pause(&conn, agent, record, &retry, wait).await?;
    }
}

/// Waits before the next attempt.
async fn pause(
    conn: &ClientConn,
    agent: &Arc<Agent>,
    record: &Record,
    retry: &Retry<'_>,
    wait: Duration,
) -> Result<(), Fault> {
    if wait.is_zero() {
        return Ok(());
    }
    retry.wait_for_all();
    let waited = wait_for(conn, agent, record, tokio::time::sleep(wait)).await?;
    waited.ok_or_else(|| failure::late(conn))
}

/// A connection, or the moment of the next attempt: what a request of the version waits for is bounded by its circuit
/// breaker. `None`: the time of the attempt, or of the exchange, was over first.
async fn wait_for<T>(
    conn: &ClientConn,
    agent: &Arc<Agent>,
    record: &Record,
    future: impl Future<Output = T>,
) -> Result<Option<T>, Fault> {
    let (mut future, mut waiting) = (pin!(future), None);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Ok(Some(value))),
        Poll::Pending if conn.take_expired() => Poll::Ready(Ok(None)),
        Poll::Pending if waiting.is_some() => Poll::Pending,
        Poll::Pending => match circuit::wait(agent, record.decision.version) {
            Ok(place) => {
                waiting = Some(place);
                Poll::Pending
            }
            Err(fault) => Poll::Ready(Err(fault)),
        },
    })
    .await
}

fn no_endpoint(record: &Record) -> Fault {
    let text = format!("version {} of {} has no endpoint", record.version().id, record.agent().id());
    Fault::new(ErrorCode::NoEndpoint, text)
}
