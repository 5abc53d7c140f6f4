//! How many label values may have series of their own, and where the rest is counted.
//!
//! The first `limit` keys that have anything to show get series of their own and keep them until they are
//! gone; all later ones add to one `_other` per environment. What a key adds to `_other` is its growth
//! between two scrapes, so `_other` never falls when a key goes, and no count is shown in two places.
//!
//! Bound: `limit` keys and one `_other` per environment that is live.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// The label value that stands for all beyond the limit.
pub(super) const OTHER: &str = "_other";

/// A count, or several, that only grows.
pub(super) trait Growing: Clone + Default {
    /// Adds what came between `earlier` and `now`.
    fn add_growth(&mut self, now: &Self, earlier: &Self);
}

impl Growing for u64 {
    fn add_growth(&mut self, now: &Self, earlier: &Self) {
        *self += now.saturating_sub(*earlier);
    }
}

/// Who has series of their own, and what the others came to.
pub(super) struct Bounded<K, T> {
    limit: usize,
    named: HashSet<K>,
    /// The rest, with what is already counted of each.
    rest: HashMap<K, T>,
    /// By environment.
    other: BTreeMap<Arc<str>, T>,
}

impl<K: Eq + Hash + Clone, T: Growing> Bounded<K, T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, named: HashSet::new(), rest: HashMap::new(), other: BTreeMap::new() }
    }

    /// Forgets the keys that are no longer there; their places are free for new ones.
    pub(super) fn retain(&mut self, live: &HashSet<&K>, environments: &HashSet<&str>) {
        self.named.retain(|key| live.contains(key));
        self.rest.retain(|key, _| live.contains(key));
        self.other.retain(|environment, _| environments.contains(&**environment));
    }

    /// Whether `key` is shown by itself. If not, its growth is added to its environment's `_other`.
    pub(super) fn admit(&mut self, key: &K, environment: &Arc<str>, now: &T) -> bool {
        if self.named.contains(key) {
            return true;
        }
        if !self.rest.contains_key(key) && self.named.len() < self.limit {
            self.named.insert(key.clone());
            return true;
        }
        let earlier = self.rest.insert(key.clone(), now.clone()).unwrap_or_default();
        self.other.entry(environment.clone()).or_default().add_growth(now, &earlier);
        false
    }

    pub(super) fn other(&self) -> &BTreeMap<Arc<str>, T> {
        &self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(bounded: &mut Bounded<&'static str, u64>, counts: &[(&'static str, u64)]) -> (Vec<&'static str>, u64) {
        let live = counts.iter().map(|(key, _)| key).collect();
        bounded.retain(&live, &HashSet::from(["production"]));
        let named = counts.iter().filter(|(key, now)| bounded.admit(key, &"production".into(), now));
        let named = named.map(|(key, _)| *key).collect();
        (named, bounded.other().get("production").copied().unwrap_or_default())
    }

    #[test]
    fn the_first_keep_their_names_and_the_rest_add_up() {
        let mut bounded = Bounded::new(2);
        assert_eq!(scrape(&mut bounded, &[("a", 1), ("b", 2), ("c", 3), ("d", 4)]), (vec!["a", "b"], 7));
        assert_eq!(scrape(&mut bounded, &[("a", 9), ("b", 9), ("c", 5), ("d", 4)]), (vec!["a", "b"], 9));
    }

    #[test]
    fn other_never_falls_and_nobody_moves() {
        let mut bounded = Bounded::new(1);
        assert_eq!(scrape(&mut bounded, &[("a", 1), ("b", 10), ("c", 100)]), (vec!["a"], 110));
        // `c` goes: what it counted stays counted.
        assert_eq!(scrape(&mut bounded, &[("a", 1), ("b", 11)]), (vec!["a"], 111));
        // `a` goes: `b`, counted in `_other` so far, stays there; a new key takes the free place.
        assert_eq!(scrape(&mut bounded, &[("b", 12), ("d", 5)]), (vec!["d"], 112));
        // `b` went and came back between two scrapes: it begins anew, and `_other` does not fall.
        assert_eq!(scrape(&mut bounded, &[("b", 2), ("d", 5)]), (vec!["d"], 112));
        assert_eq!(scrape(&mut bounded, &[("b", 4), ("d", 5)]), (vec!["d"], 114));
    }

    #[test]
    fn environments_that_are_gone_end() {
        let mut bounded: Bounded<&str, u64> = Bounded::new(0);
        assert!(!bounded.admit(&"a", &"staging".into(), &3));
        bounded.retain(&HashSet::new(), &HashSet::new());
        assert!(bounded.other().is_empty());
    }
}
