//! A `deployment` block of the configuration file, as a request of the API: the same words, in camelCase.

use serde_json::{Map, Value};

/// Reads a YAML (or JSON) map.
pub fn parse(text: &str) -> Result<Map<String, Value>, String> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
    match camel_case(value) {
        Value::Object(map) => Ok(map),
        _ => Err("expected a map, such as `version: 1.5.0`".into()),
    }
}

/// A block, or a file that has it under `deployment:`, as one copies it out of the configuration.
pub fn deployment(text: &str) -> Result<Map<String, Value>, String> {
    let mut map = parse(text)?;
    match map.remove("deployment") {
        None => Ok(map),
        Some(Value::Object(block)) if map.is_empty() => Ok(block),
        Some(_) => Err("expected a deployment block, or one under `deployment:` and nothing beside it".into()),
    }
}

fn camel_case(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (camel(&key), camel_case(value))).collect(),
        Value::Array(items) => items.into_iter().map(camel_case).collect(),
        other => other,
    }
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut camel, word| {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
        camel
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_block_of_the_file_becomes_a_request() {
        let block = "\
version: 1.5.0
steps: [{ weight: 5%, hold: 30m }, { weight: 100% }]
on_breach: pause
guards:
  - { metric: error_rate, worse_than_stable_by: 1%, confidence: 99.9% }
";
        let expected = json!({
            "version": "1.5.0",
            "steps": [{ "weight": "5%", "hold": "30m" }, { "weight": "100%" }],
            "onBreach": "pause",
            "guards": [{ "metric": "error_rate", "worseThanStableBy": "1%", "confidence": "99.9%" }],
        });
        assert_eq!(Value::Object(deployment(block).unwrap()), expected);
        let indented: String = block.lines().map(|line| format!("  {line}\n")).collect();
        assert_eq!(Value::Object(deployment(&format!("deployment:\n{indented}")).unwrap()), expected);
        assert_eq!(Value::Object(deployment(&expected.to_string()).unwrap()), expected, "JSON is YAML");
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for (text, words) in [
            ("", "expected a map"),
            ("5%", "expected a map"),
            ("deployment: 5", "deployment block"),
            ("deployment: { version: 1.0.0 }\nstable: 1.0.0", "nothing beside it"),
            ("version: [", "line 2"),
            ("version: 1.0.0\nversion: 2.0.0", "duplicate"),
        ] {
            let refusal = deployment(text).unwrap_err();
            assert!(refusal.contains(words), "{text:?}: {refusal}");
        }
    }
}
