//! The only meeting with the judge: a deployment on trial, its counters and its guards.
//!
//! While it lives, the canary's outcomes ring the reconciler's bell, if there are guards; stable's never do.
//! Guards that ask Prometheus say their word together with the judge's, see [`readings`].
//! A judge keeps its breach for good, so after a pause a fresh one decides when to go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::errands::Errand;
use super::model::{AgentKey, Cost, Deployment, DeploymentId, Moment, PauseCause};
use super::prometheus::{Queries, QueryReading, SharedServer};
use super::readings;
use super::rollout::{Action, Judgement};
use crate::judge::{Counts, GuardSpec, Judge, Reading};
use crate::routing::ids::VersionId;
use crate::routing::spec::AgentSpec;
use crate::telemetry::stats::{StatsRegistry, Totals, VersionLabels, VersionStats};

pub struct Watch {
    of: (DeploymentId, VersionId),
    canary: Arc<VersionStats>,
    stable: Arc<VersionStats>,
    guards: Vec<GuardSpec>,
    judge: Judge,
    queries: Queries,
    /// The judge counts time from here.
    origin: Instant,
    /// What the version had counted when its trial began.
    before: Cost,
}

impl Watch {
    pub fn new(
        agent: &AgentSpec,
        deployment: &Deployment,
        registry: &StatsRegistry,
        server: &SharedServer,
        now: Moment,
    ) -> Self {
        let stats = |version: &VersionId| {
            registry.version(VersionLabels {
                environment: agent.environment.shared(),
                agent: agent.id.shared(),
                version: version.shared(),
            })
        };
        let (canary, stable) = (stats(&deployment.spec.version), stats(&agent.stable));
        let (canary_totals, guards) = (canary.totals(), deployment.spec.guards.clone());
        let before = cost_in(&canary_totals);
        let judge = Judge::new(&guards, &canary_totals.into(), &stable.totals().into(), Duration::ZERO);
        canary.set_guarded(!guards.is_empty());
        let (queries, version) = (&deployment.spec.queries, &deployment.spec.version);
        let queries = Queries::new(queries, &AgentKey::of(agent), version, &agent.stable, server, now);
        let of = (deployment.id(), agent.stable.clone());
        Self { of, canary, stable, guards, judge, queries, origin: now.instant, before }
    }

    /// Whether it watches this deployment against this stable version.
    pub fn is_of(&self, deployment: &Deployment, stable: &VersionId) -> bool {
        self.of.0 == deployment.id && self.of.1 == *stable
    }

    pub fn is_guarded(&self) -> bool {
        !self.guards.is_empty() || !self.queries.is_empty()
    }

    /// Queries that have not begun.
    pub fn errands(&mut self) -> impl Iterator<Item = Errand> {
        self.queries.errands()
    }

    /// Looks at the counters as they are now.
    pub fn judge(&mut self, now: Moment) -> Judgement {
        if !self.is_guarded() {
            return Judgement::Silent;
        }
        let at = now.instant.saturating_duration_since(self.origin);
        self.judge.observe(at, &self.canary.totals().into(), &self.stable.totals().into());
        readings::together(&self.judge, at, &self.queries)
    }

    /// What an action means for the guards.
    pub fn follow(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Start | Action::Advance(_) | Action::Set(_) | Action::StartBake | Action::Resume => {
                self.judge.step_started();
                self.queries.step_started(now);
            }
            Action::Pause(PauseCause::Breach { .. }) | Action::ExtendPause => {
                let (canary, stable) = (Counts::from(self.canary.totals()), Counts::from(self.stable.totals()));
                let at = now.instant.saturating_duration_since(self.origin);
                self.judge = Judge::new(&self.guards, &canary, &stable, at);
                self.queries.start_anew(now);
            }
            // An operator's pause takes nothing back of what the guards have seen.
            Action::Pause(PauseCause::Operator { .. }) => {}
            Action::Complete | Action::Supersede { .. } | Action::Abort { .. } | Action::Rollback(_) => {}
        }
    }

    /// One per guard, as of the newest look.
    pub fn readings(&self, now: Moment) -> Vec<Reading> {
        self.judge.readings(now.instant.saturating_duration_since(self.origin))
    }

    /// One per guard that asks Prometheus, as of the newest answer.
    pub fn query_readings(&self) -> Vec<QueryReading> {
        self.queries.readings()
    }

    /// What the trial has cost until now.
    pub fn cost(&self) -> Cost {
        let now = cost_in(&self.canary.totals());
        Cost {
            requests: now.requests.saturating_sub(self.before.requests),
            errors: now.errors.saturating_sub(self.before.errors),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.canary.set_guarded(false);
    }
}

fn cost_in(totals: &Totals) -> Cost {
    Cost { requests: totals.started, errors: totals.errors() }
}
