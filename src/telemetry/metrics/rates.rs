//! Rate limits: what they refused, and how full their tables of callers are.
//!
//! Bounded by what is configured, and cut off at [`MAX_LABELLED`] limits in the order of their names. A limit has series
//! once a request has met it.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::MAX_LABELLED;
use super::family::Family;

/// The agent of limits that are for all agents of an environment.
const ALL_AGENTS: &str = "_all";

/// What the scrape shows of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateFigures {
    pub environment: Arc<str>,
    /// `None`: for all of the environment together.
    pub agent: Option<Arc<str>>,
    pub limit: Arc<str>,
    /// How many requests, by what they were too many of.
    pub refused: [(&'static str, u64); 3],
    /// Of a limit that has a key.
    pub table: Option<RateTableFigures>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateTableFigures {
    pub keys: usize,
    pub forgotten: u64,
    pub overflowed: u64,
}

pub struct RateCollector {
    source: Box<dyn Fn() -> Vec<RateFigures> + Send + Sync>,
    refused: Family,
    keys: Family,
    forgotten: Family,
    overflowed: Family,
}

impl RateCollector {
    /// `source` is called at each scrape.
    pub fn new(source: impl Fn() -> Vec<RateFigures> + Send + Sync + 'static) -> Self {
        const LIMIT: [&str; 3] = ["environment", "agent", "limit"];
        Self {
            source: Box::new(source),
            refused: Family::counter(
                "pointsman_rate_limited_total",
                "Requests that a rate limit refused, by what there were too many of. Agent _all: a limit of the environment.",
                &["environment", "agent", "limit", "kind"],
            ),
            keys: Family::gauge("pointsman_rate_limit_keys", "Callers that a rate limit keeps count of.", &LIMIT),
            forgotten: Family::counter(
                "pointsman_rate_limit_keys_forgotten_total",
                "Callers whose allowance was whole again, and who were forgotten.",
                &LIMIT,
            ),
            overflowed: Family::counter(
                "pointsman_rate_limit_overflow_total",
                "Requests of callers for whom there was no room, and who shared one allowance.",
                &LIMIT,
            ),
        }
    }
}

impl Collector for RateCollector {
    fn desc(&self) -> Vec<&Desc> {
        [&self.refused, &self.keys, &self.forgotten, &self.overflowed].map(Family::desc).into()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut refused, mut keys, mut forgotten, mut overflowed) = (vec![], vec![], vec![], vec![]);
        for limit in (self.source)().iter().take(MAX_LABELLED) {
            let labels = [&*limit.environment, limit.agent.as_deref().unwrap_or(ALL_AGENTS), &limit.limit];
            let [environment, agent, name] = labels;
            for (kind, count) in &limit.refused {
                refused.push(self.refused.sample(&[environment, agent, name, kind], *count as f64));
            }
            if let Some(table) = limit.table {
                keys.push(self.keys.sample(&labels, table.keys as f64));
                forgotten.push(self.forgotten.sample(&labels, table.forgotten as f64));
                overflowed.push(self.overflowed.sample(&labels, table.overflowed as f64));
            }
        }
        vec![
            self.refused.with(refused),
            self.keys.with(keys),
            self.forgotten.with(forgotten),
            self.overflowed.with(overflowed),
        ]
    }
}
