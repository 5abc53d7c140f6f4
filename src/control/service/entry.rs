//! One agent in the service: its rollout, and the watch over what is on trial.

use super::durable::Runs;
use crate::control::agent::{AgentRollout, Outcome};
use crate::control::change::Change;
use crate::control::command::{Command, CommandError, Order};
use crate::control::errands::Errand;
use crate::control::health::{Gate, Standing};
use crate::control::model::{Actor, AgentKey, Cost, DeploymentId, DeploymentState, Moment};
use crate::control::prometheus::SharedServer;
use crate::control::rollout::{Action, Health, Judgement, Observation};
use crate::control::view::DeploymentView;
use crate::control::watch::Watch;
use crate::routing::table::SharedTable;
use crate::telemetry::stats::StatsRegistry;

/// What following a deployment needs.
pub(in crate::control) struct Means<'a> {
    pub registry: &'a StatsRegistry,
    /// Whom queries ask.
    pub server: &'a SharedServer,
    pub(super) runs: &'a Runs,
    /// Of what is live.
    pub table: &'a SharedTable,
}

pub(super) struct Entry {
    pub rollout: AgentRollout,
    pub watch: Option<Watch>,
    /// The health checks of what is live, where it has any.
    pub gate: Option<Gate>,
    /// The checks of every endpoint that serves.
    pub standing: Standing,
}

impl Entry {
    pub fn is_live(&self) -> bool {
        self.rollout.deployment().is_some_and(|d| d.state.is_live())
    }

    /// Whether something is left of what was live.
    pub fn is_followed(&self) -> bool {
        self.watch.is_some() || self.gate.is_some() || !self.rollout.checks.is_empty()
    }

    fn cost(&self) -> Cost {
        self.watch.as_ref().map(Watch::cost).unwrap_or_default()
    }

    fn health(&self) -> Health {
        self.gate.as_ref().map_or(Health::NotAsked, Gate::health)
    }

    /// Checks and queries that have not begun.
    pub fn errands(&mut self) -> Vec<Errand> {
        let checks = self.gate.iter_mut().flat_map(Gate::errands);
        checks.chain(self.watch.iter_mut().flat_map(Watch::errands)).collect()
    }

    /// What the planner does now, if anything.
    pub fn look(&mut self, now: Moment) -> Option<Change> {
        let judgement = self.watch.as_mut().map_or(Judgement::Silent, |watch| watch.judge(now));
        let seen = Observation { judgement, health: self.health() };
        let actions = self.rollout.plan(&seen, now);
        let command = actions.first().map(Action::name)?;
        let (mut after, cost) = (self.rollout.clone(), self.cost());
        for action in &actions {
            after.act(action, cost, now);
        }
        let before = Some(self.rollout.clone());
        Some(Change { by: Actor::pointsman(), reason: None, command, before, after, actions, cost })
    }

    /// What an operator's command comes to.
    pub fn order(
        &self,
        id: Option<&DeploymentId>,
        command: &Command,
        order: &Order,
        now: Moment,
    ) -> Result<Change, CommandError> {
        let (seen, cost) = (Observation { judgement: Judgement::Silent, health: self.health() }, self.cost());
        let Outcome { after, actions } = self.rollout.order(id, command, order, (&seen, cost), now)?;
        let (by, reason, before) = (order.by.clone(), order.reason.clone(), Some(self.rollout.clone()));
        Ok(Change { by, reason, command: command.name(), before, after, actions, cost })
    }

    /// Makes a change what is.
    pub fn take(&mut self, change: Change, now: Moment) {
        self.rollout = change.after;
        self.rollout.renote();
        for action in &change.actions {
            self.watch.iter_mut().for_each(|watch| watch.follow(action, now));
        }
    }

    /// Watches what is on trial and checks what is live, and nothing else.
    pub fn follow(&mut self, means: &Means<'_>, now: Moment) {
        self.rewatch(means, now);
        self.regate();
        self.standing.follow(&self.rollout.spec, &self.rollout.checks, means.table);
    }

    fn regate(&mut self) {
        let live = self.rollout.deployment().filter(|d| d.state.is_live() && !d.spec.health.is_empty());
        let target = live.map(|d| self.rollout.target_of(d));
        let checked = self.gate.as_ref().map(|gate| gate.target());
        if checked != target.as_ref() {
            self.gate = live.zip(target).and_then(|(d, target)| Gate::new(target, &d.spec.health));
        }
    }

    fn rewatch(&mut self, means: &Means<'_>, now: Moment) {
        let trial = self.rollout.deployment().filter(|d| d.state.on_trial());
        if let (Some(trial), Some(watch)) = (trial, &self.watch)
            && watch.is_of(trial, &self.rollout.spec.stable)
        {
            return;
        }
        // The old watch goes first, for in its going it silences the bell that the new one may want.
        let before = self.watch.take().map(|watch| watch.spent());
        self.watch = trial.map(|trial| {
            let spent = before.filter(|(id, _)| *id == trial.id).map(|(_, allowance)| allowance.next());
            let allowance = spent.unwrap_or_else(|| means.runs.allowance(&trial.id));
            Watch::new(&self.rollout.spec, trial, means, allowance, now)
        });
    }

    pub fn view(&self, key: &AgentKey, now: Moment) -> Option<DeploymentView> {
        self.view_of(&self.rollout, key, now)
    }

    /// The current deployment as `rollout` has it, with the figures that there are.
    pub fn view_of(&self, rollout: &AgentRollout, key: &AgentKey, now: Moment) -> Option<DeploymentView> {
        let deployment = rollout.deployment()?.clone();
        let earlier = rollout.last_rollback().filter(|r| r.id != deployment.id);
        let cost = match &deployment.state {
            DeploymentState::RolledBack(rollback) => rollback.cost,
            DeploymentState::Aborted { cost, .. } => *cost,
            _ => self.cost(),
        };
        let watch = self.watch.as_ref().filter(|watch| watch.is_of(&deployment, &rollout.spec.stable));
        let gate = self.gate.as_ref().filter(|gate| gate.target().deployment.as_ref() == Some(&deployment.id));
        Some(DeploymentView {
            key: key.clone(),
            stable: rollout.spec.stable.clone(),
            stable_by: rollout.state.stable.clone(),
            cost,
            readings: watch.map(|w| w.readings(now)).unwrap_or_default(),
            queries: watch.map(Watch::query_readings).unwrap_or_default(),
            checks: gate.map(Gate::readings).unwrap_or_default(),
            earlier_rollback: earlier.cloned(),
            revision: rollout.state.revision,
            deployment,
        })
    }
}
