//! Long lists come in pages: `limit` items after the one that `after` names.

use schemars::JsonSchema;
use serde::Serialize;

use super::query::Fields;

pub const DEFAULT_LIMIT: usize = 100;
pub const MAX_LIMIT: usize = 1_000;

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    pub items: Vec<T>,
    /// What to give as `after` for the next page; `null` at the end.
    pub next: Option<String>,
}

pub fn limit(fields: &mut Fields) -> usize {
    let limit = fields.parsed("limit", "a whole number").unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        fields.refuse("limit", format!("{limit} is out of range; expected 1 to {MAX_LIMIT}"));
    }
    limit
}

impl<T> Page<T> {
    /// `found` may hold one more than `limit`: then there is a next page.
    pub fn of(found: impl Iterator<Item = T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let mut items: Vec<T> = found.take(limit.saturating_add(1)).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}
