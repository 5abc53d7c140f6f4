//! What is told of an action, once it is in effect.

use super::model::{AgentKey, Breach, Cost, Deployment, Moment, RollbackCause};
use super::rollout::Action;
use crate::routing::ids::{VersionId, Weight};

/// An author's new deployment has been adopted.
pub fn log_begun(key: &AgentKey, deployment: &Deployment, epoch: u64) {
    tracing::info!(
        environment = %key.environment, agent = %key.agent, version = %deployment.spec.version,
        strategy = deployment.spec.strategy.as_str(), state = deployment.state.as_str(),
        weight = %deployment.weight(), epoch, "deployment begun"
    );
}

/// One action that was taken.
pub struct Event {
    key: AgentKey,
    version: VersionId,
    /// After the action.
    weight: Weight,
    action: Action,
    cost: Cost,
    at: Moment,
}

impl Event {
    /// `None` for an action that nobody need hear of.
    pub fn of(key: AgentKey, deployment: &Deployment, action: Action, cost: Cost, at: Moment) -> Option<Self> {
        if matches!(action, Action::ExtendPause) {
            return None;
        }
        let (version, weight) = (deployment.spec.version.clone(), deployment.weight());
        Some(Self { key, version, weight, action, cost, at })
    }

    /// One line. `epoch` is that of the table which has the action in it.
    pub fn log(&self, epoch: u64) {
        let info = |message: &str, step: Option<usize>| {
            tracing::info!(
                environment = %self.key.environment, agent = %self.key.agent, version = %self.version,
                step, weight = %self.weight, epoch, "{message}"
            );
        };
        match &self.action {
            Action::Start => info("deployment started after its cooldown", Some(1)),
            Action::Advance(step) => info("deployment advanced", Some(step + 1)),
            Action::StartBake => info("deployment is at its full weight and bakes", None),
            Action::Complete => info("deployment completed", None),
            Action::Resume => info("deployment resumed: its guards pass again", None),
            Action::ExtendPause => {}
            Action::Pause(breach) => self.log_breach(breach, epoch, "guard breached: deployment paused"),
            Action::Rollback(RollbackCause::Guard(breach)) => {
                self.log_breach(breach, epoch, "guard breached: canary rolled back");
            }
            Action::Rollback(RollbackCause::Operator { by, reason }) => tracing::warn!(
                environment = %self.key.environment, agent = %self.key.agent, version = %self.version,
                by, reason, requests = self.cost.requests, errors = self.cost.errors, epoch,
                "operator rolled the canary back"
            ),
        }
    }

    fn log_breach(&self, Breach { reading }: &Breach, epoch: u64, message: &str) {
        tracing::warn!(
            environment = %self.key.environment, agent = %self.key.agent, version = %self.version,
            guard = reading.guard.metric.as_str(), figure = reading.canary.estimate, limit = reading.limit,
            judged = reading.canary.requests, bad = reading.canary.bad, explanation = reading.explanation,
            at = %humantime::format_rfc3339_millis(self.at.wall), weight = %self.weight,
            requests = self.cost.requests, errors = self.cost.errors, epoch, "{message}"
        );
    }
}
