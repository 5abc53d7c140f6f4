//! The JSON Schema of the file, for editors. It comes from the file's types, so that it cannot disagree
//! with what is read; the checks that need more than one value at a time are not in it.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::file::File;

/// Draft 2020-12.
pub fn schema() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>();
    let mut schema = schema.to_value();
    forget_null(&mut schema);
    allow_references(&mut schema);
    schema
}

/// A key without a value is taken as left out, but nobody needs to be offered that; and an editor's errors
/// are far better without the alternative.
fn forget_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget_null),
        Value::Object(object) => {
            let null = json!({ "type": "null" });
            if let Some(Value::Array(alternatives)) = object.get("anyOf")
                && let [Value::Object(only), other] = alternatives.as_slice()
                && *other == null
            {
                let only = only.clone();
                object.remove("anyOf");
                object.extend(only);
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            object.values_mut().for_each(forget_null);
        }
        _ => {}
    }
}

/// Numbers and booleans may also come from the environment, and are texts in the file then.
fn allow_references(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(allow_references),
        Value::Object(object) => {
            let types = match object.get("type") {
                Some(Value::String(one)) => vec![one.clone()],
                Some(Value::Array(several)) => several.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect(),
                _ => Vec::new(),
            };
            let is = |name: &str| types.iter().any(|t| t == name);
            if (is("integer") || is("boolean")) && !is("string") {
                let types: Vec<&str> = types.iter().map(String::as_str).chain(["string"]).collect();
                object.insert("type".into(), json!(types));
                // Says nothing of numbers and booleans.
                object.insert("pattern".into(), json!(r"^\$\{.+\}$"));
            }
            object.values_mut().for_each(allow_references);
        }
        _ => {}
    }
}
