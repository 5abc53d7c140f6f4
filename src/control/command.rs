//! What an operator may order, and what becomes of it.

use std::fmt;

use super::model::{Actor, AgentKey, DeploymentId, Moment};
use super::request::{DeploymentRequest, FieldError};
use super::view::DeploymentView;
use crate::routing::ids::{VersionId, Weight};

/// Who orders, and on which knowledge.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub by: Actor,
    pub reason: Option<String>,
    /// Refused as a conflict where the agent's state has another revision.
    pub expected_revision: Option<u64>,
    /// Say what would change, and change nothing.
    pub dry_run: bool,
}

impl Order {
    pub fn by(by: Actor) -> Self {
        Self { by, reason: None, expected_revision: None, dry_run: false }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A new deployment, in place of one that has ended.
    Create(Box<DeploymentRequest>),
    Pause,
    Resume,
    /// To the next step, whatever the hold says; from the bake to the end; from a wait to the first step.
    Advance,
    SetWeight(Weight),
    Abort,
    /// The same once more, as a new deployment, without waiting for a cooldown.
    Retry,
    /// To the end at once.
    Promote,
    /// `to`: the version that all traffic goes to. `None`: what the current deployment came to replace.
    Rollback {
        to: Option<RollbackTarget>,
    },
}

impl Command {
    /// For audit, events and error messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Advance => "advance",
            Self::SetWeight(_) => "set weight",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Promote => "promote",
            Self::Rollback { .. } => "rollback",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackTarget {
    Version(VersionId),
    /// The id of one of the agent's rollback points.
    Point(String),
}

/// A command that was carried out, or that would be.
#[derive(Clone, Debug)]
pub struct Done {
    pub key: AgentKey,
    /// As it is now, or as it would be; `None` where the agent has no deployment.
    pub view: Option<DeploymentView>,
    /// For people: one line per thing that changed.
    pub changes: Vec<String>,
    /// Of the agent's state.
    pub revision: u64,
    /// Of the table that has it.
    pub epoch: u64,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    #[error("no agent {} in environment {}", .0.agent, .0.environment)]
    UnknownAgent(AgentKey),
    #[error("no agent is in environment {0}")]
    UnknownEnvironment(crate::routing::ids::EnvironmentId),
    #[error("agent {} has no deployment in environment {}", .0.agent, .0.environment)]
    NoDeployment(AgentKey),
    #[error("agent {key} has no deployment {id}; it remembers the newest {remembered}", remembered = super::agent::DEPLOYMENTS_REMEMBERED)]
    UnknownDeployment { key: AgentKey, id: DeploymentId },
    #[error("agent {key} has no rollback point {point:?}; it has {}", listed(.known))]
    UnknownPoint { key: AgentKey, point: String, known: Vec<String> },
    #[error("agent {key} has no migration {id}; it remembers those that run, and the newest {remembered} others", remembered = super::migration::MIGRATIONS_REMEMBERED)]
    UnknownMigration { key: AgentKey, id: String },
    #[error("agent {0} holds no conversation of that id to a version")]
    UnknownConversation(AgentKey),
    #[error("version {0} is the agent's stable version: there is none to return to")]
    IsStable(VersionId),
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldError>),
    #[error("done, but the routing table could not be built and will be tried again: {0}")]
    Unpublished(String),
    #[error("not done, for it could not be written to the store: {0}")]
    Unwritten(String),
    #[error("in effect, but not yet written to the store, which is tried until it is: {0}")]
    InEffect(String),
}

/// Somebody else was first.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("revision {expected} was expected, and it is {current}: {}", told(.changed))]
pub struct Conflict {
    pub expected: u64,
    pub current: u64,
    /// Since the expected revision, oldest first; only the newest are remembered.
    pub changed: Vec<Changed>,
}

/// One change of an agent's state: what a conflict names.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Changed {
    pub revision: u64,
    pub by: Actor,
    pub at: Moment,
    pub what: String,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = humantime::format_rfc3339_seconds(self.at.wall);
        write!(f, "{} ({} at {at}, revision {})", self.what, self.by, self.revision)
    }
}

fn told(changed: &[Changed]) -> String {
    changed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Why a command cannot be done in the state that things are in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("version {version} was already rolled back at {}", humantime::format_rfc3339_seconds(at.wall))]
    AlreadyRolledBack { version: VersionId, at: Moment },
    #[error("cannot {command} a deployment that is {state}; {remedy}")]
    State { command: &'static str, state: &'static str, remedy: &'static str },
    #[error(
        "cannot set the weight of a {strategy} deployment: it moves all traffic at once; promote it, or roll it back"
    )]
    AllAtOnce { strategy: &'static str },
    #[error("deployment {id} of version {version} is {state}; end it first, by promote, abort or rollback")]
    StillLive { id: DeploymentId, version: VersionId, state: &'static str },
    #[error("deployment {id} is not the current one; only retry takes an earlier one")]
    NotCurrent { id: DeploymentId },
    #[error("version {version} is no longer among the agent's versions; name another one with `to`")]
    GoneVersion { version: VersionId },
    #[error("version {version} is stable already, and no deployment is under way")]
    NothingToDo { version: VersionId },
    #[error("the file gives this agent a standing split, which decides where traffic goes; change it there")]
    StandingSplit,
    #[error("the agent holds no conversations to a version: the file has no `conversations` for it")]
    NoConversations,
    #[error(
        "the deployment of version {version} is {state}, so it may not serve; retry it first, or name another version"
    )]
    Barred { version: VersionId, state: &'static str },
    #[error("migration {id} from {from} to {to} is under way; wait for its end, or cancel it first")]
    Migrating { id: String, from: VersionId, to: VersionId },
    #[error("migration {id} is {state}: there is nothing to cancel")]
    MigrationOver { id: String, state: &'static str },
}
