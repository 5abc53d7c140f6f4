//! What is told of a change, once it is in effect: events for those who follow, and log lines.

use super::change::Change;
use super::feed::{Event, EventKind};
use super::model::{Breach, Moment};

/// The events of a change, without their ids.
pub fn events(change: &Change, epoch: u64, at: Moment) -> Vec<Event> {
    let event = |kind| {
        let after = &change.after;
        // What was done, was done to the deployment that was current before; only `Created` is of the new one.
        let old = change.before.as_ref().and_then(|before| before.deployment());
        let done_to = old.and_then(|old| after.deployments().find(|d| d.id == old.id));
        let deployment = match kind {
            EventKind::Created => after.deployment(),
            EventKind::StableChanged => None,
            _ => done_to,
        };
        Event {
            id: 0,
            at,
            key: change.key(),
            kind,
            deployment: deployment.map(|d| d.id.clone()),
            migration: None,
            version: deployment.map_or_else(|| after.state.stable.version.clone(), |d| d.spec.version.clone()),
            weight: deployment.map_or(crate::routing::ids::Weight::FULL, |d| d.weight()),
            by: change.by.clone(),
            why: change.evidence().map(|breach| breach.explanation().to_owned()).or_else(|| change.reason.clone()),
            revision: after.state.revision,
            epoch,
        }
    };
    change.events().into_iter().map(event).collect()
}

/// One line per event.
pub fn log(change: &Change, events: &[Event]) {
    for event in events {
        match (event.kind, change.evidence()) {
            (EventKind::RolledBack, Some(breach)) => {
                log_breach(change, event, breach, "guard breached: canary rolled back");
            }
            (EventKind::Paused, Some(breach)) => log_breach(change, event, breach, "guard breached: deployment paused"),
            (EventKind::RolledBack, None) => tracing::warn!(
                environment = %event.key.environment, agent = %event.key.agent, version = %event.version,
                by = %event.by, reason = event.why, requests = change.cost.requests, errors = change.cost.errors,
                epoch = event.epoch, "operator rolled the canary back"
            ),
            _ => log_event(event),
        }
    }
}

pub fn log_event(event: &Event) {
    tracing::info!(
        environment = %event.key.environment, agent = %event.key.agent, version = %event.version,
        deployment = event.deployment.as_ref().map(|id| id.as_str()),
        migration = event.migration.as_ref().map(|id| id.as_str()), weight = %event.weight,
        by = %event.by, reason = event.why, epoch = event.epoch, "{}", sentence(event.kind)
    );
}

fn sentence(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created => "deployment begun",
        EventKind::Started => "deployment started after its wait",
        EventKind::Advanced => "deployment advanced",
        EventKind::WeightSet => "deployment's weight set",
        EventKind::Baking => "deployment is at its full weight and bakes",
        EventKind::Completed => "deployment completed",
        EventKind::Paused => "deployment paused",
        EventKind::Resumed => "deployment resumed",
        EventKind::Superseded => "deployment superseded",
        EventKind::Aborted => "deployment aborted",
        EventKind::RolledBack => "deployment rolled back",
        EventKind::StableChanged => "stable version changed",
        EventKind::MigrationStarted => "conversations begin to move to this version",
        EventKind::MigrationCompleted => "the last conversations have moved to this version",
        EventKind::MigrationCancelled => "no more conversations move to this version",
        EventKind::Drained => "no conversation and no response is left at this version; it may be stopped",
    }
}

fn log_breach(change: &Change, event: &Event, breach: &Breach, message: &str) {
    let (reading, query) = (breach.reading(), breach.query());
    let named = reading.map(|r| r.guard.metric.as_str().to_owned()).or_else(|| query.map(|q| q.guard.label()));
    let guard = named.as_deref().unwrap_or("health");
    tracing::warn!(
        environment = %event.key.environment, agent = %event.key.agent, version = %event.version,
        guard,
        figure = reading.map_or_else(|| query.and_then(|q| q.value), |r| r.canary.estimate),
        limit = reading.map_or_else(|| query.map(|q| q.guard.limit.value()), |r| r.limit),
        judged = reading.map(|r| r.canary.requests), bad = reading.map(|r| r.canary.bad),
        explanation = breach.explanation(), at = %humantime::format_rfc3339_millis(event.at.wall),
        weight = %event.weight, requests = change.cost.requests, errors = change.cost.errors,
        epoch = event.epoch, "{message}"
    );
}
