//! What commands take, and what they answer.

use schemars::JsonSchema;
use serde::Serialize;

use super::deployment::DeploymentStatus;
use crate::admin::body::Body;
use crate::control::command::{self, RollbackTarget};
use crate::routing::ids::{VersionId, Weight};

/// A body of a fixed shape.
pub trait FromBody: JsonSchema {
    fn read(body: &mut Body) -> Self;
}

/// The whole body may be absent.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// For the audit trail: at most 1,000 bytes.
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
}

impl FromBody for ReasonRequest {
    fn read(body: &mut Body) -> Self {
        Self { reason: body.reason() }
    }
}

/// Where to return to; without either, to where the current deployment came from. The whole body may be absent.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RollbackRequest {
    /// The version that all traffic goes to.
    pub version: Option<String>,
    /// Or the rollback point, by its id.
    pub rollback_point: Option<String>,
    /// For the audit trail: at most 1,000 bytes.
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
}

impl FromBody for RollbackRequest {
    fn read(body: &mut Body) -> Self {
        let request =
            Self { version: body.text("version"), rollback_point: body.text("rollbackPoint"), reason: body.reason() };
        if request.version.is_some() && request.rollback_point.is_some() {
            body.refuse("rollbackPoint", "there is a `version` as well; expected one of the two");
        }
        request
    }
}

impl RollbackRequest {
    pub fn target(self) -> Option<RollbackTarget> {
        let version = self.version.map(|version| RollbackTarget::Version(VersionId::new(version)));
        version.or(self.rollback_point.map(RollbackTarget::Point))
    }
}

/// The share that a running deployment's version gets from now on.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    /// Such as `5%` or `0.001%`.
    #[schemars(with = "String", required, regex(pattern = r"^(100|[0-9]{1,2})(\.[0-9]{1,3})?%$"))]
    pub weight: Option<Weight>,
    /// For the audit trail: at most 1,000 bytes.
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
}

impl FromBody for WeightRequest {
    fn read(body: &mut Body) -> Self {
        Self { weight: body.needed("weight", "a share such as `5%`"), reason: body.reason() }
    }
}

/// Every deployment of the environment that is under way is rolled back, in one step.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmergencyRequest {
    #[schemars(with = "String", required)]
    pub environment: Option<String>,
    /// For the audit trail: at most 1,000 bytes.
    #[schemars(with = "String", required, length(max = 1000))]
    pub reason: Option<String>,
}

impl FromBody for EmergencyRequest {
    fn read(body: &mut Body) -> Self {
        let environment = body.needed("environment", "the name of an environment");
        let reason = body.reason();
        if reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            body.refuse("reason", "expected the reason, for those who find their deployments gone");
        }
        Self { environment, reason }
    }
}

/// What a command came to; or, with `dryRun`, would come to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Nothing was changed.
    pub dry_run: bool,
    pub agent: String,
    pub environment: String,
    /// For people: one line per thing that changed.
    pub changes: Vec<String>,
    /// Of the agent's state.
    pub revision: u64,
    /// Of the routing table.
    pub epoch: u64,
    /// The agent's current one.
    pub deployment: Option<DeploymentStatus>,
}

impl Done {
    pub fn new(done: &command::Done, dry_run: bool) -> Self {
        Self {
            dry_run,
            agent: done.key.agent.to_string(),
            environment: done.key.environment.to_string(),
            changes: done.changes.clone(),
            revision: done.revision,
            epoch: done.epoch,
            deployment: done.view.as_ref().map(DeploymentStatus::from),
        }
    }
}
