//! Bearer tokens of people and machines, in `state_dir/tokens.yaml`.
//!
//! A token is 256 random bits behind a prefix that secret scanners can look for. The file holds the SHA-256 of
//! each and nothing that would serve as a token: with that much chance in it there is nothing to guess, so a
//! slow password hash would protect no better and only make each request slow.
//!
//! A file of its own, because the store belongs to the running instance alone: [`file`] is how `pointsman token`
//! changes it, [`live`] how the instance sees that it has changed. The file is the switch as well: where it
//! exists, every API request needs a token, also after the last one was revoked.
//!
//! Bounds: [`MAX_TOKENS`], names of [`MAX_NAME`] characters, a file of [`MAX_FILE_BYTES`].

pub mod file;
pub mod live;

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub const MAX_TOKENS: usize = 1_000;
pub const MAX_NAME: usize = 64;
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What every token begins with.
pub const PREFIX: &str = "pmt_";

/// Names that stand for something else in the audit trail.
const RESERVED: [&str; 4] = ["local", "file", "guard", "pointsman"];

/// What a caller may do; each role may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Move traffic: deploy, pause, roll back; and read who did so.
    Operator,
    /// See who may do what.
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == name);
        known.ok_or_else(|| format!("no role is named {name:?}; there are viewer, operator, admin"))
    }
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub name: TokenName,
    pub role: Role,
    pub sha256: Fingerprint,
    #[serde(with = "rfc3339")]
    pub created_at: SystemTime,
    #[serde(default, with = "maybe_rfc3339", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<SystemTime>,
}

impl Token {
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What the audit trail calls the holder of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TokenName(String);

impl TokenName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let sound = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !sound {
            return Err(format!("expected 1 to {MAX_NAME} letters, digits, `-` or `_`, such as `ci`"));
        }
        if RESERVED.contains(&name) {
            return Err(format!("`{name}` has a meaning of its own in the audit trail; expected another name"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl<'de> Deserialize<'de> for TokenName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A new token's text: shown once, kept nowhere.
pub fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The SHA-256 of a token.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// In constant time, for one side is a secret's.
impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Fingerprint {}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[fingerprint]")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}", self.0.iter().map(|b| format!("{b:02x}")).collect::<String>()))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("expected a SHA-256 as 64 hexadecimal digits"))
    }
}

mod rfc3339 {
    use super::*;

    pub fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

mod maybe_rfc3339 {
    use super::*;

    pub fn serialize<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => rfc3339::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        rfc3339::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests;
