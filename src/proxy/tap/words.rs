//! The closed lists of words that dialects use, and the one name that is free.

/// A longer name of a model is cut.
const MODEL_BYTES: usize = super::json::TEXT_BYTES;

/// What `type` or `object` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Type {
    #[default]
    Absent,
    Other,
    Error,
    /// `chat.completion`, `chat.completion.chunk`, `text_completion`, `response`: OpenAI's.
    OpenAi,
    /// `response.…` that is none of the following.
    ResponseEvent,
    ResponseDelta,
    ResponseFailed,
    /// `response.completed`, `response.incomplete`.
    ResponseEnd,
    /// `message`: a whole answer of Anthropic's.
    Message,
    /// `message_start`, `message_delta`, `content_block_start`, `content_block_stop`.
    MessageEvent,
    ContentDelta,
    MessageStop,
    Ping,
}

/// How far an A2A task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TaskState {
    #[default]
    Absent,
    /// Submitted, working, or unknown to us.
    Open,
    /// Completed or cancelled, or it waits for the user: the stream has said what it had to say.
    Ended,
    /// Failed or rejected.
    Failed,
}

pub(super) fn type_of(text: &[u8]) -> Type {
    match text {
        b"error" => Type::Error,
        b"message" => Type::Message,
        b"message_start" | b"message_delta" | b"content_block_start" | b"content_block_stop" => Type::MessageEvent,
        b"content_block_delta" => Type::ContentDelta,
        b"message_stop" => Type::MessageStop,
        b"ping" => Type::Ping,
        b"response.completed" | b"response.incomplete" => Type::ResponseEnd,
        b"response.failed" => Type::ResponseFailed,
        _ if text.starts_with(b"response.") && text.ends_with(b".delta") => Type::ResponseDelta,
        _ if text.starts_with(b"response.") => Type::ResponseEvent,
        _ => Type::Other,
    }
}

pub(super) fn object_of(text: &[u8]) -> Type {
    match text {
        b"chat.completion.chunk" | b"chat.completion" | b"text_completion" | b"response" => Type::OpenAi,
        b"error" => Type::Error,
        _ => Type::Other,
    }
}

/// A2A 0.x writes `input-required`, 1.0 `TASK_STATE_INPUT_REQUIRED`.
pub(super) fn task_state(text: &[u8]) -> TaskState {
    match text {
        b"completed" | b"canceled" | b"input-required" | b"auth-required" => TaskState::Ended,
        b"TASK_STATE_COMPLETED" | b"TASK_STATE_CANCELLED" | b"TASK_STATE_CANCELED" => TaskState::Ended,
        b"TASK_STATE_INPUT_REQUIRED" | b"TASK_STATE_AUTH_REQUIRED" => TaskState::Ended,
        b"failed" | b"rejected" | b"TASK_STATE_FAILED" | b"TASK_STATE_REJECTED" => TaskState::Failed,
        _ => TaskState::Open,
    }
}

/// The name without the backslashes that some writers put before slashes.
pub(super) fn model_of(text: &[u8]) -> Option<Box<str>> {
    let mut name = String::with_capacity(text.len());
    let text = String::from_utf8_lossy(text);
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        name.push(if char == '\\' { rest.next().unwrap_or(char) } else { char });
    }
    // A cut within a character leaves a longer replacement character.
    let end = (0..=MODEL_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or_default());
    (!name.is_empty()).then(|| name.into())
}
