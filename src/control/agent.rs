//! One agent's rollout: its deployment, and what it remembers of those that were rolled back. Pure.
//!
//! - The same block in a new file is the same deployment: it keeps its stage and its times.
//! - A block that was rolled back stays rolled back whenever it returns, for the newest
//!   [`ROLLBACKS_REMEMBERED`] of this agent; a removed agent is forgotten whole.
//! - A version is barred while the file's own block for it is rolled back or waits. Once an author has changed
//!   or removed that block, the version serves where the file says so: that is a new decision of theirs.

use std::collections::VecDeque;
use std::sync::Arc;

use super::model::{
    AgentIntent, AgentKey, Cost, Deployment, DeploymentSpec, DeploymentState, Moment, RollbackCause, Stage,
};
use super::rollout::{self, Action, Judgement};
use crate::routing::spec::{AgentSpec, CanaryShare, DesiredAgent};

/// How many rolled back deployments an agent remembers; the oldest goes first.
pub const ROLLBACKS_REMEMBERED: usize = 16;

#[derive(Clone, Debug)]
pub struct AgentRollout {
    pub spec: Arc<AgentSpec>,
    pub deployment: Option<Deployment>,
    pub tally: Tally,
    /// In the order of their rollbacks.
    rolled_back: VecDeque<Deployment>,
}

/// What happened to an agent's deployments since it appeared. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub rollbacks_by_guard: u64,
    pub rollbacks_by_operator: u64,
    /// Breaches that rolled back or paused.
    pub breaches: u64,
}

impl AgentRollout {
    /// What an author's intent makes of what there was.
    pub fn adopt(previous: Option<&Self>, intent: &AgentIntent, now: Moment) -> Self {
        let mut next = Self {
            spec: intent.spec.clone(),
            deployment: None,
            tally: previous.map(|p| p.tally).unwrap_or_default(),
            rolled_back: previous.map(|p| p.rolled_back.clone()).unwrap_or_default(),
        };
        let live = previous.and_then(|p| p.deployment.as_ref());
        next.deployment = intent.deployment.as_ref().map(|spec| next.deployment_of(spec, live, now));
        next.complete_if_promoted(now);
        // What time alone moves need not wait for the first look: an unguarded immediate deployment is done here.
        for action in next.plan(&Judgement::Silent, now) {
            next.act(&action, Cost::default(), now);
        }
        next
    }

    fn deployment_of(&self, spec: &DeploymentSpec, live: Option<&Deployment>, now: Moment) -> Deployment {
        let same = |known: &&Deployment| known.spec.fingerprint == spec.fingerprint;
        if let Some(known) = live.filter(same).or_else(|| self.rolled_back.iter().rfind(same)) {
            return known.clone();
        }
        let cooled = self.last_rollback_at().and_then(|at| at.checked_add(spec.cooldown));
        let state = match cooled {
            Some(until) if until.instant > now.instant => DeploymentState::Waiting { until },
            _ => DeploymentState::Running { stage: Stage::Step(0), since: now },
        };
        Deployment { spec: Arc::new(spec.clone()), started: now, state }
    }

    /// A file that names the deployment's version as stable has nothing left to roll out.
    fn complete_if_promoted(&mut self, now: Moment) {
        if let Some(deployment) = &mut self.deployment
            && deployment.spec.version == self.spec.stable
            && matches!(
                deployment.state,
                DeploymentState::Waiting { .. } | DeploymentState::Running { .. } | DeploymentState::Paused { .. }
            )
        {
            deployment.state = DeploymentState::Completed { at: now };
        }
    }

    pub fn key(&self) -> AgentKey {
        AgentKey::of(&self.spec)
    }

    pub fn plan(&self, judgement: &Judgement, now: Moment) -> Vec<Action> {
        let plan = |d: &Deployment| rollout::plan(&d.spec, &d.state, judgement, now);
        self.deployment.as_ref().map(plan).unwrap_or_default()
    }

    /// Takes one action; a rollback is remembered.
    pub fn act(&mut self, action: &Action, cost: Cost, now: Moment) {
        let Some(deployment) = &mut self.deployment else { return };
        deployment.state = rollout::after(&deployment.spec, &deployment.state, action, cost, now);
        match action {
            Action::Pause(_) => self.tally.breaches += 1,
            Action::Rollback(cause) => {
                match cause {
                    RollbackCause::Guard(_) => {
                        self.tally.breaches += 1;
                        self.tally.rollbacks_by_guard += 1;
                    }
                    RollbackCause::Operator { .. } => self.tally.rollbacks_by_operator += 1,
                }
                if self.rolled_back.len() == ROLLBACKS_REMEMBERED {
                    self.rolled_back.pop_front();
                }
                self.rolled_back.push_back(deployment.clone());
            }
            _ => {}
        }
    }

    /// The newest rollback of this agent, of whatever deployment.
    pub fn last_rollback(&self) -> Option<&Deployment> {
        self.rolled_back.back()
    }

    fn last_rollback_at(&self) -> Option<Moment> {
        match &self.last_rollback()?.state {
            DeploymentState::RolledBack(rollback) => Some(rollback.at),
            _ => None,
        }
    }

    /// What the routing table should do with this agent now.
    pub fn desired(&self) -> DesiredAgent {
        let mut desired = DesiredAgent { spec: self.spec.clone(), barred: Vec::new(), canary: None };
        // Stable is never barred and never its own canary, whatever became of a deployment of it.
        let Some(deployment) = self.deployment.as_ref().filter(|d| d.spec.version != self.spec.stable) else {
            return desired;
        };
        let version = deployment.spec.version.clone();
        match deployment.state {
            DeploymentState::Waiting { .. } | DeploymentState::RolledBack(_) => desired.barred.push(version),
            _ => {
                let (weight, audience) = (deployment.weight(), deployment.spec.audience.clone());
                desired.canary = Some(CanaryShare { version, weight, audience });
            }
        }
        desired
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;
    use crate::control::fixture::{a_breach, a_spec, an_agent, step};
    use crate::routing::ids::{VersionId, Weight};

    fn at(start: Instant, seconds: u64) -> Moment {
        let by = Duration::from_secs(seconds);
        Moment { instant: start + by, wall: SystemTime::UNIX_EPOCH + by }
    }

    fn intent(deployment: Option<DeploymentSpec>) -> AgentIntent {
        AgentIntent { spec: Arc::new(an_agent()), deployment, health: [].into() }
    }

    fn named(fingerprint: &str) -> Option<DeploymentSpec> {
        Some(DeploymentSpec { fingerprint: fingerprint.into(), ..a_spec() })
    }

    fn breach(rollout: &mut AgentRollout, now: Moment) {
        rollout.act(&Action::Rollback(RollbackCause::Guard(a_breach())), Cost { requests: 9, errors: 4 }, now);
    }

    fn state(rollout: &AgentRollout) -> &str {
        rollout.deployment.as_ref().map_or("none", |d| d.state.as_str())
    }

    fn canary(rollout: &AgentRollout) -> Option<(String, Weight)> {
        rollout.desired().canary.map(|share| (share.version.to_string(), share.weight))
    }

    #[test]
    fn an_unrelated_reload_keeps_the_stage_and_its_time() {
        let start = Instant::now();
        let mut rollout = AgentRollout::adopt(None, &intent(named("a")), at(start, 0));
        rollout.act(&Action::Advance(1), Cost::default(), at(start, 600));
        let mut changed = an_agent();
        changed.bucketing.salt = "2026-q2".into();
        let reloaded = AgentIntent { spec: Arc::new(changed), deployment: named("a"), health: [].into() };
        let after = AgentRollout::adopt(Some(&rollout), &reloaded, at(start, 900));
        assert_eq!(after.deployment, rollout.deployment);
        assert_eq!(&*after.spec.bucketing.salt, "2026-q2");
    }

    #[test]
    fn a_rollback_is_latched_whenever_its_block_comes_back() {
        let start = Instant::now();
        let mut first = AgentRollout::adopt(None, &intent(named("a")), at(start, 0));
        assert_eq!(canary(&first), Some(("1.5.0".into(), Weight::new(1_000).expect("1 %"))));
        breach(&mut first, at(start, 60));
        assert_eq!((canary(&first), first.desired().barred), (None, vec![VersionId::new("1.5.0")]));

        let removed = AgentRollout::adopt(Some(&first), &intent(None), at(start, 70));
        assert_eq!((state(&removed), removed.desired().barred), ("none", vec![]));
        let back = AgentRollout::adopt(Some(&removed), &intent(named("a")), at(start, 100_000));
        assert_eq!(back.deployment, first.deployment, "with its cause, its cost and its time");
        assert_eq!(back.tally, Tally { rollbacks_by_guard: 1, rollbacks_by_operator: 0, breaches: 1 });
    }

    #[test]
    fn a_changed_block_waits_until_the_cooldown_of_the_last_rollback_is_over() {
        let start = Instant::now();
        let mut rollout = AgentRollout::adopt(None, &intent(named("a")), at(start, 0));
        breach(&mut rollout, at(start, 60));
        let waiting = AgentRollout::adopt(Some(&rollout), &intent(named("b")), at(start, 61));
        assert_eq!((state(&waiting), canary(&waiting)), ("waiting", None));
        assert_eq!(waiting.desired().barred, [VersionId::new("1.5.0")], "no rule may send it traffic either");
        assert!(waiting.plan(&Judgement::Silent, at(start, 659)).is_empty());
        assert_eq!(waiting.plan(&Judgement::Silent, at(start, 660)), [Action::Start]);
        let later = AgentRollout::adopt(Some(&rollout), &intent(named("b")), at(start, 660));
        assert_eq!(state(&later), "running");
    }

    #[test]
    fn a_completed_version_serves_until_its_block_goes() {
        let start = Instant::now();
        let spec =
            DeploymentSpec { steps: vec![step(100_000, None)], guards: vec![], bake: Duration::ZERO, ..a_spec() };
        let done = AgentRollout::adopt(None, &intent(Some(spec.clone())), at(start, 0));
        assert_eq!((state(&done), canary(&done)), ("completed", Some(("1.5.0".into(), Weight::FULL))));
        let reloaded = AgentRollout::adopt(Some(&done), &intent(Some(spec)), at(start, 9));
        assert_eq!(reloaded.deployment, done.deployment);
        let removed = AgentRollout::adopt(Some(&reloaded), &intent(None), at(start, 10));
        assert_eq!((state(&removed), canary(&removed)), ("none", None));
    }

    #[test]
    fn a_file_that_makes_the_version_stable_completes_its_deployment() {
        let start = Instant::now();
        let mut rollout = AgentRollout::adopt(None, &intent(named("a")), at(start, 0));
        let mut promoted = an_agent();
        promoted.stable = VersionId::new("1.5.0");
        let promoted = AgentIntent { spec: Arc::new(promoted), deployment: named("a"), health: [].into() };
        let after = AgentRollout::adopt(Some(&rollout), &promoted, at(start, 5));
        assert_eq!((state(&after), canary(&after)), ("completed", None));

        // What a guard took out does not become completed; but the author's stable is never barred.
        breach(&mut rollout, at(start, 4));
        let after = AgentRollout::adopt(Some(&rollout), &promoted, at(start, 5));
        assert_eq!((state(&after), after.desired().barred), ("rolled_back", vec![]));
    }

    #[test]
    fn only_so_many_rollbacks_are_remembered() {
        let start = Instant::now();
        let mut rollout: Option<AgentRollout> = None;
        for n in 0..=ROLLBACKS_REMEMBERED as u64 {
            // A day apart: no cooldown is left.
            let now = at(start, n * 86_400);
            let mut next = AgentRollout::adopt(rollout.as_ref(), &intent(named(&n.to_string())), now);
            assert_eq!(state(&next), "running");
            breach(&mut next, now);
            rollout = Some(next);
        }
        let rollout = rollout.expect("just made");
        assert_eq!(rollout.rolled_back.len(), ROLLBACKS_REMEMBERED);
        let now = at(start, 100 * 86_400);
        let back = |name| state(&AgentRollout::adopt(Some(&rollout), &intent(named(name)), now)).to_owned();
        assert_eq!((back("0").as_str(), back("1").as_str()), ("running", "rolled_back"));
    }
}
