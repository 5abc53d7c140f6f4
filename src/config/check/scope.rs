//! Where a check stands in the file: reports by path, and reads values that have a range.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::errors::{Place, Report};
use super::super::node::{Kind, Node};
use super::super::scalar::{Bytes, Text, Whole};
use crate::routing::ids::AgentId;

/// A part of the file, and the report that its errors go to.
pub(super) struct Scope<'a, 'r> {
    node: &'a Node,
    /// Path of `node` in the file; empty for the file itself.
    base: String,
    /// Where an error about the whole part is shown.
    key: Place,
    report: &'r mut Report,
}

impl<'a, 'r> Scope<'a, 'r> {
    pub(super) fn of_file(root: &'a Node, report: &'r mut Report) -> Self {
        Self { node: root, base: String::new(), key: root.at, report }
    }

    pub(super) fn agent(&mut self, id: &AgentId, key: Place) -> Scope<'a, '_> {
        let agents = self.node.entry("agents").map(|entry| &entry.value);
        let node = agents.and_then(|agents| agents.entry(id.as_str())).map_or(self.node, |entry| &entry.value);
        Scope { node, base: format!("agents.{id}"), key, report: self.report }
    }

    pub(super) fn node(&self) -> &'a Node {
        self.node
    }

    pub(super) fn error(&mut self, path: &str, message: impl Into<String>) {
        // What is not there has the place of what it is missing from.
        let place = self.node.find_from(self.key, path).place;
        let dot = if self.base.is_empty() || path.is_empty() || path.starts_with('[') { "" } else { "." };
        self.report.error(place, format!("{}{dot}{path}", self.base), message);
    }

    /// Whether something at or in `path` was found wrong before.
    pub(super) fn is_damaged(&self, path: &str) -> bool {
        self.node.find(path).damaged
    }

    /// How long the file's list is, and where in it those elements stand that were decoded.
    pub(super) fn positions(&self, path: &str) -> (usize, Vec<usize>) {
        match self.node.find(path).node.map(|node| &node.kind) {
            Some(Kind::Seq(items)) => (items.len(), (0..items.len()).filter(|i| !items[*i].removed).collect()),
            _ => (0, Vec::new()),
        }
    }

    fn within<T: PartialOrd + Copy>(
        &mut self,
        path: &str,
        value: T,
        range: RangeInclusive<T>,
        show: impl Fn(T) -> String,
    ) -> T {
        if !range.contains(&value) {
            let (low, high) = (show(*range.start()), show(*range.end()));
            self.error(path, format!("{} is out of range; expected {low} to {high}", show(value)));
        }
        value
    }

    pub(super) fn count(&mut self, path: &str, given: Option<Whole>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(Whole(value)) = given else { return default };
        let bound = |bound: &u64| i64::try_from(*bound).unwrap_or(i64::MAX);
        let value = self.within(path, value, bound(range.start())..=bound(range.end()), |n| n.to_string());
        u64::try_from(value).unwrap_or(default)
    }

    pub(super) fn bytes(
        &mut self,
        path: &str,
        given: Option<Text<Bytes>>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        given.map_or(default, |Text(Bytes(value))| self.within(path, value, range, show_bytes))
    }

    pub(super) fn duration(
        &mut self,
        path: &str,
        given: Option<Text<Duration>>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        given.map_or(default, |Text(value)| self.within(path, value, range, show_duration))
    }
}

/// As the file would have it: `64KiB`.
fn show_bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// As the file would have it: `1h30m`.
fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= ms {
            text.push_str(&format!("{}{unit}", rest / ms));
            rest %= ms;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_show_as_they_are_written() {
        for (bytes, text) in [(0, "0B"), (1000, "1000B"), (65_536, "64KiB"), (1 << 30, "1GiB")] {
            assert_eq!(show_bytes(bytes), text);
        }
        for (ms, text) in [(0, "0s"), (1500, "1s500ms"), (5_400_000, "1h30m"), (86_400_000, "1d")] {
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
    }
}
