//! The only meeting with the judge: a deployment on trial, its counters and its guards.
//!
//! While it lives, the canary's outcomes ring the reconciler's bell, if there are guards; stable's never do.
//! A judge keeps its breach for good, so after a pause a fresh one decides when to go on. What the judges of one
//! deployment may spend on false alarms, over pauses and restarts, is one [`Allowance`].
//! Guards that ask Prometheus say their word together with the judge's, see [`readings`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::errands::Errand;
use super::model::{AgentKey, Cost, Deployment, DeploymentId, Moment, PauseCause};
use super::prometheus::{Queries, QueryReading};
use super::readings;
use super::rollout::{Action, Judgement};
use super::service::Means;
use crate::judge::{Counts, Feed, GuardSpec, GuardTest, Judge, Reading};
use crate::routing::ids::VersionId;
use crate::routing::spec::AgentSpec;
use crate::telemetry::stats::{Histograms, Totals, VersionLabels, VersionStats};

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
    /// How the judge reads the canary's counters, and stable's.
    feeds: (Feed, Feed),
    judge: Judge,
    allowance: Allowance,
    queries: Queries,
    /// The judge counts time from here.
    origin: Instant,
    /// What the version had counted when its trial began.
    before: Cost,
}

impl Watch {
    pub(super) fn new(
        agent: &AgentSpec,
        deployment: &Deployment,
        means: &Means<'_>,
        allowance: Allowance,
        now: Moment,
    ) -> Self {
        let stats = |version: &VersionId| {
            means.registry.version(VersionLabels {
                environment: agent.environment.shared(),
                agent: agent.id.shared(),
                version: version.shared(),
            })
        };
        let (canary, stable) = (stats(&deployment.spec.version), stats(&agent.stable));
        let (before, guards) = (cost_of(&canary), deployment.spec.guards.clone());
        let mut feeds = (Feed::of_canary(&guards), Feed::of_stable(&guards));
        let judge = allowance.judge(&guards, feeds.0.read(&canary), feeds.1.read(&stable), Duration::ZERO);
        canary.set_guarded(!guards.is_empty());
        let (queries, version) = (&deployment.spec.queries, &deployment.spec.version);
        let queries = Queries::new(queries, &AgentKey::of(agent), version, &agent.stable, means.server, now);
        let of = (deployment.id(), agent.stable.clone());
        Self { of, canary, stable, guards, feeds, judge, allowance, queries, origin: now.instant, before }
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
        self.judge.observe(at, self.feeds.0.read(&self.canary), self.feeds.1.read(&self.stable));
        readings::together(&self.judge, at, &self.queries, |reading| self.as_written(reading))
    }

    /// What an action means for the guards.
    pub fn follow(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Start | Action::Advance(_) | Action::Set(_) | Action::StartBake | Action::Resume => {
                self.judge.step_started();
                self.queries.step_started(now);
            }
            Action::Pause(PauseCause::Breach { .. }) | Action::ExtendPause => {
                let at = now.instant.saturating_duration_since(self.origin);
                let (canary, stable) = (self.feeds.0.read(&self.canary), self.feeds.1.read(&self.stable));
                self.allowance = self.allowance.next();
                self.judge = self.allowance.judge(&self.guards, canary, stable, at);
                self.queries.start_anew(now);
            }
            // An operator's pause takes nothing back of what the guards have seen.
            Action::Pause(PauseCause::Operator { .. }) => {}
            Action::Complete | Action::Supersede { .. } | Action::Abort { .. } | Action::Rollback(_) => {}
        }
    }

    /// One per guard, as of the newest look.
    pub fn readings(&self, now: Moment) -> Vec<Reading> {
        let readings = self.judge.readings(now.instant.saturating_duration_since(self.origin));
        readings.into_iter().map(|reading| self.as_written(reading)).collect()
    }

    /// Under the name that its author gave the guard, which is judged at its part of the allowance.
    fn as_written(&self, mut reading: Reading) -> Reading {
        if let Some(guard) = self.guards.iter().find(|guard| self.allowance.of(guard) == reading.guard) {
            let (judged, written) = (reading.guard.to_string(), guard.to_string());
            (reading.explanation, reading.guard) = (reading.explanation.replacen(&judged, &written, 1), *guard);
        }
        reading
    }

    /// One per guard that asks Prometheus, as of the newest answer.
    pub fn query_readings(&self) -> Vec<QueryReading> {
        self.queries.readings()
    }

    /// What the trial has cost until now.
    pub fn cost(&self) -> Cost {
        cost_of(&self.canary).since(&self.before)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.canary.set_guarded(false);
    }
}

fn cost_of(version: &VersionStats) -> Cost {
    let mut totals = Totals::default();
    version.read(&mut totals, Histograms::default());
    let streams = &totals.streams;
    Cost {
        requests: totals.started,
        errors: totals.errors(),
        streams: streams.judged(),
        stream_errors: streams.errors(),
        input_tokens: streams.input_tokens,
        output_tokens: streams.output_tokens,
        nanos: streams.cost_nanos,
    }
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
        let test = GuardTest::Above { limit: Limit::Rate(0.05), cap: None, confidence: 0.999 };
        let guard = GuardSpec { metric: Metric::ErrorRate, test };
        let GuardTest::Above { confidence, .. } = Allowance::of_run(2).of(&guard).test else { panic!("the same test") };
        assert!((1.0 - confidence - 0.001 * 0.125 * 0.75).abs() < 1e-12, "{confidence}");
        let windowed = crate::control::fixture::guard();
        assert_eq!(Allowance::of_run(9).of(&windowed), windowed, "a threshold has no allowance");
    }
}
