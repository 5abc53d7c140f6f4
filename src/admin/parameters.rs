//! The parameters that endpoints share, as the OpenAPI document describes them.

use serde_json::{Value, json};

use super::page::{DEFAULT_LIMIT, MAX_LIMIT};

pub struct Parameter {
    pub name: &'static str,
    /// `query` or `header`.
    pub place: &'static str,
    pub description: &'static str,
    pub schema: fn() -> Value,
}

const fn query(name: &'static str, description: &'static str, schema: fn() -> Value) -> Parameter {
    Parameter { name, place: "query", description, schema }
}

const fn header(name: &'static str, description: &'static str, schema: fn() -> Value) -> Parameter {
    Parameter { name, place: "header", description, schema }
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn flag() -> Value {
    json!({ "type": "boolean", "default": false })
}

pub const ENVIRONMENT: Parameter =
    query("environment", "Which environment. Needed only where several have an agent of that name.", text);
pub const AGENT: Parameter = query("agent", "Only of this agent.", text);
pub const OF_ENVIRONMENT: Parameter = query("environment", "Only of this environment.", text);
pub const AFTER_RECORD: Parameter = query(
    "after",
    "Only what comes after the record of this number, in the order that is asked for.",
    || json!({ "type": "integer", "minimum": 0 }),
);
pub const ORDER_OF_RECORDS: Parameter = query(
    "order",
    "Whether the oldest records come first, or the newest.",
    || json!({ "type": "string", "enum": ["oldest", "newest"], "default": "oldest" }),
);
pub const AFTER: Parameter = query("after", "Where the page begins: `next` of the page before.", text);
pub const LIMIT: Parameter = query(
    "limit",
    "How many items a page may have.",
    || json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT }),
);
pub const DRY_RUN: Parameter = query("dryRun", "Check everything and say what would happen, but change nothing.", flag);
pub const IF_MATCH: Parameter = header(
    "If-Match",
    "The revision that the caller knows, as the ETag gave it. If it has moved on meanwhile, the command is refused.",
    || json!({ "type": "string", "pattern": "^(\\*|\"[0-9]{1,19}\")$" }),
);
pub const IDEMPOTENCY_KEY: Parameter = header(
    "Idempotency-Key",
    "Any text of the caller's choice that names this request: sent again with the same key, it is not carried out \
     twice but answered with the first answer, for 24 hours.",
    || json!({ "type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$" }),
);
pub const LAST_EVENT_ID: Parameter =
    header("Last-Event-ID", "The id of the last event that was received: the stream goes on after it.", text);
pub const KEY: Parameter = query("key", "The bucketing key itself, instead of a request that holds one.", text);
pub const HEADER: Parameter = query(
    "header",
    "A header field of the request that is asked about, as `name:value`; repeatable.",
    || json!({ "type": "array", "items": { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ -~]*$" } }),
);
pub const HOST: Parameter = query("host", "Its Host.", text);
pub const PATH: Parameter = query("path", "Its path, and query.", text);
pub const METHOD: Parameter =
    query("method", "Its method.", || json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" }));
pub const CLIENT: Parameter = query(
    "client",
    "The IP address that it comes from.",
    || json!({ "anyOf": [{ "type": "string", "format": "ipv4" }, { "type": "string", "format": "ipv6" }] }),
);
