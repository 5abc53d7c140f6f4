//! What an agent's author says of its conversations: how one is told from another, and how long it keeps
//! its version.

use std::time::Duration;

use http::HeaderName;

use super::spec::Attribute;

/// The longest conversation id, in bytes. A longer one makes no pin.
pub const ID_BYTES_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationSpec {
    /// Where a request carries its conversation's id; the first that is present and not empty counts.
    pub id: Vec<Attribute>,
    /// Where the agent tells the id of the conversation that it has begun.
    pub response_id: Vec<ResponseId>,
    pub policy: PinPolicy,
    /// A conversation in which nothing happens for so long is forgotten.
    pub ttl: Duration,
    /// Whether a conversation leaves a version that was rolled back.
    pub evict_on_rollback: bool,
    /// How a client is handed a token that holds it to its version without any table.
    pub token: Option<TokenPlace>,
}

/// Where a response names its conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResponseId {
    Header(HeaderName),
    /// A JSON pointer (RFC 6901) into a JSON body, or into the first event of an event stream.
    Json(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinPolicy {
    /// To the end of the time to live.
    Pinned,
    /// While a response is in flight and for `grace` after it; the next turn is decided anew.
    UpgradeAtTurn { grace: Duration },
}

/// What carries the token, in requests and in responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    Cookie(String),
    Header(HeaderName),
}
