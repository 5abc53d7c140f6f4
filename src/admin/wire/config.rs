//! How the configuration's last reload went.

use schemars::JsonSchema;
use serde::Serialize;

use super::wall_time;
use crate::telemetry::reload::Reloads;

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Of the live file.
    pub config_hash: String,
    pub reloads_succeeded: u64,
    pub reloads_failed: u64,
    pub last_success_at: Option<String>,
    /// Of the newest reload, if it failed: the live configuration is then an older one.
    pub error: Option<ReloadError>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadError {
    pub at: String,
    pub text: String,
}

impl From<Reloads> for ConfigStatus {
    fn from(reloads: Reloads) -> Self {
        Self {
            config_hash: reloads.hash,
            reloads_succeeded: reloads.succeeded,
            reloads_failed: reloads.failed,
            last_success_at: reloads.last_success.map(wall_time),
            error: reloads.error.map(|(at, text)| ReloadError { at: wall_time(at), text }),
        }
    }
}
