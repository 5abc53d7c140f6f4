//! A bearer token, but for what would serve as one.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;

use super::wall_time;
use crate::admin::tokens::{Role, Token};

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Token")]
pub struct TokenView {
    pub name: String,
    pub role: Role,
    pub created_at: String,
    /// `null`: not before it is revoked.
    pub expires_at: Option<String>,
    pub expired: bool,
}

impl TokenView {
    pub fn new(token: &Token, now: SystemTime) -> Self {
        Self {
            name: token.name.as_str().to_owned(),
            role: token.role,
            created_at: wall_time(token.created_at),
            expires_at: token.expires_at.map(wall_time),
            expired: token.is_expired(now),
        }
    }
}
