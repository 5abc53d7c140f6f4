//! The rooms' own views → the plain figures that metrics export. Here, for telemetry imports no room.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::control::agent::Tally;
use crate::control::model::AgentKey;
use crate::control::service::Control;
use crate::control::view::DeploymentView;
use crate::routing::endpoint::{EndpointState, Endpoints, Tick};
use crate::routing::ids::VersionId;
use crate::routing::pin::Pins;
use crate::routing::rate::{Kind, LimitStats, Rates};
use crate::routing::table::{RoutingTable, Version};
use crate::telemetry::endpoints::EjectionReason;
use crate::telemetry::metrics::{
    BreakerFigures, CheckFigures, ConversationFigures, DeploymentFigures, EndpointFigures, GuardFigures, PinFigures,
    RateFigures, RateTableFigures, RollbackCount, TableFigures, VersionWeight,
};
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

/// Of versions that have a breaker.
pub(super) fn of_breakers(table: &RoutingTable) -> Vec<BreakerFigures> {
    let guarded = table.agents.iter().filter(|agent| agent.spec.exchange.resilience.breaker.is_some());
    let figures = |version: &Version| BreakerFigures {
        labels: version.stats.labels.clone(),
        phase: version.stats.protection.breaker().phase,
        opened: version.stats.protection.opened.load(Ordering::Relaxed),
    };
    guarded.flat_map(|agent| agent.versions.iter().map(figures)).collect()
}

/// Of the versions that new requests may get, and of others of which an endpoint is out or was.
pub(super) fn of_endpoints(table: &RoutingTable, now: Instant) -> Vec<EndpointFigures> {
    let now = Tick::at(now);
    let mut all = Vec::new();
    for agent in &table.agents {
        for (index, version) in agent.versions.iter().enumerate() {
            let Endpoints { all: endpoints, rule } = agent.endpoints(index);
            let in_state = |state: EndpointState| {
                endpoints.iter().filter(|endpoint| endpoint.health.view(rule, now).state == state).count() as u64
            };
            let states = EndpointState::ALL.map(|state| (state.as_str(), in_state(state)));
            let states: Vec<_> = states.into_iter().filter(|(_, count)| *count > 0).collect();
            let reasons = EjectionReason::ALL.map(|reason| (reason.as_str(), version.stats.ejections.count(reason)));
            let ejections: Vec<_> = reasons.into_iter().filter(|(_, count)| *count > 0).collect();
            let is_quiet = ejections.is_empty() && states.iter().all(|(state, _)| *state == "in_service");
            if agent.may_choose(index) || !is_quiet {
                all.push(EndpointFigures { labels: version.stats.labels.clone(), states, ejections });
            }
        }
    }
    all
}

pub(super) fn of_pins(pins: &Pins) -> PinFigures {
    let stats = pins.stats();
    PinFigures {
        pins: stats.pins,
        max: stats.max,
        bytes: stats.bytes,
        events: vec![
            ("made", stats.made),
            ("found", stats.found),
            ("expired", stats.expired),
            ("evicted", stats.evicted),
            ("dropped", stats.dropped),
            ("turned", stats.turned),
            ("moved", stats.moved),
            ("refused", stats.refused),
        ],
    }
}

pub(super) fn of_rates(rates: &Rates) -> Vec<RateFigures> {
    let figures = |limit: LimitStats| RateFigures {
        environment: limit.id.environment.shared(),
        agent: limit.id.agent.map(|agent| agent.shared()),
        limit: limit.id.name,
        refused: Kind::ALL.map(|kind| (kind.as_str(), limit.refused[kind as usize])),
        table: limit.id.keyed.then_some(RateTableFigures {
            keys: limit.keys.keys,
            forgotten: limit.keys.forgotten,
            overflowed: limit.keys.overflowed,
        }),
    };
    rates.stats().into_iter().map(figures).collect()
}

pub(super) fn of_deployments(control: &Control) -> Vec<DeploymentFigures> {
    let counters = control.counters();
    let figures = |view: DeploymentView| {
        let tally = counters.iter().find(|counters| counters.key == view.key).map(|counters| counters.tally);
        of_deployment(view, tally.unwrap_or_default())
    };
    control.deployments().into_iter().map(figures).collect()
}

pub(super) fn of_conversations(control: &Control) -> Vec<ConversationFigures> {
    let mut versions: BTreeMap<VersionLabels, ConversationFigures> = BTreeMap::new();
    let mut add = |key: &AgentKey, version: &VersionId, set: &dyn Fn(&mut ConversationFigures)| {
        let labels = VersionLabels {
            environment: key.environment.shared(),
            agent: key.agent.shared(),
            version: version.shared(),
        };
        let none = ConversationFigures { labels: labels.clone(), held: None, draining: None, to_migrate: None };
        set(versions.entry(labels).or_insert(none));
    };
    let table = control.table().load_full();
    for agent in table.agents.iter().filter(|agent| agent.spec.conversations.is_some()) {
        let key = AgentKey::of(&agent.spec);
        for counts in control.conversations(&key) {
            let held = Some((counts.conversations, counts.in_flight));
            add(&key, &counts.version, &|figures| figures.held = held);
        }
        for running in control.migrations(&key).iter().filter(|migration| migration.is_running()) {
            add(&key, &running.from, &|figures| figures.to_migrate = Some(running.progress.remaining));
        }
    }
    for (key, draining) in control.all_draining() {
        let left = Some((draining.load.conversations, draining.load.in_flight));
        add(&key, &draining.version, &|figures| figures.draining = left);
    }
    versions.into_values().collect()
}

fn of_deployment(view: DeploymentView, tally: Tally) -> DeploymentFigures {
    let spec = &view.deployment.spec;
    let own = view.readings.iter().map(|reading| GuardFigures {
        guard: reading.guard.to_string(),
        value: reading.canary.estimate,
        limit: reading.limit,
        evidence_ratio: Some(reading.evidence),
        query_success: None,
    });
    let asked = view.queries.iter().map(|reading| GuardFigures {
        guard: reading.guard.to_string(),
        value: reading.value,
        limit: Some(reading.guard.limit.value()),
        evidence_ratio: Some(reading.evidence),
        query_success: Some(reading.value.is_some()),
    });
    let checks = view.checks.iter().map(|reading| CheckFigures {
        check: reading.check.clone(),
        endpoint: reading.endpoint.clone(),
        healthy: reading.healthy,
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
        guards: own.chain(asked).collect(),
        checks: checks.collect(),
        rollbacks: vec![
            count("guard", tally.rollbacks_by_guard),
            count("health", tally.rollbacks_by_health),
            count("operator", tally.rollbacks_by_operator),
        ],
    }
}
