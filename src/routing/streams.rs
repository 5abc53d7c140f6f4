//! How an agent's answers are read as they pass, and what their tokens cost.
//!
//! A price is found by the model's exact name, then by the longest pattern `prefix*` that fits, then by
//! `default`. Sums are exact: a price per million tokens with up to six decimals is a whole number of
//! 1e-12 of the currency per token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::telemetry::stats::Usage;

/// The defaults are those of an agent without `streams`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamSpec {
    pub dialect: Dialect,
    pub encoded: Encoded,
    /// No event of a stream for this long ends it as stalled; `None`: only the idle timeout holds.
    pub stall_timeout: Option<Duration>,
    /// A comment is sent to the client at an event boundary where the agent is silent for this long.
    pub heartbeat: Option<Duration>,
    /// Response headers that tell the usage where the body does not.
    pub input_tokens_header: Option<HeaderName>,
    pub output_tokens_header: Option<HeaderName>,
    /// Shared by all agents.
    pub prices: Arc<Prices>,
}

/// What the agent's answers are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Found from the first events.
    #[default]
    Auto,
    OpenAi,
    Anthropic,
    A2a,
    Mcp,
    /// Events or lines without a terminal marker: a clean end is complete.
    Plain,
    /// Not read at all.
    Off,
}

/// What is done with answers that have a content coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoded {
    /// Passed unread and counted as such.
    #[default]
    Opaque,
    /// Decoded on the side to be read; what the client gets is not changed.
    Decode,
}

/// What a million tokens of each model cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    exact: BTreeMap<Box<str>, Price>,
    /// Without their `*`, longest first.
    prefixes: Vec<(Box<str>, Price)>,
    default: Option<Price>,
}

/// In 1e-12 of the currency per token, which is 1e-6 of it per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
}

/// The name in a price table of the price for models that it does not name.
pub const DEFAULT_PRICE: &str = "default";

impl Prices {
    /// Of names, patterns that end in `*`, and [`DEFAULT_PRICE`]. Of equal names the last counts.
    pub fn new(entries: impl IntoIterator<Item = (String, Price)>) -> Self {
        let mut prices = Self::default();
        for (name, price) in entries {
            if name == DEFAULT_PRICE {
                prices.default = Some(price);
            } else if let Some(prefix) = name.strip_suffix('*') {
                prices.prefixes.push((prefix.into(), price));
            } else {
                prices.exact.insert(name.into(), price);
            }
        }
        prices.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        prices
    }

    fn find(&self, model: &str) -> Option<&Price> {
        let by_prefix =
            || self.prefixes.iter().find(|(prefix, _)| model.starts_with(&**prefix)).map(|(_, price)| price);
        self.exact.get(model).or_else(by_prefix).or(self.default.as_ref())
    }

    /// In 1e-9 of the currency, rounded down; `None` without a usage or a price. A side that the answer does
    /// not tell costs nothing.
    pub fn cost_nanos(&self, model: &str, usage: Usage) -> Option<u64> {
        if !usage.is_known() {
            return None;
        }
        let price = self.find(model)?;
        let side = |tokens: Option<u64>, price: u64| u128::from(tokens.unwrap_or(0)) * u128::from(price);
        let total = side(usage.input_tokens, price.input).saturating_add(side(usage.output_tokens, price.output));
        Some(u64::try_from(total / 1000).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices() -> Prices {
        let price = |input, output| Price { input, output };
        Prices::new([
            ("gpt-5*".into(), price(1_250_000, 10_000_000)),
            ("gpt-5-mini*".into(), price(250_000, 2_000_000)),
            ("gpt-5-mini-2025".into(), price(1, 1)),
        ])
    }

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input_tokens: Some(input), output_tokens: Some(output) }
    }

    #[test]
    fn a_price_is_found_by_name_then_by_the_longest_pattern_then_by_default() {
        let table = prices();
        // 1.25 per million: 1,250 nanos a token.
        assert_eq!(table.cost_nanos("gpt-5", usage(1, 0)), Some(1_250));
        assert_eq!(table.cost_nanos("gpt-5-2025-08-07", usage(1_000_000, 100_000)), Some(2_250_000_000));
        assert_eq!(table.cost_nanos("gpt-5-mini-x", usage(0, 3)), Some(6_000));
        assert_eq!(table.cost_nanos("gpt-5-mini-2025", usage(1_000, 1_000)), Some(2));
        assert_eq!(table.cost_nanos("claude", usage(1, 1)), None);
        let with_default = Prices::new([(DEFAULT_PRICE.to_owned(), Price { input: 1_000, output: 0 })]);
        assert_eq!(with_default.cost_nanos("claude", usage(5, 5)), Some(5));
    }

    #[test]
    fn without_usage_there_is_no_cost_and_no_sum_overflows() {
        assert_eq!(prices().cost_nanos("gpt-5", Usage::default()), None);
        assert_eq!(prices().cost_nanos("gpt-5", Usage { input_tokens: None, output_tokens: Some(2) }), Some(20_000));
        assert_eq!(prices().cost_nanos("gpt-5", usage(u64::MAX, u64::MAX)), Some(u64::MAX));
    }
}
