//! How answers are read, and what they cost.

use std::sync::Arc;
use std::time::Duration;

use super::super::file;
use super::super::scalar::{ModelName, Number, Ordered, Text};
use super::scope::Scope;
use crate::routing::spec::{Dialect, Encoded, Prices, StreamSpec};
use crate::routing::streams::Price;

const MAX_PRICES: usize = 1_000;
/// A whole unit of the currency per token: more is a slip.
const MAX_PRICE: f64 = 1e6;

pub(super) fn streams(given: file::Streams, prices: &Arc<Prices>, scope: &mut Scope<'_, '_>) -> StreamSpec {
    const DAY: Duration = Duration::from_secs(86_400);
    let dialect = dialect(given.dialect.unwrap_or(file::Dialect::Auto));
    let unread = [
        ("encoded", given.encoded.is_some()),
        ("stall_timeout", given.stall_timeout.is_some()),
        ("heartbeat", given.heartbeat.is_some()),
        ("input_tokens_header", given.input_tokens_header.is_some()),
        ("output_tokens_header", given.output_tokens_header.is_some()),
    ];
    for (key, _) in unread.into_iter().filter(|(_, given)| *given && dialect == Dialect::Off) {
        scope.error(&format!("streams.{key}"), "says how answers are read, and `dialect: off` that they are not");
    }
    let mut duration = |key: &str, given: Option<Text<Duration>>, least| {
        given.map(|given| scope.duration(&format!("streams.{key}"), Some(given), DAY, least..=DAY))
    };
    StreamSpec {
        dialect,
        encoded: match given.encoded {
            None | Some(file::Encoded::Opaque) => Encoded::Opaque,
            Some(file::Encoded::Decode) => Encoded::Decode,
        },
        stall_timeout: duration("stall_timeout", given.stall_timeout, Duration::from_millis(100)),
        heartbeat: duration("heartbeat", given.heartbeat, Duration::from_secs(1)),
        input_tokens_header: given.input_tokens_header.map(|Text(name)| name),
        output_tokens_header: given.output_tokens_header.map(|Text(name)| name),
        prices: prices.clone(),
    }
}

fn dialect(given: file::Dialect) -> Dialect {
    match given {
        file::Dialect::Auto => Dialect::Auto,
        file::Dialect::OpenAi => Dialect::OpenAi,
        file::Dialect::Anthropic => Dialect::Anthropic,
        file::Dialect::A2a => Dialect::A2a,
        file::Dialect::Mcp => Dialect::Mcp,
        file::Dialect::Plain => Dialect::Plain,
        file::Dialect::Off => Dialect::Off,
    }
}

pub(super) fn prices(given: Ordered<ModelName, file::Price>, scope: &mut Scope<'_, '_>) -> Prices {
    if given.0.len() > MAX_PRICES {
        scope.error("prices", format!("{} prices; expected at most {MAX_PRICES}", given.0.len()));
    }
    let mut prices = Vec::with_capacity(given.0.len().min(MAX_PRICES));
    for (ModelName(model), price) in given.0.into_iter().take(MAX_PRICES) {
        let path = format!("prices.{model}");
        if price.input.is_none() && price.output.is_none() && !scope.is_damaged(&path) {
            scope.error(
                &path,
                "the price is empty; expected `input` and `output`, such as `{ input: 2.5, output: 10 }`",
            );
        }
        let mut side = |key, given: Option<Text<Number>>| {
            given.map_or(0, |Text(Number(number))| per_token(number, &format!("{path}.{key}"), scope))
        };
        let (input, output) = (side("input", price.input), side("output", price.output));
        prices.push((model, Price { input, output }));
    }
    Prices::new(prices)
}

/// In 1e-12 of the currency, which is a millionth of it per million.
fn per_token(per_million: f64, path: &str, scope: &mut Scope<'_, '_>) -> u64 {
    if !(0.0..=MAX_PRICE).contains(&per_million) {
        let expected = format!("expected 0 to {MAX_PRICE}, per million tokens");
        scope.error(path, format!("{per_million} is out of range; {expected}"));
        return 0;
    }
    (per_million * 1e6).round() as u64
}
