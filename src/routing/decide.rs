//! (agent, request head) → Decision.

use super::table::{Agent, Decision, Head, Reason};

/// Picks the version. Pure, no allocation, no lock.
pub fn decide(agent: &Agent, _head: &Head<'_>) -> Decision {
    Decision { version: agent.stable, bucket: None, reason: Reason::Stable }
}
