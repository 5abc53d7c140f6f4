//! The hash schemes: flag, salt and key → one of 100,000 buckets.
//!
//! The arithmetic is other people's contract: a platform's own SDK and this proxy must put the same
//! user in the same bucket, so every scheme is spelled out to the bit and held by known answers.
//!
//! | scheme | hashed | bucket |
//! | --- | --- | --- |
//! | `sha1` | SHA-1 of `flag:salt:key` | first 15 hex digits as an exact integer, mod 100,000 |
//! | `sha1-js` | the same | that integer rounded to a double first, as `parseInt(hex, 16) % 100000` does |
//! | `launchdarkly` | SHA-1 of `flag.salt.key`, or of `seed.key` | that double ÷ `0xFFFFFFFFFFFFFFF`, see [`Bucketed::fraction`] |
//! | `murmur3` | MurmurHash3 x86 32-bit, seed 0, of `flag:salt:key` | mod 100,000 |
//! | `md5` | MD5 of `flag:salt:key` | as `sha1` |
//!
//! LaunchDarkly's SDKs do not all agree: those for JavaScript, Python and Ruby compute in doubles, those
//! for Go, Java, .NET and Rust in 32-bit floats. This is the double's arithmetic; the two differ for
//! keys within some 10⁻⁷ of the edge of an arm, one in several million.
//!
//! No allocation, whatever the key's length. Not here: where the key comes from ([`super::key`]), and
//! which version a bucket belongs to ([`super::split`]).

use sha1::Digest;

use super::ids::BUCKETS;
use super::spec::Scheme;

/// Where a key falls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucketed {
    /// 0..=99,999. Under `launchdarkly` the fraction in 100,000ths, rounded down: for display only.
    pub bucket: u32,
    /// Under `launchdarkly` what its arms are compared with, 0.0..=1.0; otherwise `None`.
    pub fraction: Option<f64>,
}

/// One agent's prepared hash input; made when the table is compiled.
///
/// Holds the hash's state after the part before the key, so that a request hashes its key only.
#[derive(Clone)]
pub struct Bucketer {
    scheme: Scheme,
    prefix: Prefix,
}

#[derive(Clone)]
enum Prefix {
    Sha1(sha1::Sha1),
    Md5(md5::Md5),
    Murmur3(Murmur3),
}

impl Bucketer {
    /// `seed` is LaunchDarkly's and replaces `flag.salt`; the other schemes have none and ignore it
    /// ([`super::compile`] refuses it there).
    pub fn new(scheme: Scheme, flag: &str, salt: &str, seed: Option<i64>) -> Self {
        let text = match (scheme, seed) {
            (Scheme::LaunchDarkly, Some(seed)) => format!("{seed}."),
            (Scheme::LaunchDarkly, None) => format!("{flag}.{salt}."),
            _ => format!("{flag}:{salt}:"),
        };
        let prefix = match scheme {
            Scheme::Sha1 | Scheme::Sha1Js | Scheme::LaunchDarkly => Prefix::Sha1(sha1::Sha1::new_with_prefix(text)),
            Scheme::Md5 => Prefix::Md5(md5::Md5::new_with_prefix(text)),
            Scheme::Murmur3 => Prefix::Murmur3(Murmur3::default().with(text.as_bytes())),
        };
        Self { scheme, prefix }
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Nearly all of the cost is hashing one block of 64 bytes, or two where prefix and key are longer than
    /// 55 bytes together; `loadtest/bench_routing.rs` measures it.
    pub fn bucket(&self, key: &[u8]) -> Bucketed {
        let hash = match &self.prefix {
            Prefix::Sha1(prefix) => first_15_hex_digits(&prefix.clone().chain_update(key).finalize()),
            Prefix::Md5(prefix) => first_15_hex_digits(&prefix.clone().chain_update(key).finalize()),
            Prefix::Murmur3(prefix) => u64::from(prefix.with(key).finish()),
        };
        match self.scheme {
            Scheme::Sha1 | Scheme::Md5 | Scheme::Murmur3 => modulo(hash),
            // At most 2⁶⁰ after rounding, so the way back to an integer is exact.
            Scheme::Sha1Js => modulo(hash as f64 as u64),
            Scheme::LaunchDarkly => {
                let fraction = hash as f64 / LAUNCHDARKLY_SCALE;
                let bucket = ((fraction * f64::from(BUCKETS)) as u32).min(BUCKETS - 1);
                Bucketed { bucket, fraction: Some(fraction) }
            }
        }
    }
}

/// As a double this is 2⁶⁰: the SDKs in question divide by the rounded value too.
const LAUNCHDARKLY_SCALE: f64 = 0xFFF_FFFF_FFFF_FFFF_u64 as f64;

fn modulo(hash: u64) -> Bucketed {
    Bucketed { bucket: (hash % u64::from(BUCKETS)) as u32, fraction: None }
}

/// 60 bits: 15 hex digits are the first seven bytes and the upper half of the eighth.
fn first_15_hex_digits(hash: &[u8]) -> u64 {
    let first = hash.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    first >> 4
}

/// MurmurHash3 x86 32-bit with seed 0, fed in pieces.
#[derive(Clone, Copy, Default)]
struct Murmur3 {
    state: u32,
    /// The bytes that do not fill a block yet, little end first, and how many of the four there are.
    tail: u32,
    tail_bytes: u32,
    total_bytes: u32,
}

impl Murmur3 {
    fn with(mut self, data: &[u8]) -> Self {
        // The length takes part in the hash mod 2³², as the reference's `int` does.
        self.total_bytes = self.total_bytes.wrapping_add(data.len() as u32);
        for byte in data {
            self.tail |= u32::from(*byte) << (8 * self.tail_bytes);
            self.tail_bytes += 1;
            if self.tail_bytes == 4 {
                self.state = (self.state ^ Self::scramble(self.tail)).rotate_left(13);
                self.state = self.state.wrapping_mul(5).wrapping_add(0xe654_6b64);
                (self.tail, self.tail_bytes) = (0, 0);
            }
        }
        self
    }

    fn finish(self) -> u32 {
        let mut hash = self.state ^ Self::scramble(self.tail) ^ self.total_bytes;
        hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
        hash ^ hash >> 16
    }

    fn scramble(block: u32) -> u32 {
        block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
    }
}

#[cfg(test)]
mod tests;
