//! What one JSON document (an event's data, a line, a whole body) says of the answer it is part of.
//!
//! One map of places serves all dialects: a document is read once, and [`super::dialect`] judges what was found.
//! Usage, model and the choices' ends outlive the document, for they belong to the whole answer.

use super::json::{Filler, Value, Visitor};
use super::words::{TaskState, Type, model_of, object_of, task_state, type_of};
use crate::telemetry::stats::Usage;

/// Where a value stands that some dialect gives a meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    /// `type`, in OpenAI's responses and Anthropic's messages.
    Type,
    /// `object`, in OpenAI's.
    Object,
    Model,
    Error,
    Usage,
    Tokens(Side),
    Choices,
    Choice,
    ChoiceIndex,
    FinishReason,
    /// What a choice adds; [`Place::Content`] but for its role.
    Delta,
    /// Text, or a list of parts: where it is not empty, the user gets something.
    Content,
    /// Anthropic's `message` in an event; Ollama's `message` in a line.
    Message,
    /// OpenAI's `response` in an event; Ollama's `response` in a line is a text.
    Response,
    /// Ollama's.
    Done,
    JsonRpc,
    Method,
    Result,
    /// A2A: what kind of thing a result is.
    Kind,
    Final,
    /// A2A 1.0 names the kind by a member: `task`, `statusUpdate`.
    Wrapped,
    /// A2A 1.0: `artifactUpdate`, or `message`, by whether it is the last word.
    Said {
        last: bool,
    },
    Status,
    State,
}

/// Who tells tokens: dialects name them differently, and Anthropic tells what was cached apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    CacheWritten,
    CacheRead,
    Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ErrorMember {
    #[default]
    Absent,
    Text,
    Object,
}

/// One document's own facts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub kind: Type,
    pub object: Type,
    pub error: ErrorMember,
    pub has_choices: bool,
    /// A choice ended with the reason `error`.
    pub choice_failed: bool,
    /// Something for the user.
    pub has_content: bool,
    /// Ollama's mark, which its every line has.
    pub done: Option<bool>,
    pub json_rpc: bool,
    pub method: bool,
    pub result: bool,
    /// It has the shape of an A2A result.
    pub a2a: bool,
    /// It says itself that it is the last.
    pub last: bool,
    pub task: TaskState,
}

/// The document being read, and what all of them have said so far.
#[derive(Default)]
pub(super) struct Document {
    pub facts: Facts,
    choice: Choice,
    pub choices: Choices,
    /// The most that was told, by side: figures in a stream are cumulative.
    tokens: [Option<u64>; 4],
    pub model: Option<Box<str>>,
}

#[derive(Clone, Copy, Default)]
struct Choice {
    index: u64,
    finished: bool,
}

/// Choices by index: which have begun and which have ended. Only the first 64 are followed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Choices {
    begun: u64,
    ended: u64,
}

impl Choices {
    fn note(&mut self, choice: &Choice) {
        let bit = u32::try_from(choice.index).ok().and_then(|index| 1u64.checked_shl(index)).unwrap_or(0);
        self.begun |= bit;
        self.ended |= if choice.finished { bit } else { 0 };
    }

    pub fn have_ended(&self) -> bool {
        self.begun != 0 && self.begun == self.ended
    }
}

impl Document {
    pub fn restart(&mut self) {
        self.facts = Facts::default();
        self.choice = Choice::default();
    }

    /// What may stand there whatever the document says elsewhere.
    pub fn filler(at: Place) -> Option<Filler<Place>> {
        match at {
            // All that counts is that there is some.
            Place::Content | Place::Response => Some(Filler::Text),
            Place::Tokens(_) => Some(Filler::Number(at)),
            _ => None,
        }
    }

    /// Anthropic tells tokens from and to the cache apart from the input, of which they are part.
    pub fn usage(&self) -> Usage {
        let [input, written, read, output] = self.tokens;
        let parts = [input, written, read].into_iter().flatten();
        Usage { input_tokens: parts.reduce(u64::saturating_add), output_tokens: output }
    }

    fn take_tokens(&mut self, side: Side, count: Option<u64>) {
        // `None` is below any count.
        let most = &mut self.tokens[side as usize];
        *most = (*most).max(count);
    }

    fn take_text(&mut self, at: Place, text: &[u8]) {
        let facts = &mut self.facts;
        match at {
            Place::Type => facts.kind = type_of(text),
            Place::Object => facts.object = object_of(text),
            Place::Model if self.model.is_none() => self.model = model_of(text),
            Place::Error if !text.is_empty() => facts.error = ErrorMember::Text,
            // Some say an empty reason until there is one.
            Place::FinishReason if !text.is_empty() => {
                self.choice.finished = true;
                facts.choice_failed |= text == b"error";
            }
            Place::Content | Place::Response => facts.has_content |= !text.is_empty(),
            Place::JsonRpc => facts.json_rpc = true,
            Place::Method => facts.method = true,
            Place::Kind => self.take_kind(text),
            Place::State => {
                facts.a2a = true;
                facts.task = task_state(text);
            }
            _ => {}
        }
    }

    fn take_kind(&mut self, kind: &[u8]) {
        let facts = &mut self.facts;
        facts.a2a |= matches!(kind, b"task" | b"status-update" | b"artifact-update" | b"message");
        facts.has_content |= matches!(kind, b"artifact-update" | b"message");
        facts.last |= kind == b"message";
    }

    fn take_object(&mut self, at: Place) {
        let facts = &mut self.facts;
        match at {
            Place::Error => facts.error = ErrorMember::Object,
            Place::Choice => self.choice = Choice::default(),
            Place::Content => facts.has_content = true,
            Place::Said { last } => {
                facts.a2a = true;
                facts.has_content = true;
                facts.last |= last;
            }
            _ => {}
        }
    }
}

impl Visitor for Document {
    type Place = Place;

    fn root(&self) -> Place {
        Place::Root
    }

    fn member(&self, of: Place, key: &[u8]) -> Option<Place> {
        Some(match (of, key) {
            (Place::Root, b"choices") => Place::Choices,
            (Place::Root | Place::Message | Place::Response, b"usage") => Place::Usage,
            (Place::Root | Place::Message | Place::Response, b"model") if self.model.is_none() => Place::Model,
            (Place::Root, b"type") => Place::Type,
            (Place::Root, b"object") => Place::Object,
            (Place::Root, b"error") => Place::Error,
            (Place::Root, b"message") => Place::Message,
            (Place::Root, b"response") => Place::Response,
            (Place::Root, b"done") => Place::Done,
            (Place::Root, b"prompt_eval_count") => Place::Tokens(Side::Input),
            (Place::Root, b"eval_count") => Place::Tokens(Side::Output),
            (Place::Root, b"jsonrpc") => Place::JsonRpc,
            (Place::Root, b"method") => Place::Method,
            (Place::Root, b"result") => Place::Result,
            (Place::Choice, b"delta") => Place::Delta,
            (Place::Choice, b"finish_reason") => Place::FinishReason,
            (Place::Choice, b"index") => Place::ChoiceIndex,
            (Place::Choice, b"text") => Place::Content,
            (Place::Delta | Place::Message, b"role") => return None,
            (Place::Delta, _) | (Place::Message, b"content" | b"thinking" | b"tool_calls") => Place::Content,
            (Place::Usage, b"prompt_tokens" | b"input_tokens") => Place::Tokens(Side::Input),
            (Place::Usage, b"completion_tokens" | b"output_tokens") => Place::Tokens(Side::Output),
            (Place::Usage, b"cache_creation_input_tokens") => Place::Tokens(Side::CacheWritten),
            (Place::Usage, b"cache_read_input_tokens") => Place::Tokens(Side::CacheRead),
            (Place::Result, b"kind") => Place::Kind,
            (Place::Result, b"final") => Place::Final,
            (Place::Result | Place::Wrapped, b"status") => Place::Status,
            (Place::Result, b"task" | b"statusUpdate") => Place::Wrapped,
            (Place::Result, b"artifactUpdate") => Place::Said { last: false },
            (Place::Result, b"message") => Place::Said { last: true },
            (Place::Result | Place::Wrapped, b"artifacts") => Place::Content,
            (Place::Status, b"state") => Place::State,
            (Place::Status, b"message") => Place::Content,
            _ => return None,
        })
    }

    fn element(&self, of: Place) -> Option<Place> {
        match of {
            Place::Choices => Some(Place::Choice),
            // A list has content where one of its parts has.
            Place::Content => Some(Place::Content),
            _ => None,
        }
    }

    fn value(&mut self, at: Place, value: Value<'_>) {
        // Whatever it is, `null` included: it is an answer.
        self.facts.result |= at == Place::Result;
        match (value, at) {
            (Value::Text(text), _) => self.take_text(at, text),
            (Value::Object, _) => self.take_object(at),
            (Value::Array, Place::Choices) => self.facts.has_choices = true,
            (Value::Bool(yes), Place::Done) => self.facts.done = Some(yes),
            (Value::Bool(yes), Place::Final) => self.facts.last |= yes,
            (Value::Number(count), Place::Tokens(side)) => self.take_tokens(side, count),
            (Value::Number(number), Place::ChoiceIndex) => self.choice.index = number.unwrap_or(u64::MAX),
            _ => {}
        }
    }

    fn close(&mut self, at: Place) {
        if at == Place::Choice {
            self.choices.note(&self.choice);
        }
    }
}
