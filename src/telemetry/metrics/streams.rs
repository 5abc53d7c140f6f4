//! The versions' streams, tokens and cost. Only versions that had any of these have series here.
//!
//! Names follow the OpenTelemetry GenAI conventions where those have one, in Prometheus form: dots are underscores,
//! base units are in the name. The boundaries of token counts are theirs less one, 4ⁿ − 1: the fine buckets end there,
//! and counts are whole, so that each sample is exact.

use prometheus::core::Desc;
use prometheus::proto::{Metric, MetricFamily};

use super::bound::Growing;
use super::family::Family;
use crate::telemetry::stats::{StreamEnd, StreamTotals};

const VERSION: [&str; 3] = ["environment", "agent", "version"];
const BY_TYPE: [&str; 4] = ["environment", "agent", "version", "gen_ai_token_type"];

const FAMILIES: usize = 7;

/// In the order in which they are shown.
pub(super) struct StreamFamilies {
    ends: Family,
    first_token: Family,
    between_tokens: Family,
    usage: Family,
    tokens: Family,
    cost: Family,
    unpriced: Family,
}

/// Of all versions, by family.
#[derive(Default)]
pub(super) struct StreamSamples([Vec<Metric>; FAMILIES]);

impl StreamFamilies {
    pub(super) fn new(with_bound: impl Fn(&str) -> String) -> Self {
        let left_out = "what the client broke is left out.";
        Self {
            ends: Family::counter(
                "pointsman_streams_total",
                &with_bound("Answers that are streams or speak a known dialect, by how they ended."),
                &["environment", "agent", "version", "end"],
            ),
            first_token: Family::histogram(
                "pointsman_gen_ai_server_time_to_first_token_seconds",
                &with_bound(&format!("From the request's head to the first event with content; {left_out}")),
                &VERSION,
            ),
            between_tokens: Family::histogram(
                "pointsman_gen_ai_client_operation_time_per_output_chunk_seconds",
                &with_bound("From one event with content to the next."),
                &VERSION,
            ),
            usage: Family::histogram(
                "pointsman_gen_ai_client_token_usage",
                &with_bound(&format!("Tokens per answer that tells them; {left_out}")),
                &BY_TYPE,
            ),
            tokens: Family::counter(
                "pointsman_gen_ai_tokens_total",
                &with_bound("Tokens that answers told, cancelled ones too."),
                &BY_TYPE,
            ),
            cost: Family::counter(
                "pointsman_cost_total",
                &with_bound("Cost of the answers whose model has a price, in the currency of the price table."),
                &VERSION,
            ),
            unpriced: Family::counter(
                "pointsman_unpriced_answers_total",
                &with_bound("Answers that told their tokens and have no cost: no price for their model."),
                &VERSION,
            ),
        }
    }

    fn all(&self) -> [&Family; FAMILIES] {
        [&self.ends, &self.first_token, &self.between_tokens, &self.usage, &self.tokens, &self.cost, &self.unpriced]
    }

    pub(super) fn descs(&self) -> [&Desc; FAMILIES] {
        self.all().map(Family::desc)
    }

    pub(super) fn sample(&self, names: [&str; 3], totals: &StreamTotals, samples: &mut StreamSamples) {
        if !totals.any {
            return;
        }
        let [environment, agent, version] = names;
        let with = |last| [environment, agent, version, last];
        let [ends, first_token, between_tokens, usage, tokens, cost, unpriced] = &mut samples.0;
        for end in StreamEnd::ALL.into_iter().filter(|end| totals.end(*end) > 0) {
            ends.push(self.ends.sample(&with(end.as_str()), totals.end(end) as f64));
        }
        first_token.push(self.first_token.histogram_sample(&names, &totals.first_token));
        between_tokens.push(self.between_tokens.histogram_sample(&names, &totals.between_tokens));
        for (kind, each, sum) in
            [("input", &totals.input, totals.input_tokens), ("output", &totals.output, totals.output_tokens)]
        {
            usage.push(self.usage.histogram_of_counts(&with(kind), each));
            tokens.push(self.tokens.sample(&with(kind), sum as f64));
        }
        cost.push(self.cost.sample(&names, totals.cost_nanos as f64 / 1e9));
        unpriced.push(self.unpriced.sample(&names, totals.unpriced as f64));
    }

    pub(super) fn with(&self, samples: StreamSamples) -> impl Iterator<Item = MetricFamily> {
        self.all().into_iter().zip(samples.0).map(|(family, samples)| family.with(samples))
    }
}

impl Growing for StreamTotals {
    fn add_growth(&mut self, now: &Self, earlier: &Self) {
        self.any |= now.any;
        for ((sum, now), earlier) in self.ends.iter_mut().zip(&now.ends).zip(&earlier.ends) {
            sum.add_growth(now, earlier);
        }
        self.input_tokens.add_growth(&now.input_tokens, &earlier.input_tokens);
        self.output_tokens.add_growth(&now.output_tokens, &earlier.output_tokens);
        self.cost_nanos.add_growth(&now.cost_nanos, &earlier.cost_nanos);
        self.unpriced.add_growth(&now.unpriced, &earlier.unpriced);
        self.first_token.add_growth(&now.first_token, &earlier.first_token);
        self.between_tokens.add_growth(&now.between_tokens, &earlier.between_tokens);
        self.input.add_growth(&now.input, &earlier.input);
        self.output.add_growth(&now.output, &earlier.output);
        self.cost.add_growth(&now.cost, &earlier.cost);
    }
}
