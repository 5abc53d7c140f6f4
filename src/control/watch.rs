//! The only meeting with the judge: a deployment on trial, its counters and its guards.
//!
//! While it lives, the canary's outcomes ring the reconciler's bell, if there are guards; stable's never do.
//! A judge keeps its breach for good, so after a pause a fresh one decides when to go on. What the judges of one
//! deployment may spend on false alarms, over pauses and restarts, is one [`Allowance`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::model::{Breach, Cost, Deployment, DeploymentId, Moment, PauseCause};
use super::rollout::{Action, Judgement};
use crate::judge::{Counts, GuardSpec, GuardTest, Judge, Reading, Verdict};
use crate::routing::ids::VersionId;
use crate::routing::spec::AgentSpec;
use crate::telemetry::stats::{StatsRegistry, Totals, VersionLabels, VersionStats};

/// A judge's part in the chance of a false alarm that a guard's confidence leaves for the whole deployment.
///
/// A judge that begins anew, after a pause or in a new process, has forgotten what the one before it had seen; were
/// it given the whole chance again, a process that restarts each hour would blame a sound version sooner or later.
/// So the n-th gets the n-th term of 3/4, 1/8, 1/24, … 1/(4n(n−1)), whose sum is 1: once by the run of the process
/// and once by the judge within it. A later judge wants a little more evidence, and that is all it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    run: u64,
    judge: u64,
}

impl Allowance {
    /// That of the first judge in this run of the process, from 1.
    pub fn of_run(run: u64) -> Self {
        Self { run, judge: 1 }
    }

    /// That of the judge after this one.
    pub fn next(self) -> Self {
        Self { judge: self.judge + 1, ..self }
    }

    fn share(self) -> f64 {
        let term = |n: u64| if n <= 1 { 0.75 } else { 0.25 / (n as f64 * (n - 1) as f64) };
        term(self.run) * term(self.judge)
    }

    fn of(self, guard: &GuardSpec) -> GuardSpec {
        let mut guard = *guard;
        match &mut guard.test {
            GuardTest::Windowed { .. } => {}
            GuardTest::Above { confidence, .. } | GuardTest::WorseThanStable { confidence, .. } => {
                *confidence = 1.0 - (1.0 - *confidence) * self.share();
            }
        }
        guard
    }

    fn judge(self, guards: &[GuardSpec], canary: &Counts, stable: &Counts, at: Duration) -> Judge {
        let guards: Vec<_> = guards.iter().map(|guard| self.of(guard)).collect();
        Judge::new(&guards, canary, stable, at)
    }
}

pub struct Watch {
    of: (DeploymentId, VersionId),
    canary: Arc<VersionStats>,
    stable: Arc<VersionStats>,
    guards: Vec<GuardSpec>,
    judge: Judge,
    allowance: Allowance,
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
        allowance: Allowance,
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
        let judge = allowance.judge(&guards, &canary_totals.into(), &stable.totals().into(), Duration::ZERO);
        canary.set_guarded(!guards.is_empty());
        let of = (deployment.id(), agent.stable.clone());
        Self { of, canary, stable, guards, judge, allowance, origin: now.instant, before }
    }

    /// Whether it watches this deployment against this stable version.
    pub fn is_of(&self, deployment: &Deployment, stable: &VersionId) -> bool {
        self.of.0 == deployment.id && self.of.1 == *stable
    }

    /// Whose judge it was, and on which allowance.
    pub fn spent(&self) -> (DeploymentId, Allowance) {
        (self.of.0.clone(), self.allowance)
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
                breached.map_or(Judgement::Silent, |reading| {
                    Judgement::Breach(Breach::Guard { reading: storable(reading).into() })
                })
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
                self.allowance = self.allowance.next();
                self.judge = self.allowance.judge(&self.guards, &canary, &stable, at);
            }
            // An operator's pause takes nothing back of what the guards have seen.
            Action::Pause(PauseCause::Operator { .. }) => {}
            Action::Complete | Action::Supersede { .. } | Action::Abort { .. } | Action::Rollback(_) => {}
        }
    }

    /// One per guard, as of the newest look.
    pub fn readings(&self, now: Moment) -> Vec<Reading> {
        let readings = self.judge.readings(now.instant.saturating_duration_since(self.origin));
        // Under the names that their author gave them.
        readings.into_iter().zip(&self.guards).map(|(reading, guard)| Reading { guard: *guard, ..reading }).collect()
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

/// JSON has no infinities: a bound that is none becomes the largest number.
fn storable(mut reading: Reading) -> Reading {
    let finite = |value: f64| if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) };
    for figures in [Some(&mut reading.canary), reading.stable.as_mut()].into_iter().flatten() {
        figures.estimate = figures.estimate.map(finite);
        figures.interval = figures.interval.map(|(low, high)| (finite(low), finite(high)));
    }
    reading.limit = reading.limit.map(finite);
    reading.evidence = finite(reading.evidence);
    reading
}

fn cost_in(totals: &Totals) -> Cost {
    Cost { requests: totals.started, errors: totals.errors() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Limit, Metric};

    #[test]
    fn all_judges_of_a_deployment_spend_one_allowance() {
        let judges =
            |run| (0..1_000).scan(Allowance::of_run(run), |next, _| Some(std::mem::replace(next, next.next())));
        let spent: f64 = (1..1_000).flat_map(judges).map(Allowance::share).sum();
        assert!(spent <= 1.0 && spent > 0.99, "{spent}");
        let fiftieth = Allowance::of_run(50).share();
        assert!(fiftieth > 0.75 / 10_000.0, "a process that is restarted often still judges: {fiftieth}");
    }

    #[test]
    fn an_allowance_is_a_part_of_what_the_confidence_leaves() {
        let test = GuardTest::Above { limit: Limit::Rate(0.05), confidence: 0.999 };
        let guard = GuardSpec { metric: Metric::ErrorRate, test };
        let GuardTest::Above { confidence, .. } = Allowance::of_run(2).of(&guard).test else { panic!("the same test") };
        assert!((1.0 - confidence - 0.001 * 0.125 * 0.75).abs() < 1e-12, "{confidence}");
        let windowed = crate::control::fixture::guard();
        assert_eq!(Allowance::of_run(9).of(&windowed), windowed, "a threshold has no allowance");
    }
}
