//! What is counted of streams, tokens and cost: a part of a shard that is made at the first such exchange,
//! so that a version that never streams pays one pointer.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;
use super::{Distribution, Exchange, Histograms, StreamEnd, bump};

/// The most tokens that one exchange is believed to have taken on either side.
const MOST_TOKENS: u64 = u32::MAX as u64;
/// The most that one exchange is believed to have cost: a million of the currency.
const MOST_NANOS: u64 = 1_000_000_000_000_000;

/// Histograms count in microseconds; those of tokens and cost use the same buckets for whole tokens and
/// for millionths of the currency. Exact sums stand beside them.
pub(super) struct StreamShard {
    ends: [AtomicU64; StreamEnd::ALL.len()],
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    cost_nanos: AtomicU64,
    unpriced: AtomicU64,
    first_token: Histogram,
    pub between_tokens: Histogram,
    input: Histogram,
    output: Histogram,
    cost: Histogram,
}

impl StreamShard {
    pub fn new() -> Self {
        Self {
            ends: Default::default(),
            input_tokens: AtomicU64::new(0),
            output_tokens: AtomicU64::new(0),
            cost_nanos: AtomicU64::new(0),
            unpriced: AtomicU64::new(0),
            first_token: Histogram::new(),
            between_tokens: Histogram::new(),
            input: Histogram::new(),
            output: Histogram::new(),
            cost: Histogram::new(),
        }
    }

    /// Whether an exchange has anything to count here.
    pub fn wants(exchange: &Exchange) -> bool {
        exchange.stream.is_some() || exchange.usage.is_known()
    }

    /// Counts an exchange that is over. What an answer claims is bounded, so that no absurd one wraps a sum.
    ///
    /// The sums take every exchange: tokens of a cancelled answer were spent too. The histograms, which judges
    /// read, take those that say something of the version.
    pub fn ended(&self, exchange: &Exchange) {
        if let Some(end) = exchange.stream {
            bump(&self.ends[end as usize], 1);
        }
        let [input, output] =
            [exchange.usage.input_tokens, exchange.usage.output_tokens].map(|n| n.map(|n| n.min(MOST_TOKENS)));
        let cost = exchange.cost_nanos.map(|nanos| nanos.min(MOST_NANOS));
        bump(&self.input_tokens, input.unwrap_or(0));
        bump(&self.output_tokens, output.unwrap_or(0));
        bump(&self.cost_nanos, cost.unwrap_or(0));
        bump(&self.unpriced, u64::from(exchange.usage.is_known() && cost.is_none()));
        if !exchange.outcome.counts() {
            return;
        }
        if let Some(first_token) = exchange.first_token {
            self.first_token.record(first_token);
        }
        if let Some(tokens) = input {
            self.input.record_units(tokens);
        }
        if let Some(tokens) = output {
            self.output.record_units(tokens);
        }
        if let Some(nanos) = cost {
            self.cost.record_units(nanos / 1000);
        }
    }
}

/// The part of [`super::Totals`] that streams, tokens and cost have. Only ever grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Whether any worker had one: where not, all below is zero.
    pub any: bool,
    pub ends: [u64; StreamEnd::ALL.len()],
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_nanos: u64,
    /// Exchanges whose tokens are known and whose cost is not: no price for their model.
    pub unpriced: u64,
    /// To the first event with content.
    pub first_token: Distribution,
    pub between_tokens: Distribution,
    /// Tokens, not microseconds, per exchange.
    pub input: Distribution,
    /// Tokens, not microseconds, per exchange.
    pub output: Distribution,
    /// Millionths of the currency, not microseconds, per exchange.
    pub cost: Distribution,
}

impl StreamTotals {
    pub fn end(&self, end: StreamEnd) -> u64 {
        self.ends[end as usize]
    }
    /// Streams whose end says something of the version.
    pub fn judged(&self) -> u64 {
        StreamEnd::ALL.iter().filter(|e| e.counts()).map(|e| self.end(*e)).sum()
    }
    pub fn errors(&self) -> u64 {
        StreamEnd::ALL.iter().filter(|e| e.is_error()).map(|e| self.end(*e)).sum()
    }

    pub(super) fn clear(&mut self, histograms: Histograms) {
        (self.any, self.ends) = Default::default();
        (self.input_tokens, self.output_tokens, self.cost_nanos, self.unpriced) = Default::default();
        for (wanted, distribution) in self.histograms(histograms) {
            if wanted {
                distribution.clear();
            }
        }
    }

    pub(super) fn add(&mut self, shard: &StreamShard, histograms: Histograms) {
        self.any = true;
        for (sum, count) in self.ends.iter_mut().zip(&shard.ends) {
            *sum += count.load(Ordering::Relaxed);
        }
        self.input_tokens += shard.input_tokens.load(Ordering::Relaxed);
        self.output_tokens += shard.output_tokens.load(Ordering::Relaxed);
        self.cost_nanos += shard.cost_nanos.load(Ordering::Relaxed);
        self.unpriced += shard.unpriced.load(Ordering::Relaxed);
        let parts = [&shard.first_token, &shard.between_tokens, &shard.input, &shard.output, &shard.cost];
        for ((wanted, distribution), part) in self.histograms(histograms).into_iter().zip(parts) {
            if wanted {
                distribution.add(part);
            }
        }
    }

    /// Each histogram and whether it is asked for, in the order of [`StreamShard`].
    fn histograms(&mut self, asked: Histograms) -> [(bool, &mut Distribution); 5] {
        [
            (asked.first_token, &mut self.first_token),
            (asked.between_tokens, &mut self.between_tokens),
            (asked.input_tokens, &mut self.input),
            (asked.output_tokens, &mut self.output),
            (asked.cost, &mut self.cost),
        ]
    }
}
