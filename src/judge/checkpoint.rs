//! What a judge remembers, as a document: so that a restart does not begin the evidence anew.
//!
//! With a fresh judge after each restart every process life would have a false-alarm allowance of its own, and
//! trouble half proven would be forgotten. A resumed judge goes on with both.
//!
//! - A guard that stands in the new list exactly as it stood goes on; a changed or new one begins afresh, with a
//!   fresh allowance, as in a new judge. Guards that are gone are forgotten.
//! - The counters may have begun anew in between (a new process counts from zero) or not: the counts given to
//!   `Judge::resume` are the new baselines, and only what comes after them is taken in.
//! - What ended after the checkpoint and before the resumption is missing data: neither good nor bad.
//! - A breach stays one.
//! - Windows are not kept: a windowed guard that is not broken sees its window fill anew, and holds until then.
//!
//! Some 1.5 KiB of JSON a guard, whatever the traffic. A document that does not parse (of another release) is
//! no checkpoint: begin afresh.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::{GuardSpec, Tally, against};

/// The memory of a [`Judge`](super::Judge), to be kept as the caller likes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub(super) guards: Vec<GuardMemory>,
}

impl Checkpoint {
    pub(super) fn of(&self, guard: &GuardSpec) -> Option<&GuardMemory> {
        let name = name(guard);
        self.guards.iter().find(|memory| memory.guard == name)
    }
}

/// What one guard remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GuardMemory {
    /// As its author wrote it, to know it again.
    pub(super) guard: serde_json::Value,
    pub(super) canary: Tally,
    pub(super) stable: Tally,
    pub(super) step_began_at: u64,
    pub(super) breached: bool,
    pub(super) test: TestMemory,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum TestMemory {
    Window,
    Above(Evidence),
    Against(Box<against::Memory>),
}

/// A guard's whole text: what differs in anything is another guard.
pub(super) fn name(guard: &GuardSpec) -> serde_json::Value {
    serde_json::to_value(guard).expect("a guard is plain data with string keys")
}
