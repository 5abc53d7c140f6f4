//! Conversations by version, as control last told.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::Family;
use super::{ConversationFigures, Source};

const VERSION: [&str; 3] = ["environment", "agent", "version"];

pub(super) struct ConversationCollector {
    source: Arc<Source<Vec<ConversationFigures>>>,
    /// How many versions are shown.
    limit: usize,
    conversations: Family,
    in_flight: Family,
    draining: Family,
    migrating: Family,
}

impl ConversationCollector {
    pub(super) fn new(source: Arc<Source<Vec<ConversationFigures>>>, limit: usize) -> Self {
        Self {
            source,
            limit,
            conversations: Family::gauge("pointsman_conversations", "Conversations held to the version.", &VERSION),
            in_flight: Family::gauge(
                "pointsman_conversations_in_flight",
                "Responses in flight that belong to one of them.",
                &VERSION,
            ),
            draining: Family::gauge(
                "pointsman_version_draining",
                "Conversations and responses that are left at a version that gets no more new traffic; no series once \
                 there are none.",
                &["environment", "agent", "version", "of"],
            ),
            migrating: Family::gauge(
                "pointsman_migration_remaining",
                "Conversations that are still to move away from the version, while a migration runs.",
                &VERSION,
            ),
        }
    }
}

impl Collector for ConversationCollector {
    fn desc(&self) -> Vec<&Desc> {
        [&self.conversations, &self.in_flight, &self.draining, &self.migrating].map(Family::desc).into()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut all = self.source.read().unwrap_or_default();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all.truncate(self.limit);
        let shown = |family: &Family, figure: fn(&ConversationFigures) -> Option<u64>| {
            let sample = |figures: &ConversationFigures| {
                let names = [&*figures.labels.environment, &figures.labels.agent, &figures.labels.version];
                Some(family.sample(&names, figure(figures)? as f64))
            };
            family.with(all.iter().filter_map(sample).collect())
        };
        let draining =
            all.iter().filter_map(|figures| Some((&figures.labels, figures.draining?))).flat_map(|(of, left)| {
                let (conversations, responses) = left;
                let names = |what| [&*of.environment, &*of.agent, &*of.version, what];
                [
                    self.draining.sample(&names("conversations"), conversations as f64),
                    self.draining.sample(&names("responses"), responses as f64),
                ]
            });
        vec![
            shown(&self.conversations, |figures| figures.held.map(|(conversations, _)| conversations)),
            shown(&self.in_flight, |figures| figures.held.map(|(_, in_flight)| in_flight)),
            self.draining.with(draining.collect()),
            shown(&self.migrating, |figures| figures.to_migrate),
        ]
    }
}
