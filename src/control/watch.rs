//! The only meeting with the judge: a deployment on trial, its counters and its guards.
//!
//! While it lives, the canary's outcomes ring the reconciler's bell, if there are guards; stable's never do.
//! A judge keeps its breach for good, so after a pause a fresh one decides when to go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::model::{Breach, Cost, Deployment, DeploymentId, Moment, PauseCause};
use super::rollout::{Action, Judgement};
use crate::judge::{Counts, GuardSpec, Judge, Reading, Verdict};
use crate::routing::ids::VersionId;
use crate::routing::spec::AgentSpec;
use crate::telemetry::stats::{StatsRegistry, Totals, VersionLabels, VersionStats};

pub struct Watch {
    of: (DeploymentId, VersionId),
    canary: Arc<VersionStats>,
    stable: Arc<VersionStats>,
    guards: Vec<GuardSpec>,
    judge: Judge,
    /// The judge counts time from here.
    origin: Instant,
    /// What the version had counted when its trial began.
    before: Cost,
}

impl Watch {
    pub fn new(agent: &AgentSpec, deployment: &Deployment, registry: &StatsRegistry, now: Moment) -> Self {
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
        let of = (deployment.id(), agent.stable.clone());
        Self { of, canary, stable, guards, judge, origin: now.instant, before }
    }

    /// Whether it watches this deployment against this stable version.
    pub fn is_of(&self, deployment: &Deployment, stable: &VersionId) -> bool {
        self.of.0 == deployment.id && self.of.1 == *stable
    }

    pub fn is_guarded(&self) -> bool {
        !self.guards.is_empty()
    }

    /// Looks at the counters as they are now.
    pub fn judge(&mut self, now: Moment) -> Judgement {
        if !self.is_guarded() {
            return Judgement::Silent;
        }
        let at = now.instant.saturating_duration_since(self.origin);
        self.judge.observe(at, &self.canary.totals().into(), &self.stable.totals().into());
        match self.judge.verdict(at) {
            Verdict::Hold => Judgement::Silent,
            Verdict::Pass => Judgement::Pass,
            Verdict::Breach => {
                let breached = self.readings(now).into_iter().find(|reading| reading.verdict == Verdict::Breach);
                breached
                    .map_or(Judgement::Silent, |reading| Judgement::Breach(Breach::Guard { reading: reading.into() }))
            }
        }
    }

    /// What an action means for the guards.
    pub fn follow(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Start | Action::Advance(_) | Action::Set(_) | Action::StartBake | Action::Resume => {
                self.judge.step_started();
            }
            Action::Pause(PauseCause::Breach { .. }) | Action::ExtendPause => {
                let (canary, stable) = (Counts::from(self.canary.totals()), Counts::from(self.stable.totals()));
                let at = now.instant.saturating_duration_since(self.origin);
                self.judge = Judge::new(&self.guards, &canary, &stable, at);
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
