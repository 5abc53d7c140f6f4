//! A signed word that sends a request to a version, whatever the table says: for operators and their tests.
//!
//! It works for any version that the agent has: at 0 %, in no split, also for one that was rolled back, for that
//! is the one that an operator wants to look at. It is for one environment, for one agent or (`*`) all of
//! that environment, for one version, until it expires. It makes no pin and moves none.

use super::pin::Second;
use super::seal::{KeyRing, Purpose, SealFault};
use super::table::Agent;

/// Names the version that is asked for.
pub const VERSION_HEADER: http::HeaderName = http::HeaderName::from_static("x-pointsman-version");
/// Proves that it may be asked for.
pub const SIGNATURE_HEADER: http::HeaderName = http::HeaderName::from_static("x-pointsman-signature");
/// The same proof for a browser's session; the version is the one that was signed.
pub const COOKIE: &str = "pointsman-override";
/// The scope of all agents of an environment.
pub const ANY_AGENT: &str = "*";

#[derive(Clone, Debug)]
pub struct Overrides {
    pub keys: KeyRing,
    /// Whether the agent is told the version that was asked for. The signature never reaches it.
    pub forward: bool,
}

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    pub environment: &'a str,
    /// Or [`ANY_AGENT`].
    pub agent: &'a str,
    pub version: &'a str,
    pub expires: Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideFault {
    #[error("there is no x-pointsman-signature")]
    Unsigned,
    #[error(transparent)]
    Seal(#[from] SealFault),
    #[error("it has expired")]
    Expired,
    #[error("it is for another agent or environment")]
    Foreign,
    #[error("it was signed for another version")]
    OtherVersion,
    #[error("the agent has no such version")]
    UnknownVersion,
}

impl Grant<'_> {
    /// `None` where a name is longer than any that configuration takes.
    pub fn sign(&self, keys: &KeyRing) -> Option<String> {
        let mut payload = self.expires.to_be_bytes().to_vec();
        for name in [self.environment, self.agent] {
            payload.push(u8::try_from(name.len()).ok()?);
            payload.extend_from_slice(name.as_bytes());
        }
        payload.extend_from_slice(self.version.as_bytes());
        Some(keys.seal(Purpose::Override, &payload))
    }

    fn read(payload: &[u8]) -> Option<Grant<'_>> {
        let (expires, rest) = payload.split_first_chunk()?;
        let (environment, rest) = split_name(rest)?;
        let (agent, version) = split_name(rest)?;
        let version = std::str::from_utf8(version).ok()?;
        Some(Grant { environment, agent, version, expires: Second::from_be_bytes(*expires) })
    }
}

fn split_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

impl Overrides {
    /// The version that `signature` sends requests of this agent to. `asked` is the one that the header names.
    ///
    /// # Errors
    /// Where it must be ignored, and why.
    pub fn version(
        &self,
        agent: &Agent,
        asked: Option<&[u8]>,
        signature: &[u8],
        now: Second,
    ) -> Result<usize, OverrideFault> {
        let opened = self.keys.open(Purpose::Override, signature)?;
        let grant = Grant::read(opened.payload()).ok_or(SealFault::Malformed)?;
        if grant.environment != agent.environment().as_str() || ![ANY_AGENT, agent.id().as_str()].contains(&grant.agent)
        {
            return Err(OverrideFault::Foreign);
        }
        if grant.expires <= now {
            return Err(OverrideFault::Expired);
        }
        if asked.is_some_and(|asked| asked != grant.version.as_bytes()) {
            return Err(OverrideFault::OtherVersion);
        }
        let version = agent.versions.iter().position(|known| known.id.as_str() == grant.version);
        version.ok_or(OverrideFault::UnknownVersion)
    }
}

#[cfg(test)]
mod tests;
