//! A completion in OpenAI's shape.

use bytes::Bytes;
use serde_json::{Value, json};

use super::completion::Completion;
use super::script::Script;

pub fn whole(completion: &Completion) -> Value {
    let message = json!({ "role": "assistant", "content": completion.text() });
    let choice = json!({ "index": 0, "message": message, "finish_reason": finish_reason(completion) });
    let mut whole = envelope(completion, "chat.completion", json!([choice]));
    whole["usage"] = usage(completion);
    whole
}

pub fn script(completion: &Completion, include_usage: bool) -> Script {
    let mut closing = vec![chunk(completion, json!({}), Some(finish_reason(completion)))];
    if include_usage {
        let mut last = envelope(completion, "chat.completion.chunk", json!([]));
        last["usage"] = usage(completion);
        closing.push(event(&last));
    }
    closing.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let error = json!({ "message": "the mock agent was told to fail", "type": "server_error", "code": "mock_failure" });
    Script {
        content_type: "text/event-stream",
        opening: vec![chunk(completion, json!({ "role": "assistant", "content": "" }), None)],
        tokens: completion.each_token(|word| chunk(completion, json!({ "content": word }), None)),
        closing,
        error: event(&json!({ "error": error })),
    }
}

fn chunk(completion: &Completion, delta: Value, finish_reason: Option<&str>) -> Bytes {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
    event(&envelope(completion, "chat.completion.chunk", json!([choice])))
}

fn event(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}

fn envelope(completion: &Completion, object: &str, choices: Value) -> Value {
    json!({
        "id": format!("chatcmpl-{}", completion.id), "object": object,
        "created": completion.created, "model": completion.model,
        // OpenAI's field for "which build answered": here, the agent version.
        "system_fingerprint": completion.version,
        "choices": choices,
    })
}

fn finish_reason(completion: &Completion) -> &'static str {
    if completion.is_shortened { "length" } else { "stop" }
}

fn usage(completion: &Completion) -> Value {
    let (prompt, answer) = (completion.prompt_tokens, u64::from(completion.tokens));
    json!({ "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer })
}
