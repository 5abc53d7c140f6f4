//! `--guard`: a guard in one line, as people write it, or as the YAML map that the file has.
//!
//! ```text
//! error_rate > 5% window=5m min=50
//! latency_p95 > 3s confidence=99%
//! error_rate > stable + 1% confidence=99.9%
//! output_tokens_mean > 1500 cap=8000 confidence=99.9%
//! {query: 'sum(rate(…))', above: 5, interval: 30s}
//! ```
//!
//! Only the form is checked here. What the words mean is the server's to say: it has one set of rules for the
//! file and for the API, and names every field that is wrong.

use serde_json::{Map, Value};

use super::block;
use crate::routing::parse::nearest;

/// What may follow the condition, as it is written here and as the API has it.
const OPTIONS: [(&str, &str); 6] = [
    ("window", "window"),
    ("min", "minRequests"),
    ("min_requests", "minRequests"),
    ("confidence", "confidence"),
    ("slower_than", "slowerThan"),
    ("cap", "cap"),
];

const EXPECTED: &str = "expected METRIC > LIMIT, such as 'error_rate > 5% window=5m min=50' or \
                        'error_rate > stable + 1% confidence=99.9%'";

/// One guard of the request.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        return block::parse(text).map(Value::Object);
    }
    let (metric, rest) = text.split_once('>').ok_or(EXPECTED)?;
    let mut guard = Map::new();
    set(&mut guard, "metric", one_word(metric)?)?;
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix("stable") {
        Some(margin) => {
            let margin = margin.trim_start().strip_prefix('+').ok_or(EXPECTED)?;
            limit(&mut guard, "worseThanStableBy", margin)?
        }
        None => limit(&mut guard, "above", rest)?,
    };
    for option in rest.split_whitespace() {
        let (name, value) = option.split_once('=').ok_or_else(|| format!("`{option}`: expected NAME=VALUE"))?;
        let known = OPTIONS.iter().find(|(known, _)| *known == name);
        let (_, field) = known.ok_or_else(|| unknown_option(name))?;
        set(&mut guard, field, value)?;
    }
    Ok(Value::Object(guard))
}

/// Takes the limit, and gives what follows it.
fn limit<'t>(guard: &mut Map<String, Value>, field: &str, text: &'t str) -> Result<&'t str, String> {
    let text = text.trim_start();
    let (limit, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    set(guard, field, limit)?;
    Ok(rest)
}

fn set(guard: &mut Map<String, Value>, field: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    // A count is a number in JSON; everything else has a unit.
    let value = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
    match guard.insert(field.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(format!("`{field}` is there twice")),
    }
}

fn one_word(text: &str) -> Result<&str, String> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word),
        _ => Err(EXPECTED.to_owned()),
    }
}

fn unknown_option(name: &str) -> String {
    let names = OPTIONS.map(|(name, _)| name);
    let hint = nearest(name, names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("`{name}`: expected one of {}{hint}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn guards_read_as_they_are_written() {
        for (text, guard) in [
            ("error_rate > 5%", json!({ "metric": "error_rate", "above": "5%" })),
            (
                "error_rate>5% window=5m min=50",
                json!({ "metric": "error_rate", "above": "5%", "window": "5m", "minRequests": 50 }),
            ),
            ("latency_p95 > 3s confidence=99%", json!({ "metric": "latency_p95", "above": "3s", "confidence": "99%" })),
            (
                "ttfb_p95 > stable + 2% slower_than=800ms confidence=99%",
                json!({ "metric": "ttfb_p95", "worseThanStableBy": "2%", "slowerThan": "800ms", "confidence": "99%" }),
            ),
            (
                "cost_per_request_mean > 0.05 cap=0.5 confidence=99%",
                json!({ "metric": "cost_per_request_mean", "above": "0.05", "cap": "0.5", "confidence": "99%" }),
            ),
            ("error_rate>stable+1%", json!({ "metric": "error_rate", "worseThanStableBy": "1%" })),
            (
                "{query: 'sum(x) > 1', above: 5, interval: 30s, min_requests: 3}",
                json!({ "query": "sum(x) > 1", "above": 5, "interval": "30s", "minRequests": 3 }),
            ),
        ] {
            assert_eq!(parse(text).unwrap(), guard, "{text}");
        }
    }

    #[test]
    fn what_is_no_guard_is_refused_with_an_example() {
        for (text, words) in [
            ("", "METRIC > LIMIT"),
            ("error_rate", "METRIC > LIMIT"),
            ("error_rate >", "METRIC > LIMIT"),
            ("> 5%", "METRIC > LIMIT"),
            ("error rate > 5%", "METRIC > LIMIT"),
            ("error_rate > stable", "METRIC > LIMIT"),
            ("error_rate > 5% 5m", "`5m`: expected NAME=VALUE"),
            ("error_rate > 5% windw=5m", "did you mean `window`?"),
            ("error_rate > 5% min=5 min_requests=6", "twice"),
            ("{metric: [", "line 2"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }
}
