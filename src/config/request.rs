//! A deployment that an operator asks for by the API: the keys of the file's block in camelCase, and the same
//! checks with the same words, so that neither author can say what the other could not.
//!
//! The body stands where the file would have its block, as a tree like the file's; only the spelling of keys
//! differs, in the body and in what is said of it. Nothing is taken from the environment.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::check;
use super::errors::{ConfigError, Place, Report};
use super::file;
use super::node::{Kind, Node};
use crate::control::model::DeploymentSpec;
use crate::control::request::{DeploymentRequest, FieldError};
use crate::routing::spec::AgentSpec;

const HEALTH: &str = "health";

/// The request, or everything that is wrong with it; fields as the body has them, such as `guards[0].minRequests`.
pub fn deployment(body: Value, agent: &AgentSpec) -> Result<DeploymentRequest, Vec<FieldError>> {
    let mut report = Report::new("body");
    // Any JSON is a tree.
    let spec = serde_json::from_value::<Node>(body).ok().and_then(|mut block| {
        refuse_health(&mut block, &mut report);
        take_over_keys(&mut block, "deployment", &mut report);
        check::deployment_block(block, agent, &mut report)
    });
    match report.finish(spec) {
        Ok(spec) => Ok(request(spec)),
        Err(errors) => Err(errors.iter().map(field_error).collect()),
    }
}

/// Health checks may run commands, so that only who may write the file may ask for them.
fn refuse_health(block: &mut Node, report: &mut Report) {
    let Kind::Map(entries) = &mut block.kind else { return };
    for entry in entries.iter_mut().filter(|entry| entry.key.text() == HEALTH) {
        let message = "health checks stand in the file alone, for they may run commands; expected no such key here";
        report.error(Place::START, format!("deployment.{HEALTH}"), message);
        entry.value.removed = true;
    }
}

/// The JSON Schema of the body, in one piece.
pub fn deployment_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<file::Deployment>().to_value();
    in_json(&mut schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.remove(HEALTH);
    }
    schema
}

fn request(spec: DeploymentSpec) -> DeploymentRequest {
    DeploymentRequest {
        steps: (!spec.strategy.moves_all_at_once()).then_some(spec.steps),
        rolling: None,
        bake: Some(spec.bake),
        version: spec.version,
        strategy: spec.strategy,
        guards: spec.guards,
        queries: spec.queries,
        on_breach: spec.on_breach,
        cooldown: spec.cooldown,
        drain_timeout: spec.drain_timeout,
        audience: spec.audience,
    }
}

fn field_error(error: &ConfigError) -> FieldError {
    let path = error.path.strip_prefix("deployment").unwrap_or(&error.path);
    FieldError::new(in_camel_case(path.trim_start_matches('.')), in_camel_case(&error.message))
}

/// The file's keys of more than one word, with their spelling in JSON.
static KEYS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<file::Deployment>().to_value();
    let mut keys = Vec::new();
    collect_keys(&schema, &mut keys);
    // The longest first, so that none is taken for the beginning of another.
    keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
    keys.dedup();
    keys.into_iter().map(|key| (key.clone(), camel_case(&key))).collect()
});

fn collect_keys(schema: &Value, keys: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                keys.extend(properties.keys().filter(|key| key.contains('_')).cloned());
            }
            object.values().for_each(|part| collect_keys(part, keys));
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect_keys(part, keys)),
        _ => {}
    }
}

fn camel_case(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        camel + &head.to_ascii_uppercase() + tail
    })
}

fn in_camel_case(text: &str) -> String {
    KEYS.iter().fold(text.to_owned(), |text, (key, camel)| text.replace(key, camel))
}

/// Spells the keys as the file does. What is spelled so already is no key of a body.
fn take_over_keys(node: &mut Node, path: &str, report: &mut Report) {
    match &mut node.kind {
        Kind::Map(entries) => {
            for entry in entries {
                let Kind::Scalar(key) = &mut entry.key.kind else { continue };
                if let Some((_, camel)) = KEYS.iter().find(|(snake, _)| *snake == key.text) {
                    report.error(
                        Place::START,
                        format!("{path}.{}", key.text),
                        format!("expected `{camel}` as the key"),
                    );
                    entry.value.removed = true;
                    continue;
                }
                if let Some((snake, _)) = KEYS.iter().find(|(_, camel)| *camel == key.text) {
                    key.text.clone_from(snake);
                }
                let path = format!("{path}.{}", key.text);
                take_over_keys(&mut entry.value, &path, report);
            }
        }
        Kind::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                take_over_keys(item, &format!("{path}[{index}]"), report);
            }
        }
        Kind::Scalar(_) | Kind::Tagged(_) => {}
    }
}

/// Keys as in JSON, and no text that stands for the environment.
fn in_json(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                let old = std::mem::take(properties);
                properties.extend(old.into_iter().map(|(key, part)| (in_camel_case(&key), part)));
            }
            if let Some(Value::Array(required)) = object.get_mut("required") {
                required.iter_mut().for_each(|key| *key = in_camel_case(key.as_str().unwrap_or_default()).into());
            }
            for name in ["description", "pattern"] {
                if let Some(Value::String(text)) = object.get_mut(name) {
                    *text = in_camel_case(text).replace(r"|.*\$\{.*", "");
                }
            }
            object.values_mut().for_each(in_json);
        }
        Value::Array(parts) => parts.iter_mut().for_each(in_json),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::fixture::an_agent;

    fn errors(body: Value) -> Vec<String> {
        deployment(body, &an_agent()).expect_err("is wrong").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_body_means_what_the_files_block_means() {
        let body = json!({
            "version": "1.5.0",
            "steps": [{ "weight": "5%", "hold": "30m" }, { "weight": "100%" }],
            "bake": "1h",
            "onBreach": "pause",
            "guards": [{ "metric": "error_rate", "above": "5%", "minRequests": 20 }],
        });
        let request = deployment(body, &an_agent()).expect("is sound");
        let yaml = "{version: 1.5.0, steps: [{weight: 5%, hold: 30m}, {weight: 100%}], bake: 1h, on_breach: pause, \
                    guards: [{metric: error_rate, above: 5%, min_requests: 20}]}";
        let file = format!(
            "agents: {{a: {{versions: {{1.4.2: {{endpoints: []}}, 1.5.0: {{endpoints: []}}}}, stable: 1.4.2, deployment: {yaml}}}}}"
        );
        let config = crate::config::Config::parse("f", &file, &|_| None).expect("is sound");
        let spec = config.agents[0].deployment.clone().expect("has one");
        assert_eq!(request.spec(spec.fingerprint.clone(), 1), Ok(spec));
    }

    #[test]
    fn strategies_without_steps_are_asked_for_without_steps() {
        for strategy in ["immediate", "blue-green", "rolling", "canary"] {
            let request =
                deployment(json!({ "version": "1.5.0", "strategy": strategy }), &an_agent()).expect("is sound");
            let spec = request.spec("x".into(), 1).expect("is sound");
            assert_eq!(spec.strategy.as_str(), strategy);
        }
    }

    #[test]
    fn every_error_is_told_at_once_in_the_bodys_own_spelling() {
        let body = json!({
            "version": "9.9.9",
            "on_breach": "pause",
            "cooldwon": "1m",
            "steps": [{ "weight": "120%" }, { "weight": 5, "hold": "soon" }],
            "guards": [
                { "metric": "error_rate", "above": "5%", "worseThanStableBy": "1%" },
                { "metric": "latency_p95", "worseThanStableBy": "1%", "confidence": "99.9%" },
                { "metric": "error_rate", "above": "5%", "min_requests": 5 },
            ],
        });
        let errors = errors(body);
        for part in [
            "version: ",
            "onBreach: expected `onBreach`",
            "cooldwon: unknown key",
            "steps[0].weight: ",
            "steps[1].weight: ",
            "steps[1].hold: ",
            "guards[0].worseThanStableBy: ",
            "guards[1].worseThanStableBy: ",
            "guards[2].minRequests: expected `minRequests`",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(part)), "{part}: {errors:#?}");
        }
        assert!(errors.iter().all(|error| !error.contains("_than") && !error.contains("min_")), "{errors:#?}");
    }

    #[test]
    fn anything_but_an_object_is_refused_and_nothing_comes_from_the_environment() {
        for body in [json!(null), json!([]), json!("canary"), json!({ "version": ["1.5.0"] }), json!({})] {
            assert!(!errors(body).is_empty());
        }
        assert!(!errors(json!({ "version": "${HOME}" })).is_empty());
    }

    #[test]
    fn no_health_check_comes_from_outside_of_the_file() {
        let body = |health: Value| json!({ "version": "1.5.0", "health": health });
        for health in [json!([{ "command": ["true"] }]), json!([]), json!(null)] {
            let errors = errors(body(health));
            assert!(
                errors.len() == 1 && errors[0].starts_with("health: health checks stand in the file"),
                "{errors:?}"
            );
        }
        assert!(deployment_schema()["properties"][HEALTH].is_null());
    }

    #[test]
    fn the_schema_is_in_the_bodys_spelling() {
        let text = deployment_schema().to_string();
        for (snake, camel) in KEYS.iter() {
            assert!(text.contains(&format!("\"{camel}\"")) && !text.contains(snake), "{snake}: {text}");
        }
        assert!(KEYS.iter().any(|(snake, _)| snake == "worse_than_stable_by"));
        assert!(!text.contains("$ref") && !text.contains(r"\$\\{"), "{text}");
    }
}
