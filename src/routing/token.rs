//! A token that holds its bearer's conversation to a version, with no state but the key on our side: any instance
//! with the key honours it, also after a restart.
//!
//! It names the version, the agent (as a fingerprint: a token of one agent is foreign to all others, and to the
//! same agent in another environment), the epoch of the table that decided, and when it ends.

use super::pin::{Seat, Second};
use super::seal::{KeyRing, Purpose, SealFault};
use super::table::Agent;

/// What a good token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Index into `Agent::versions`.
    pub version: usize,
    /// Of the table by which the version was chosen, in the process that chose it. For explanations.
    pub epoch: u64,
    pub expires: Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error(transparent)]
    Seal(#[from] SealFault),
    #[error("it has expired")]
    Expired,
    #[error("it is for another agent or environment")]
    Foreign,
    #[error("its version is gone, or was rolled back")]
    Gone,
}

/// Makes the token that holds to `version` for the agent's time to live.
pub fn sign(keys: &KeyRing, agent: &Agent, seat: &Seat, version: usize, epoch: u64, now: Second) -> Option<String> {
    let version = &agent.versions.get(version)?.id;
    let mut payload = Vec::with_capacity(64);
    payload.extend_from_slice(&seat.fingerprint());
    payload.extend_from_slice(&epoch.to_be_bytes());
    payload.extend_from_slice(&now.saturating_add(seat.ttl()).to_be_bytes());
    payload.extend_from_slice(version.as_str().as_bytes());
    Some(keys.seal(Purpose::Pin, &payload))
}

/// Reads a token that a request brings.
///
/// # Errors
/// Where it must be ignored, and why.
pub fn read(keys: &KeyRing, agent: &Agent, seat: &Seat, token: &[u8], now: Second) -> Result<Token, TokenFault> {
    let opened = keys.open(Purpose::Pin, token)?;
    let fields = || {
        let (fingerprint, rest) = opened.payload().split_first_chunk::<8>()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (expires, version) = rest.split_first_chunk()?;
        Some((*fingerprint, u64::from_be_bytes(*epoch), Second::from_be_bytes(*expires), version))
    };
    let (fingerprint, epoch, expires, version) = fields().ok_or(SealFault::Malformed)?;
    if fingerprint != seat.fingerprint() {
        return Err(TokenFault::Foreign);
    }
    if expires <= now {
        return Err(TokenFault::Expired);
    }
    let version = agent.versions.iter().position(|known| known.id.as_str().as_bytes() == version);
    let version = version.filter(|version| seat.is_open(*version)).ok_or(TokenFault::Gone)?;
    Ok(Token { version, epoch, expires })
}

#[cfg(test)]
mod tests;
