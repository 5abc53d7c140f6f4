//! Texts that only somebody with the key can have written: what pin tokens and override signatures are made of.
//!
//! A seal is base64url (RFC 4648 §5, no padding) over the key's id, the payload and the first half of an
//! HMAC-SHA256 (RFC 2104) of the purpose and all that. The payload can be read by anybody and changed by nobody.
//! Keys rotate: the first one seals, all of them open. Tags are compared in constant time.
//!
//! Bounds: a seal is at most [`SEAL_BYTES_MAX`] long, and a longer one is not looked into.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The shortest secret of a key, in bytes: as long as the hash's output.
pub const SECRET_BYTES_MIN: usize = 32;
/// The longest name of a key, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 32;
/// The longest seal, in characters.
pub const SEAL_BYTES_MAX: usize = 1024;

const TAG_BYTES: usize = 16;
/// Three bytes for each four characters.
const OPENED_BYTES_MAX: usize = SEAL_BYTES_MAX / 4 * 3;

/// What a seal is for: one that was made for one purpose is no good for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Pin,
    Override,
}

impl Purpose {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Pin => b"pointsman pin 1\0",
            Self::Override => b"pointsman override 1\0",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    #[error("it is not of the form of a seal")]
    Malformed,
    #[error("no key of that name is known")]
    UnknownKey,
    #[error("it was not made with the key that it names, or was changed")]
    Forged,
}

/// The keys of one purpose; at least one. No log can print them.
#[derive(Clone)]
pub struct KeyRing(Arc<[Key]>);

struct Key {
    id: Box<str>,
    /// With the secret taken in.
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl KeyRing {
    /// Of (id, secret); `None` where there is no key, or an id is longer than [`KEY_ID_BYTES_MAX`]. How long a
    /// secret must be is for configuration to check.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let key = |(id, secret): (&str, &str)| {
            let mac = Hmac::new_from_slice(secret.as_bytes()).ok()?;
            (id.len() <= KEY_ID_BYTES_MAX).then(|| Key { id: id.into(), mac })
        };
        let keys: Arc<[Key]> = keys.into_iter().map(key).collect::<Option<_>>()?;
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The same keys with `id` first; `None` where there is no such key.
    pub fn sealing_with(&self, id: &str) -> Option<Self> {
        let key = self.0.iter().find(|key| *key.id == *id)?;
        Some(Self([Key { id: key.id.clone(), mac: key.mac.clone() }].into()))
    }

    /// Seals with the first key.
    pub fn seal(&self, purpose: Purpose, payload: &[u8]) -> String {
        let key = &self.0[0];
        let mut sealed = Vec::with_capacity(1 + key.id.len() + payload.len() + TAG_BYTES);
        sealed.push(key.id.len() as u8);
        sealed.extend_from_slice(key.id.as_bytes());
        sealed.extend_from_slice(payload);
        let tag = key.mac.clone().chain_update(purpose.prefix()).chain_update(&sealed).finalize();
        sealed.extend_from_slice(&tag.into_bytes()[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The payload of a seal that one of the keys made.
    ///
    /// # Errors
    /// For anything else.
    pub fn open(&self, purpose: Purpose, seal: &[u8]) -> Result<Opened, SealFault> {
        if seal.len() > SEAL_BYTES_MAX {
            return Err(SealFault::Malformed);
        }
        let mut bytes = [0; OPENED_BYTES_MAX];
        let length = URL_SAFE_NO_PAD.decode_slice(seal, &mut bytes).map_err(|_| SealFault::Malformed)?;
        let sealed_bytes = length.checked_sub(TAG_BYTES).ok_or(SealFault::Malformed)?;
        let (sealed, tag) = bytes[..length].split_at(sealed_bytes);
        let (id_bytes, rest) = sealed.split_first().ok_or(SealFault::Malformed)?;
        let id = rest.get(..usize::from(*id_bytes)).ok_or(SealFault::Malformed)?;
        let key = self.0.iter().find(|key| key.id.as_bytes() == id).ok_or(SealFault::UnknownKey)?;
        let mac = key.mac.clone().chain_update(purpose.prefix()).chain_update(sealed);
        mac.verify_truncated_left(tag).map_err(|_| SealFault::Forged)?;
        Ok(Opened { start: 1 + id.len(), end: sealed_bytes, bytes })
    }
}

/// A payload in a place of its own, so that opening allocates nothing.
pub struct Opened {
    bytes: [u8; OPENED_BYTES_MAX],
    start: usize,
    end: usize,
}

impl Opened {
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

#[cfg(test)]
mod tests;
