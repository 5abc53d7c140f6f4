//! One completion: what is asked, and what is said of it in whatever dialect.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use super::behaviour::Behaviour;

/// What the agent says, over and over: one word is one token.
const WORDS: [&str; 8] = ["The", " points", " are", " set,", " the", " train", " may", " pass."];

/// The part of a request that makes a difference here; of OpenAI's and of Anthropic's.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    pub stream_options: StreamOptions,
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
pub struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
}

pub struct Completion {
    /// Unique among the answers of one agent.
    pub id: String,
    pub created: u64,
    pub model: String,
    pub version: String,
    pub prompt_tokens: u64,
    pub tokens: u32,
    /// The request asked for less than the agent would have said.
    pub is_shortened: bool,
}

impl Completion {
    /// Answers request `number` as `version`.
    pub fn new(asked: &Asked, version: &str, number: u64, behaviour: &Behaviour) -> Self {
        let full = behaviour.tokens.get();
        let tokens = asked.max_tokens.unwrap_or(full).min(full);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            id: format!("{version}-{number}"),
            created: since_epoch.as_secs(),
            model: asked.model.clone().unwrap_or_else(|| "mock".to_owned()),
            version: version.to_owned(),
            prompt_tokens: asked.messages.iter().map(|m| words(&m.content)).sum(),
            tokens,
            is_shortened: tokens < full,
        }
    }

    pub fn text(&self) -> String {
        WORDS.into_iter().cycle().take(self.tokens as usize).collect()
    }

    /// One item per token. Each is made once, however often its word comes.
    pub fn each_token<T: Clone>(&self, make: impl Fn(&str) -> T) -> Vec<T> {
        let made = WORDS.map(make);
        made.iter().cycle().take(self.tokens as usize).cloned().collect()
    }
}

/// A rough token count of a message's content.
fn words(content: &Value) -> u64 {
    match content {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Array(parts) => parts.iter().map(|part| words(&part["text"])).sum(),
        _ => 0,
    }
}
