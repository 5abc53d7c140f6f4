//! How many connections each client address has.
//!
//! Of IPv6 a /64 is one address: that is what one subscriber has. Addresses without connections are not kept, so
//! there are at most as many as connections. Locked when a connection is taken and when it ends, where there is a
//! limit at all; connections from before there was one are not counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// A connection that is counted: to be given back with [`Addresses::release`].
pub struct Counted(IpAddr);

impl Addresses {
    /// `None`: the address has as many as it may.
    pub fn take(&self, client: IpAddr, most: usize) -> Option<Counted> {
        let network = network(client);
        let mut counts = self.lock();
        let count = counts.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted(network))
    }

    pub fn release(&self, Counted(network): Counted) {
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&network);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        canonical => canonical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_network_has_its_own_count_and_leaves_nothing() {
        let addresses = Addresses::default();
        let first = addresses.take(at("2001:db8::1"), 2).expect("has none yet");
        let second = addresses.take(at("2001:db8::ffff:2"), 2).expect("has one");
        assert!(addresses.take(at("2001:db8::3"), 2).is_none());
        let other = addresses.take(at("2001:db8:0:1::1"), 2).expect("is another network");
        let old = addresses.take(at("192.0.2.1"), 1).expect("is another network");
        assert!(addresses.take(at("::ffff:192.0.2.1"), 1).is_none(), "the same address");
        addresses.release(first);
        let again = addresses.take(at("2001:db8::1"), 2).expect("there is room again");
        for counted in [second, other, old, again] {
            addresses.release(counted);
        }
        assert!(addresses.lock().is_empty());
    }
}
