//! A completion in the shape of Anthropic's messages.

use bytes::Bytes;
use serde_json::{Value, json};

use super::completion::Completion;
use super::script::Script;

pub fn whole(completion: &Completion) -> Value {
    let mut whole = message(completion);
    whole["content"] = json!([{ "type": "text", "text": completion.text() }]);
    whole["stop_reason"] = json!(stop_reason(completion));
    whole["usage"]["output_tokens"] = json!(completion.tokens);
    whole
}

pub fn script(completion: &Completion) -> Script {
    let delta = |word: &str| {
        event(json!({
            "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word },
        }))
    };
    let end = json!({ "stop_reason": stop_reason(completion), "stop_sequence": null });
    let usage = json!({ "output_tokens": completion.tokens });
    let block = json!({ "type": "text", "text": "" });
    let error = json!({ "type": "overloaded_error", "message": "the mock agent was told to fail" });
    Script {
        content_type: "text/event-stream",
        opening: vec![
            event(json!({ "type": "message_start", "message": message(completion) })),
            event(json!({ "type": "content_block_start", "index": 0, "content_block": block })),
            event(json!({ "type": "ping" })),
        ],
        tokens: completion.each_token(delta),
        closing: vec![
            event(json!({ "type": "content_block_stop", "index": 0 })),
            event(json!({ "type": "message_delta", "delta": end, "usage": usage })),
            event(json!({ "type": "message_stop" })),
        ],
        error: event(json!({ "type": "error", "error": error })),
    }
}

/// As it is before the first token: Anthropic counts one token out already then.
fn message(completion: &Completion) -> Value {
    json!({
        "id": format!("msg_{}", completion.id), "type": "message", "role": "assistant", "model": completion.model,
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": { "input_tokens": completion.prompt_tokens, "output_tokens": 1 },
    })
}

fn event(data: Value) -> Bytes {
    let name = data["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn stop_reason(completion: &Completion) -> &'static str {
    if completion.is_shortened { "max_tokens" } else { "end_turn" }
}
