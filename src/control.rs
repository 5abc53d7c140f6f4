//! Intended state against actual: the life of deployments.
//!
//! An author states an [`model::Intent`]; [`service::Control`] holds it against what the agents' versions do
//! and keeps the published routing table in step. The parts, from pure to not:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`model`] | deployments as written, and as they are |
//! | [`request`] | a deployment as asked for → its whole spec, or all that is wrong with it |
//! | [`command`] | what an operator may order, and the answers |
//! | [`rollout`] | pure: (spec, state, observation, now) → actions |
//! | [`verbs`] | pure: an operator's verb in each state → action, or a refusal |
//! | [`agent`] | pure: one agent's deployments, its stable version and its rollback points |
//! | [`change`] | pure: an agent before and after, and the words for the difference |
//! | [`watch`] | the only meeting with the judge: a live deployment's counters and verdicts |
//! | [`health`] | checks of a version's endpoints, before its first request and during its ramp |
//! | [`prometheus`] | guards that ask a Prometheus server |
//! | `readings` | the judge's guards and those together |
//! | [`errands`] | the tasks that ask, on the control runtime; [`client`] is their HTTP |
//! | [`migration`] | pure: conversations on their way from one version to another |
//! | [`service`] | the commands, and the one place that publishes tables |
//! | [`drain`] | pure: which versions get no more traffic and are not done yet |
//! | [`keeper`] | the loop beside it: moves conversations, sees what is drained, writes checkpoints |
//! | [`checkpoint`] | where conversations stand, as documents and back |
//! | [`reconcile`] | the loop: bell, timer or command → judge, plan, publish |
//! | [`feed`] | the newest events, for those who follow |
//! | [`store`] | documents with revisions: what outlives the process |
//! | [`persist`] | control's state as documents, and back |
//! | [`audit`] | who changed what, as a chain that shows what was tampered with |
//! | [`writer`] | the one thread that writes the store |
//! | `report` | changes → events and log lines |
//! | [`view`] | what metrics and the admin API may see |

pub mod agent;
pub mod audit;
pub mod change;
pub mod checkpoint;
pub mod client;
pub mod command;
pub mod drain;
pub mod errands;
pub mod feed;
#[cfg(test)]
pub(crate) mod fixture;
pub mod health;
pub mod keeper;
pub mod migration;
pub mod model;
pub mod persist;
pub mod prometheus;
mod readings;
pub mod reconcile;
mod report;
pub mod request;
pub mod rollout;
pub mod service;
pub mod store;
pub mod template;
pub mod verbs;
pub mod view;
pub mod watch;
pub mod writer;
