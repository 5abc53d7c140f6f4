//! Intended state against actual: the life of deployments.
//!
//! An author states an [`model::Intent`]; [`service::Control`] holds it against what the agents' versions do
//! and keeps the published routing table in step. The parts, from pure to not:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`model`] | deployments as written, and as they are |
//! | [`rollout`] | pure: (spec, state, judgement, now) → actions |
//! | [`agent`] | pure: one agent's live deployment and its memory of rollbacks |
//! | [`watch`] | the only meeting with the judge: a live deployment's counters and verdicts |
//! | [`service`] | the commands, and the one place that publishes tables |
//! | [`reconcile`] | the loop: bell, timer or command → judge, plan, publish |
//! | `report` | events → log lines |
//! | [`view`] | what metrics and the admin API may see |
//!
//! Left out: durability and an audit trail (nothing survives a restart), and health checks of endpoints.

pub mod agent;
pub mod client;
pub mod errands;
#[cfg(test)]
pub(crate) mod fixture;
pub mod health;
pub mod model;
pub mod prometheus;
pub mod reconcile;
mod report;
pub mod rollout;
pub mod service;
pub mod template;
pub mod view;
pub mod watch;
