//! Who set what, in words for explanations and the table. They change with what they are about, and not oftener: a
//! note is part of the routing table.

use super::AgentRollout;
use crate::control::model::{DeploymentState, Moment, Rollback, RollbackCause};
use crate::routing::spec::Notes;

impl AgentRollout {
    /// Brings the notes in step with the state.
    pub fn renote(&mut self) {
        let stable = &self.state.stable;
        let by = match &stable.deployment {
            Some(id) => format!("deployment {id} of {}", stable.by),
            None => stable.by.to_string(),
        };
        let stable = format!("{} is stable by {by} since {}", stable.version, at(stable.at));
        self.notes = Notes { stable: Some(stable.into()), deployment: self.deployment_note().map(Into::into) };
    }

    fn deployment_note(&self) -> Option<String> {
        let deployment = self.deployment().filter(|d| d.spec.version != self.spec.stable)?;
        let (version, id, by) = (&deployment.spec.version, &deployment.id, &deployment.by);
        match &deployment.state {
            DeploymentState::RolledBack(Rollback { at: when, cause, .. }) => Some(match cause {
                RollbackCause::Guard(breach) => {
                    format!("{version} was rolled back at {}: {}", at(*when), breach.explanation())
                }
                RollbackCause::Operator { by, reason } => {
                    format!("{version} was rolled back at {} by {by}{}", at(*when), said(reason.as_deref()))
                }
            }),
            DeploymentState::Aborted { at: when, by, reason, .. } => {
                Some(format!("{version} was aborted at {} by {by}{}", at(*when), said(reason.as_deref())))
            }
            DeploymentState::Waiting { .. } => Some(format!("deployment {id} of {version} by {by} waits to start")),
            state if state.on_trial() => Some(format!("{version} is on trial in deployment {id} by {by}")),
            _ => None,
        }
    }
}

fn at(moment: Moment) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(moment.wall)
}

fn said(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}
