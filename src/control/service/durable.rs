//! What the service writes: each change as documents with its record, in the order in which they take effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::Numbered;
use crate::control::agent::{AgentRollout, AgentState};
use crate::control::model::{Actor, AgentKey, DeploymentId, Moment};
use crate::control::persist::{self, Kept};
use crate::control::store::Store;
use crate::control::watch::Allowance;
use crate::control::writer::{Receipt, Write, Writer};
use crate::routing::layout::Layouts;
use crate::telemetry::checkpoints::CheckpointFigures;

/// The service's hand on the store.
pub(super) struct Book {
    pub store: Arc<dyn Store>,
    pub writer: Writer,
    pub runs: Runs,
    /// `None` where nothing is kept beyond the process.
    pub checkpoints: Option<CheckpointFigures>,
}

/// Which run of the process this is for a deployment: a judge that begins anew must not have its whole allowance
/// of false alarms again.
pub(super) struct Runs {
    /// From 1: how often the state was taken up, this time included.
    starts: u64,
    /// Of deployments that are older than this run.
    begun_in: BTreeMap<DeploymentId, u64>,
}

impl Runs {
    pub fn after(kept: &Kept) -> Self {
        Self { starts: kept.starts + 1, begun_in: kept.begun_in.clone() }
    }

    pub fn starts(&self) -> u64 {
        self.starts
    }

    fn begun_in(&self, deployment: Option<&DeploymentId>) -> u64 {
        deployment.and_then(|id| self.begun_in.get(id)).copied().unwrap_or(self.starts)
    }

    /// What the first judge of a deployment in this run may spend.
    pub fn allowance(&self, deployment: &DeploymentId) -> Allowance {
        Allowance::of_run(self.starts.saturating_sub(self.begun_in(Some(deployment))) + 1)
    }

    pub fn document(&self, rollout: &AgentRollout) -> persist::Written {
        persist::agent(rollout, self.begun_in(rollout.deployment().map(|deployment| &deployment.id)))
    }

    /// Changes of agents, with their records.
    pub fn write(&self, changes: &Numbered, now: Moment) -> Write {
        Write {
            documents: changes.iter().map(|change| self.document(&change.after)).collect(),
            records: changes.iter().map(|change| persist::record(change, now)).collect(),
            aside: Vec::new(),
        }
    }
}

/// What a file leaves behind besides the changes that it makes.
pub(super) struct Left<'a> {
    pub by: &'a Actor,
    /// Agents that are not in it.
    pub gone: Vec<(AgentKey, AgentState)>,
    /// The layouts before and after it.
    pub layouts: (Layouts, Layouts),
}

impl Left<'_> {
    pub fn add_to(self, write: &mut Write, now: Moment) {
        for (key, state) in &self.gone {
            write.documents.push(persist::forgotten(key));
            write.records.push(persist::record_forgotten(self.by.clone(), key, state, now));
        }
        write.documents.extend(persist::changed_layouts(&self.layouts.0, &self.layouts.1));
    }
}

impl Book {
    /// Writes what is in effect; nothing to write is written at once.
    pub fn insist(&self, write: Write) -> Option<Receipt> {
        let empty = write.documents.is_empty() && write.records.is_empty();
        (!empty).then(|| self.writer.insist(write))
    }
}
