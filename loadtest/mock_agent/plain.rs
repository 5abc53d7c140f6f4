//! Streams of no vendor: server-sent events whose end is the end of the body, and lines of JSON.

use serde_json::json;

use super::completion::Completion;
use super::script::Script;

pub fn server_sent_events(completion: &Completion) -> Script {
    Script {
        content_type: "text/event-stream",
        opening: vec![format!(": {}\n\n", completion.model).into()],
        tokens: completion.each_token(|word| format!("event: token\ndata: {word}\n\n").into()),
        closing: Vec::new(),
        error: "event: error\ndata: the mock agent was told to fail\n\n".into(),
    }
}

pub fn lines(completion: &Completion) -> Script {
    let line = |data| format!("{data}\n").into();
    let last = json!({
        "model": completion.model, "version": completion.version, "done": true,
        "usage": { "input_tokens": completion.prompt_tokens, "output_tokens": completion.tokens },
    });
    Script {
        content_type: "application/x-ndjson",
        opening: Vec::new(),
        tokens: completion.each_token(|word| line(json!({ "model": completion.model, "token": word, "done": false }))),
        closing: vec![line(last)],
        error: line(json!({ "error": "the mock agent was told to fail" })),
    }
}
