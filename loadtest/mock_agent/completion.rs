//! One chat completion, whole or as a stream of server-sent events, in OpenAI's shape.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use super::behaviour::Behaviour;

/// What the agent says, over and over: one word is one token.
const WORDS: [&str; 8] = ["The", " points", " are", " set,", " the", " train", " may", " pass."];

/// The part of a request that makes a difference here.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: StreamOptions,
    #[serde(default, alias = "max_completion_tokens")]
    max_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Message {
    /// A text, or a list of parts; anything else counts as empty.
    #[serde(default)]
    content: Value,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Answers request `number` as `version`.
pub fn answer(asked: &Asked, version: &str, number: u64, behaviour: &Behaviour) -> Response {
    let completion = Completion::new(asked, version, number, behaviour);
    if !asked.stream {
        return Json(completion.whole()).into_response();
    }
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    let events = Events {
        completion,
        include_usage: asked.stream_options.include_usage,
        interval: behaviour.token_interval.get(),
        next: Event::Role,
        due: Box::pin(tokio::time::sleep(behaviour.first_token.get())),
    };
    (headers, Body::new(events)).into_response()
}

/// What is said of one completion, however it is sent.
struct Completion {
    id: String,
    created: u64,
    model: String,
    version: String,
    prompt_tokens: u64,
    tokens: u32,
    finish_reason: &'static str,
}

impl Completion {
    fn new(asked: &Asked, version: &str, number: u64, behaviour: &Behaviour) -> Self {
        let full = behaviour.tokens.get();
        let tokens = asked.max_tokens.unwrap_or(full).min(full);
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            id: format!("chatcmpl-{version}-{number}"),
            created: since_epoch.as_secs(),
            model: asked.model.clone().unwrap_or_else(|| "mock".to_owned()),
            version: version.to_owned(),
            prompt_tokens: asked.messages.iter().map(|m| words(&m.content)).sum(),
            tokens,
            finish_reason: if tokens < full { "length" } else { "stop" },
        }
    }

    fn whole(&self) -> Value {
        let content: String = (0..self.tokens).map(word).collect();
        let message = json!({ "role": "assistant", "content": content });
        let choice = json!({ "index": 0, "message": message, "finish_reason": self.finish_reason });
        let mut whole = self.envelope("chat.completion", json!([choice]));
        whole["usage"] = self.usage();
        whole
    }

    fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
        self.envelope("chat.completion.chunk", json!([choice]))
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            // OpenAI's field for "which build answered": here, the agent version.
            "system_fingerprint": self.version,
            "choices": choices,
        })
    }

    fn usage(&self) -> Value {
        let total = self.prompt_tokens + u64::from(self.tokens);
        json!({ "prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens, "total_tokens": total })
    }
}

fn word(index: u32) -> &'static str {
    WORDS[index as usize % WORDS.len()]
}

/// A rough token count of a message's content.
fn words(content: &Value) -> u64 {
    match content {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Array(parts) => parts.iter().map(|part| words(&part["text"])).sum(),
        _ => 0,
    }
}

/// The body of a streamed answer: makes each event when it is due and the client has room for it.
struct Events {
    completion: Completion,
    include_usage: bool,
    interval: Duration,
    next: Event,
    due: Pin<Box<Sleep>>,
}

/// What comes next in the stream.
#[derive(Clone, Copy)]
enum Event {
    Role,
    Token(u32),
    Finish,
    Usage,
    Done,
    End,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Only tokens are waited for: what frames them comes along with its neighbour.
        if matches!(self.next, Event::Token(_)) {
            ready!(self.due.as_mut().poll(context));
        }
        let event = self.event();
        self.advance();
        Poll::Ready(event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Events {
    fn event(&self) -> Option<Bytes> {
        let completion = &self.completion;
        let data = match self.next {
            Event::Role => completion.chunk(json!({ "role": "assistant", "content": "" }), None),
            Event::Token(index) => completion.chunk(json!({ "content": word(index) }), None),
            Event::Finish => completion.chunk(json!({}), Some(completion.finish_reason)),
            Event::Usage => {
                let mut chunk = completion.envelope("chat.completion.chunk", json!([]));
                chunk["usage"] = completion.usage();
                chunk
            }
            Event::Done => return Some(Bytes::from_static(b"data: [DONE]\n\n")),
            Event::End => return None,
        };
        Some(Bytes::from(format!("data: {data}\n\n")))
    }

    fn advance(&mut self) {
        let token_or_finish = |index| if index < self.completion.tokens { Event::Token(index) } else { Event::Finish };
        self.next = match self.next {
            Event::Role => token_or_finish(0),
            Event::Token(index) => {
                let due = Instant::now() + self.interval;
                self.due.as_mut().reset(due);
                token_or_finish(index + 1)
            }
            Event::Finish if self.include_usage => Event::Usage,
            Event::Finish | Event::Usage => Event::Done,
            Event::Done | Event::End => Event::End,
        };
    }
}
