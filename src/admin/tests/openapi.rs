//! The document against the endpoint table, and against itself.

use std::collections::HashSet;

use serde_json::Value;

use super::port::Port;
use crate::admin::auth::Access;
use crate::admin::error::Kind;
use crate::admin::openapi::path_parameters;
use crate::admin::routes::endpoints;

#[tokio::test]
async fn every_endpoint_is_in_the_document_and_nothing_else() {
    let document = Port::local().await.get("/api/v1/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = HashSet::new();
    for endpoint in endpoints() {
        let operation = &document["paths"][&endpoint.path][endpoint.method.as_str().to_ascii_lowercase()];
        assert_eq!(operation["operationId"], endpoint.name, "{}", endpoint.path);
        assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{}", endpoint.name);
        assert!(names.insert(endpoint.name), "{} is there twice", endpoint.name);
        let parameters = operation["parameters"].as_array().expect("parameters");
        for name in path_parameters(&endpoint.path) {
            let declared = parameters.iter().any(|p| p["name"] == name && p["in"] == "path" && p["required"] == true);
            assert!(declared, "{} has no {name}", endpoint.name);
        }
        for status in endpoint.statuses {
            assert!(operation["responses"][status.as_str()]["content"].is_object(), "{}", endpoint.name);
        }
        if let Access::Api(role) = endpoint.access {
            assert!(operation["description"].as_str().is_some_and(|d| d.contains(role.as_str())), "{}", endpoint.name);
            assert!(operation["responses"]["401"].is_object() && operation["responses"]["403"].is_object());
        }
    }
    let operations = document["paths"].as_object().expect("paths").values().filter_map(Value::as_object);
    assert_eq!(operations.map(|path| path.len()).sum::<usize>(), names.len());
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = Port::local().await.get("/api/v1/openapi.json").await.json();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.iter().any(|r| r == "#/components/schemas/Problem"), "refusals are described");
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            references.extend(object.get("$ref").and_then(Value::as_str).map(String::from));
            object.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn each_kind_of_problem_has_a_name_of_its_own_and_its_status_is_an_error() {
    let names: HashSet<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
        assert_eq!(kind.uri(), format!("urn:pointsman:problem:{}", kind.code()));
    }
}
