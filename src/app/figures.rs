//! The rooms' own views → the plain figures that metrics export. Here, for telemetry imports no room.

use crate::control::agent::Tally;
use crate::control::service::Control;
use crate::control::view::DeploymentView;
use crate::routing::table::RoutingTable;
use crate::telemetry::metrics::{DeploymentFigures, GuardFigures, RollbackCount, TableFigures, VersionWeight};
use crate::telemetry::stats::VersionLabels;

pub(super) fn of_table(table: &RoutingTable) -> TableFigures {
    let weights = table.agents.iter().flat_map(|agent| {
        agent.versions.iter().enumerate().map(|(index, version)| VersionWeight {
            labels: version.stats.labels.clone(),
            ratio: agent.split.weight(index).as_fraction(),
        })
    });
    TableFigures { epoch: table.epoch, config_hash: table.config_hash.clone(), weights: weights.collect() }
}

pub(super) fn of_deployments(control: &Control) -> Vec<DeploymentFigures> {
    let counters = control.counters();
    let figures = |view: DeploymentView| {
        let tally = counters.iter().find(|counters| counters.key == view.key).map(|counters| counters.tally);
        of_deployment(view, tally.unwrap_or_default())
    };
    control.deployments().into_iter().map(figures).collect()
}

fn of_deployment(view: DeploymentView, tally: Tally) -> DeploymentFigures {
    let spec = &view.deployment.spec;
    let guards = view.readings.iter().map(|reading| GuardFigures {
        guard: reading.guard.to_string(),
        value: reading.canary.estimate,
        limit: reading.limit,
        evidence_ratio: Some(reading.evidence),
    });
    let count = |cause: &'static str, count| RollbackCount { cause: cause.into(), count };
    DeploymentFigures {
        labels: VersionLabels {
            environment: view.key.environment.shared(),
            agent: view.key.agent.shared(),
            version: spec.version.shared(),
        },
        state: view.deployment.state.as_str().into(),
        weight_ratio: view.deployment.weight().as_fraction(),
        guards: guards.collect(),
        rollbacks: vec![
            count("guard", tally.rollbacks_by_guard),
            count("health", tally.rollbacks_by_health),
            count("operator", tally.rollbacks_by_operator),
        ],
    }
}
