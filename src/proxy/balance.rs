//! Which endpoint of a version: power of two choices on this worker's exchanges in flight.

use super::pool::Pools;
use crate::routing::table::Endpoint;

/// An index into `endpoints`, or `None` where there is none. `tried` holds those that refused a
/// connection for this request; they come again only when all have.
pub(super) fn choose(
    endpoints: &[Endpoint],
    pools: &Pools,
    tried: &[usize],
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    match endpoints {
        [] => None,
        [_] => Some(0),
        _ => {
            let mut pick = || (random() % endpoints.len() as u64) as usize;
            let (first, second) = (pick(), pick());
            let load = |index: usize| (tried.contains(&index), pools.of(endpoints[index].id).in_use());
            let better = if load(second) < load(first) { second } else { first };
            if tried.contains(&better) { Some(untried(endpoints.len(), tried).unwrap_or(better)) } else { Some(better) }
        }
    }
}

fn untried(count: usize, tried: &[usize]) -> Option<usize> {
    (0..count).find(|index| !tried.contains(index))
}
