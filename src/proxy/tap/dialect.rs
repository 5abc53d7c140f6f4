//! What the documents of an answer mean, by the dialect that it speaks.
//!
//! | dialect | its marks | its last word | its error |
//! | --- | --- | --- | --- |
//! | OpenAI | `choices`, `object`, `type: response.…`, `[DONE]` | `[DONE]`, every choice's `finish_reason`, `response.completed`, `response.incomplete` | an `error` object, `response.failed` |
//! | Anthropic | `type: message_…`, `content_block_…` | `message_stop` | `type: error` |
//! | A2A | JSON-RPC results with a task's state or an A2A kind | a state that ends or interrupts the task, `final: true`, a message | a failed or rejected task, a JSON-RPC error |
//! | MCP | any other JSON-RPC | the response | a JSON-RPC error |
//! | Ollama (found only) | `done` in every line | `done: true` | an `error` text |
//! | plain | none | none: a clean end | none |
//!
//! `auto` looks for the marks in the first [`LOOKS`] documents; what has shown none by then is plain. In each
//! dialect but plain, an event named `error` is an error.

use super::document::{Document, ErrorMember};
use super::sse::EventName;
use super::words::{TaskState, Type};
use crate::routing::spec::Dialect;

/// How many documents `auto` looks at before it takes the answer for plain.
const LOOKS: u8 = 16;

/// The dialect as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tongue {
    /// So many more documents are looked at.
    Unknown {
        looks: u8,
    },
    OpenAi,
    Anthropic,
    A2a,
    Mcp,
    Ollama,
    Plain,
}

/// What one document means for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// Something for the user.
    pub content: bool,
    /// The answer's last word; more may follow it, but need not.
    pub terminal: bool,
    /// It has begun what has not ended: what went before was not the last word.
    pub open: bool,
    pub error: bool,
}

impl Tongue {
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Auto => Self::Unknown { looks: LOOKS },
            Dialect::OpenAi => Self::OpenAi,
            Dialect::Anthropic => Self::Anthropic,
            Dialect::A2a => Self::A2a,
            Dialect::Mcp => Self::Mcp,
            Dialect::Plain | Dialect::Off => Self::Plain,
        }
    }

    /// Whether what documents say makes a difference.
    pub fn listens(self) -> bool {
        self != Self::Plain
    }

    /// Whether a clean end alone does not make the answer complete.
    pub fn has_last_word(self) -> bool {
        !matches!(self, Self::Unknown { .. } | Self::Plain)
    }

    /// Whether a whole answer shows any dialect's marks.
    pub fn shows_in(document: &Document) -> bool {
        of_marks(document, true).is_some()
    }

    /// Takes the dialect from a document's marks, where it is not known yet. `whole`: it is the whole answer.
    pub fn learn(&mut self, document: &Document, whole: bool) {
        let Self::Unknown { looks } = self else { return };
        *self = match (of_marks(document, whole), looks.checked_sub(1)) {
            (Some(found), _) => found,
            (None, Some(looks @ 1..)) => Self::Unknown { looks },
            (None, _) => Self::Plain,
        };
    }

    /// OpenAI's `[DONE]`, the only event that is no JSON.
    pub fn done(&mut self) -> Meaning {
        if matches!(self, Self::Unknown { .. }) {
            *self = Self::OpenAi;
        }
        Meaning { terminal: *self == Self::OpenAi, content: *self == Self::Plain, ..Meaning::default() }
    }

    pub fn meaning(self, document: &Document, name: EventName) -> Meaning {
        let facts = &document.facts;
        let mut meaning = match self {
            Self::Unknown { .. } => {
                Meaning { content: true, error: facts.error == ErrorMember::Object, ..Meaning::default() }
            }
            Self::Plain => return Meaning { content: true, ..Meaning::default() },
            Self::OpenAi => openai(document),
            Self::Anthropic => Meaning {
                content: facts.kind == Type::ContentDelta,
                terminal: facts.kind == Type::MessageStop,
                error: facts.kind == Type::Error || facts.error == ErrorMember::Object,
                open: false,
            },
            Self::A2a => Meaning {
                content: facts.has_content,
                terminal: facts.last || facts.task == TaskState::Ended,
                error: facts.task == TaskState::Failed || facts.error == ErrorMember::Object,
                open: false,
            },
            Self::Mcp => Meaning {
                content: facts.result,
                terminal: facts.result && !facts.method,
                error: facts.error == ErrorMember::Object,
                open: false,
            },
            Self::Ollama => Meaning {
                content: facts.has_content,
                terminal: facts.done == Some(true),
                error: facts.error != ErrorMember::Absent,
                open: false,
            },
        };
        meaning.error |= name == EventName::Error;
        meaning.content &= !meaning.error;
        meaning
    }
}

fn openai(document: &Document) -> Meaning {
    let facts = &document.facts;
    let choices_ended = document.choices.have_ended();
    Meaning {
        content: facts.kind == Type::ResponseDelta || facts.has_choices && facts.has_content,
        terminal: facts.kind == Type::ResponseEnd || facts.has_choices && choices_ended,
        open: facts.has_choices && !choices_ended,
        error: facts.error != ErrorMember::Absent
            || facts.choice_failed
            || facts.object == Type::Error
            || matches!(facts.kind, Type::Error | Type::ResponseFailed),
    }
}

/// Marks that other protocols may have too are none, for a dialect with a last word blames who does not say it.
fn of_marks(document: &Document, whole: bool) -> Option<Tongue> {
    let facts = &document.facts;
    if facts.json_rpc {
        return Some(if facts.a2a { Tongue::A2a } else { Tongue::Mcp });
    }
    match facts.kind {
        Type::MessageEvent | Type::ContentDelta | Type::MessageStop => return Some(Tongue::Anthropic),
        Type::Message if whole => return Some(Tongue::Anthropic),
        // OpenAI's responses say it too; it means the same.
        Type::Error => return Some(Tongue::Anthropic),
        Type::ResponseEvent | Type::ResponseDelta | Type::ResponseFailed | Type::ResponseEnd => {
            return Some(Tongue::OpenAi);
        }
        Type::Absent | Type::Other | Type::Message | Type::Ping | Type::OpenAi => {}
    }
    if facts.has_choices || matches!(facts.object, Type::OpenAi | Type::Error) {
        return Some(Tongue::OpenAi);
    }
    (facts.done.is_some() && document.model.is_some()).then_some(Tongue::Ollama)
}
