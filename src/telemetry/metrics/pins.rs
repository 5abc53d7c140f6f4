//! Conversations: the table's size, what happened to pins, tokens, overrides and ids.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::Family;
use super::{PinFigures, Source};
use crate::telemetry::conversations::{ConversationCounters, IdFault, OverrideEnd, TokenEnd};
use crate::telemetry::counters::ProxyCounters;

pub(super) struct PinCollector {
    source: Arc<Source<PinFigures>>,
    proxy: Arc<[ProxyCounters]>,
    pins: Family,
    max: Family,
    bytes: Family,
    events: Family,
    tokens: Family,
    overrides: Family,
    ids: Family,
}

impl PinCollector {
    pub(super) fn new(source: Arc<Source<PinFigures>>, proxy: Arc<[ProxyCounters]>) -> Self {
        let counter = |name, help, label: &str| Family::counter(name, help, &[label]);
        Self {
            source,
            proxy,
            pins: Family::gauge("pointsman_pins", "Conversations that are held to a version.", &[]),
            max: Family::gauge("pointsman_pins_limit", "How many conversations can be held: pins.max.", &[]),
            bytes: Family::gauge("pointsman_pins_bytes", "Memory of the table of conversations.", &[]),
            events: counter("pointsman_pin_events_total", "What happened to pins of conversations.", "event"),
            tokens: counter(
                "pointsman_pin_tokens_total",
                "Tokens: issued, accepted, or by why they were ignored.",
                "result",
            ),
            overrides: counter(
                "pointsman_overrides_total",
                "Requests that ask for a version: accepted, or by why that was ignored.",
                "result",
            ),
            ids: counter(
                "pointsman_conversation_ids_missed_total",
                "Conversations that could not be pinned, by what was wrong with their id.",
                "reason",
            ),
        }
    }

    fn total(&self, count: impl Fn(&ConversationCounters) -> u64) -> f64 {
        self.proxy.iter().map(|worker| count(&worker.conversations)).sum::<u64>() as f64
    }
}

impl Collector for PinCollector {
    fn desc(&self) -> Vec<&Desc> {
        let families = [&self.pins, &self.max, &self.bytes, &self.events, &self.tokens, &self.overrides, &self.ids];
        families.into_iter().map(Family::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let tokens =
            TokenEnd::ALL.iter().map(|end| self.tokens.sample(&[end.as_str()], self.total(|c| c.tokens(*end))));
        let overrides = OverrideEnd::ALL
            .iter()
            .map(|end| self.overrides.sample(&[end.as_str()], self.total(|c| c.overrides(*end))));
        let ids = IdFault::ALL.iter().map(|fault| self.ids.sample(&[fault.as_str()], self.total(|c| c.ids(*fault))));
        let mut families = vec![
            self.tokens.with(tokens.collect()),
            self.overrides.with(overrides.collect()),
            self.ids.with(ids.collect()),
        ];
        if let Some(figures) = self.source.read() {
            let events = figures.events.iter().map(|(event, count)| self.events.sample(&[*event], *count as f64));
            families.extend([
                self.pins.with_one(figures.pins as f64),
                self.max.with_one(figures.max as f64),
                self.bytes.with_one(figures.bytes as f64),
                self.events.with(events.collect()),
            ]);
        }
        families
    }
}
