//! Answers in the shapes that agents send them, and what the tap has to say of each.

use super::Transport;
use crate::proxy::media::Media;
use crate::routing::spec::Dialect;
use crate::telemetry::stats::StreamEnd;

pub(super) struct Case {
    pub name: &'static str,
    pub text: &'static str,
    pub media: Media,
    pub dialect: Dialect,
    /// What `auto` has to find of it is the same, but where it has nothing to go by.
    pub is_known_by_itself: bool,
    pub report: Report,
    /// A stream that ends sooner than after this part is truncated; `None`: it has no last word.
    pub last_word: Option<&'static str>,
}

/// What a tap says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub end: Option<StreamEnd>,
    pub events: u32,
    pub tokens: u32,
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub model: Option<String>,
}

const NOTHING: Report =
    Report { end: Some(StreamEnd::Complete), events: 0, tokens: 0, input: None, output: None, model: None };

fn report(events: u32, tokens: u32) -> Report {
    Report { events, tokens, ..NOTHING }
}

impl Report {
    fn usage(self, input: u64, output: u64) -> Self {
        Self { input: Some(input), output: Some(output), ..self }
    }
    fn model(self, model: &'static str) -> Self {
        Self { model: Some(model.to_owned()), ..self }
    }
    fn error(self) -> Self {
        Self { end: Some(StreamEnd::Error), ..self }
    }
}

impl Case {
    fn ends_with(mut self, last_word: &'static str) -> Self {
        assert!(self.text.contains(last_word), "{}", self.name);
        self.last_word = Some(last_word);
        self
    }
    fn only_by(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self.is_known_by_itself = false;
        self
    }
}

macro_rules! case {
    ($file:literal, $dialect:ident, $report:expr) => {
        Case {
            name: $file,
            text: include_str!(concat!("corpus/", $file)),
            media: match $file.rsplit('.').next() {
                Some("sse") => Media::Events,
                Some("ndjson") => Media::Lines,
                _ => Media::Document,
            },
            dialect: Dialect::$dialect,
            is_known_by_itself: true,
            report: $report,
            last_word: None,
        }
    };
}

pub(super) fn all() -> Vec<Case> {
    [openai(), anthropic(), rpc(), others()].into_iter().flatten().collect()
}

fn openai() -> Vec<Case> {
    let chat = || report(8, 4).usage(19, 4).model("gpt-4o-mini-2024-07-18");
    let responses = || report(8, 2).usage(37, 11).model("gpt-4.1-2025-04-14");
    let finish = r#""delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#;
    vec![
        case!("openai_chat.sse", OpenAi, chat()).ends_with(finish),
        case!("openai_chat_escaped.sse", OpenAi, chat()),
        case!("openai_chat_error.sse", OpenAi, report(4, 2).model("gpt-4o-mini-2024-07-18").error()),
        case!("openai_choices.sse", OpenAi, report(7, 3).model("gpt-4o-mini-2024-07-18"))
            .ends_with(r#""finish_reason":"length"}]}"#),
        case!("openai_choices_in_turn.sse", OpenAi, report(6, 2).model("gpt-4o-mini-2024-07-18")),
        case!("openai_tools.sse", OpenAi, report(6, 3).model("gpt-4o-mini-2024-07-18"))
            .ends_with(r#""finish_reason":"tool_calls"}]}"#),
        case!("openai_completions.sse", OpenAi, report(4, 2).model("org/instruct"))
            .ends_with(r#""finish_reason":"length"}],"model":"org\/instruct"}"#),
        case!("openai_responses.sse", OpenAi, responses())
            .ends_with(r#""output_tokens_details":{"reasoning_tokens":0},"total_tokens":48}}}"#),
        case!("openai_responses_incomplete.sse", OpenAi, Report { events: 7, ..responses() }),
        case!("openai_responses_failed.sse", OpenAi, report(7, 2).model("gpt-4.1-2025-04-14").error()),
        case!("openai_responses_error.sse", OpenAi, report(3, 0).model("gpt-4.1-2025-04-14").error()),
        case!("openai_chat.json", OpenAi, report(0, 0).usage(19, 4).model("gpt-4o")),
        case!("openai_responses.json", OpenAi, report(0, 0).usage(37, 11).model("gpt-4.1-2025-04-14")),
        case!("openai_error.json", OpenAi, report(0, 0).error()),
    ]
}

fn anthropic() -> Vec<Case> {
    // 25 fresh, 100 written to the cache and 2,000 read from it.
    let message = |events, tokens| report(events, tokens).model("claude-sonnet-4-20250514");
    vec![
        case!("anthropic.sse", Anthropic, message(8, 2).usage(2125, 15)).ends_with(r#"{"type":"message_stop"}"#),
        case!("anthropic_tools.sse", Anthropic, message(10, 2).usage(2125, 89)).ends_with(r#"{"type":"message_stop"}"#),
        case!("anthropic_error.sse", Anthropic, message(5, 1).usage(2125, 1).error()),
        case!("anthropic.json", Anthropic, report(0, 0).usage(10, 3).model("claude-opus-4-1")),
    ]
}

fn rpc() -> Vec<Case> {
    vec![
        case!("a2a_task.sse", A2a, report(5, 3))
            .ends_with(r#""state":"completed"},"final":true,"kind":"status-update"}}"#),
        case!("a2a_input_required.sse", A2a, report(3, 2)),
        case!("a2a_failed.sse", A2a, report(4, 2).error()),
        case!("a2a_error.sse", A2a, report(3, 1).error()),
        case!("a2a_message.sse", A2a, report(1, 1)).ends_with(r#""kind":"message"}}"#),
        case!("a2a_1.sse", A2a, report(4, 1)).ends_with(r#""state":"TASK_STATE_COMPLETED"}}}}"#),
        case!("a2a_1_message.sse", A2a, report(1, 1)),
        case!("a2a.json", A2a, report(0, 0)),
        case!("a2a_failed.json", A2a, report(0, 0).error()),
        case!("mcp.sse", Mcp, report(4, 1)).ends_with(r#""isError":false}}"#),
        case!("mcp_error.sse", Mcp, report(2, 0).error()),
        case!("mcp_paused.sse", Mcp, report(2, 0)),
        case!("mcp.json", Mcp, report(0, 0)),
        case!("mcp_error.json", Mcp, report(0, 0).error()),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case!("ollama_chat.ndjson", Auto, report(3, 2).usage(26, 282).model("llama3.2")),
        case!("ollama_generate.ndjson", Auto, report(2, 1).usage(26, 2).model("llama3.2")),
        case!("ollama_error.ndjson", Auto, report(2, 1).model("llama3.2").error()),
        case!("plain.sse", Plain, report(4, 2)),
        case!("plain_error.sse", Auto, report(2, 1).error()),
        case!("plain_error.sse", Plain, report(2, 2)).only_by(Dialect::Plain),
        case!("plain.ndjson", Plain, report(3, 3)),
        case!("plain.json", Auto, Report { end: None, ..NOTHING }),
    ]
}

/// How an answer ends that broke off so: the same for each dialect.
pub(super) const BREAKS: [(Transport, StreamEnd); 3] = [
    (Transport::Broken, StreamEnd::Truncated),
    (Transport::Stalled, StreamEnd::Stalled),
    (Transport::Cancelled, StreamEnd::Cancelled),
];
