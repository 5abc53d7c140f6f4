//! A change of one agent's state, before it is in effect: what was, what will be, by whom and why. Pure.
//!
//! The service commits changes and publishes them: a breach the other way round, see [`Change::is_urgent`].

use super::agent::AgentRollout;
use super::feed::EventKind;
use super::model::{Actor, AgentKey, Breach, Cost, PauseCause, RollbackCause};
use super::rollout::Action;

#[derive(Clone, Debug)]
pub struct Change {
    pub by: Actor,
    pub reason: Option<String>,
    /// What was asked for: a command's name, `reload`, or the planner's first action.
    pub command: &'static str,
    /// `None`: the agent is new.
    pub before: Option<AgentRollout>,
    pub after: AgentRollout,
    /// What was done to the deployment that was current before; those who follow it follow these.
    pub actions: Vec<Action>,
    /// What the trial had cost until then.
    pub cost: Cost,
}

impl Change {
    pub fn key(&self) -> AgentKey {
        self.after.key()
    }

    /// Published first and committed second: it takes a bad version's traffic away, or freezes it.
    pub fn is_urgent(&self) -> bool {
        self.actions.iter().any(Action::is_urgent)
    }

    pub fn moves_traffic(&self) -> bool {
        let traffic = |rollout: &AgentRollout| {
            let desired = rollout.desired();
            (desired.spec, desired.barred, desired.left, desired.canary)
        };
        self.before.as_ref().map(traffic) != Some(traffic(&self.after))
    }

    /// What a guard or a health check said, where it was that.
    pub fn evidence(&self) -> Option<&Breach> {
        self.actions.iter().find_map(|action| match action {
            Action::Rollback(RollbackCause::Guard(breach)) => Some(breach),
            Action::Pause(PauseCause::Breach { breach, .. }) => Some(breach),
            _ => None,
        })
    }

    /// One line per thing that changes, for people.
    pub fn differences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let (before, after) = (self.before.as_ref(), &self.after);
        if let Some(before) = before.map(|b| &b.state.stable.version).filter(|b| **b != after.state.stable.version) {
            lines.push(format!("stable: {before} → {}", after.state.stable.version));
        }
        let old = before.and_then(AgentRollout::deployment);
        let current = after.deployment();
        if let Some(old) = old
            && let Some(new) = after.deployments().find(|new| new.id == old.id)
            && new.state != old.state
        {
            let (was, is) = (place(old), place(new));
            lines.push(format!("deployment {} of {}: {was} → {is}", new.id, new.spec.version));
        }
        match current {
            Some(new) if old.is_none_or(|old| old.id != new.id) => {
                let strategy = new.spec.strategy.as_str();
                lines.push(format!("new deployment {} of {} ({strategy}): {}", new.id, new.spec.version, place(new)));
            }
            None if old.is_some() => lines.push("no deployment is current any more".to_owned()),
            _ => {}
        }
        lines
    }

    /// What is told of it, in order.
    pub fn events(&self) -> Vec<EventKind> {
        let mut events: Vec<_> = self.actions.iter().filter_map(EventKind::of).collect();
        let id = |rollout: &AgentRollout| rollout.deployment().map(|d| d.id.clone());
        if id(&self.after).is_some() && self.before.as_ref().and_then(id) != id(&self.after) {
            events.push(EventKind::Created);
        }
        if self.before.as_ref().is_some_and(|b| b.state.stable.version != self.after.state.stable.version) {
            events.push(EventKind::StableChanged);
        }
        events
    }
}

fn place(deployment: &super::model::Deployment) -> String {
    use super::model::Stage;
    let state = deployment.state.as_str();
    let at = match deployment.state.stage() {
        Some(Stage::Step(step)) => format!(", step {} of {}", step + 1, deployment.spec.steps.len()),
        Some(Stage::Set { .. }) => ", set by hand".to_owned(),
        Some(Stage::Bake) | None => String::new(),
    };
    format!("{state}{at}, {}", deployment.weight())
}
