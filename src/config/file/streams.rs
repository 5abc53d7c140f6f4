//! Shapes of how answers are read as they pass, and of what their tokens cost.

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Number, Text};
use super::Duration;

/// How an agent's answers are read as they pass. They are never changed or delayed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of how streams are read")]
pub(in crate::config) struct Streams {
    /// What the answers are written in. Default: auto.
    pub(in crate::config) dialect: Option<Dialect>,
    /// What is done with answers that have a content coding, such as gzip. Default: opaque.
    pub(in crate::config) encoded: Option<Encoded>,
    /// A stream without an event for so long is ended as stalled. Default: only `timeouts.idle` holds.
    pub(in crate::config) stall_timeout: Option<Duration>,
    /// Send the client a comment between two events when the agent is silent for so long. Default: none is sent.
    pub(in crate::config) heartbeat: Option<Duration>,
    /// The response header that tells the tokens of the request, where the body does not.
    pub(in crate::config) input_tokens_header: Option<Text<HeaderName>>,
    /// The response header that tells the tokens of the answer, where the body does not.
    pub(in crate::config) output_tokens_header: Option<Text<HeaderName>>,
}

/// What an agent's answers are written in: how a stream's end, its first content and its usage are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Dialect {
    /// Found from the answer itself.
    Auto,
    /// Chat Completions, Responses and what is compatible with them.
    OpenAi,
    /// Messages.
    Anthropic,
    /// Agent2Agent.
    A2a,
    /// The Model Context Protocol over HTTP.
    Mcp,
    /// Events or lines without a terminal marker: a clean end is complete.
    Plain,
    /// Not read at all.
    Off,
}

/// What is done with answers that have a content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Encoded {
    /// They pass unread, and are counted as opaque.
    Opaque,
    /// They are decoded on the side to be read. The client gets what the agent sent.
    Decode,
}

/// What a million tokens cost, in a currency of your choice: the same for all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a price: a map with `input` and `output`")]
pub(in crate::config) struct Price {
    /// Per million tokens of the request. Default: 0.
    pub(in crate::config) input: Option<Text<Number>>,
    /// Per million tokens of the answer. Default: 0.
    pub(in crate::config) output: Option<Text<Number>>,
}
