//! What stands in the table for a conversation's id: a keyed hash, so that a table or its checkpoint tells no
//! ids, and no client can choose which shard its conversations fall into.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use super::siphash::SipKey;
use crate::routing::conversation::ID_BYTES_MAX;
use crate::routing::ids::BUCKETS;

/// The key of the hash: one per instance, kept with the checkpoint. No log can print it.
#[derive(Clone)]
pub struct PinSecret(pub [u8; 32]);

impl std::fmt::Debug for PinSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// 128 bits of the keyed hash of agent and conversation id: evenly spread, and without practical collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinKey {
    high: u64,
    low: u64,
}

impl PinKey {
    pub fn from_u128(key: u128) -> Self {
        Self { high: (key >> 64) as u64, low: key as u64 }
    }

    pub fn to_u128(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// An even spread over the buckets: for a share of all conversations that stays the same share.
    pub fn bucket(self) -> u32 {
        (self.high % u64::from(BUCKETS)) as u32
    }

    /// By bits that the map within a segment does not use.
    pub(super) fn segment(self, segments: usize) -> usize {
        (self.high >> 32) as usize % segments
    }
}

/// The key is as good a hash as any, so it is not hashed again.
impl Hash for PinKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low);
    }
}

/// Takes a [`PinKey`] as it is.
#[derive(Clone, Copy, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
}

/// An agent's own hash.
#[derive(Clone, Copy)]
pub(super) struct AgentHash(SipKey);

impl AgentHash {
    pub fn new(secret: &PinSecret, environment: &str, agent: &str) -> Self {
        // A byte that no name contains keeps (`a`, `bc`) apart from (`ab`, `c`).
        let named = Sha256::new().chain_update(secret.0).chain_update(environment).chain_update([0xff]);
        let derived = named.chain_update(agent).finalize();
        Self(SipKey::new(std::array::from_fn(|byte| derived[byte])))
    }

    /// `None` for an id that is empty or longer than [`ID_BYTES_MAX`].
    pub fn key(&self, id: &[u8]) -> Option<PinKey> {
        (1..=ID_BYTES_MAX).contains(&id.len()).then(|| PinKey::from_u128(self.0.hash(id)))
    }
}
