//! Conversations that keep their version, and the keys of tokens and overrides.

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Duration;
use crate::config::scalar::{Text, Whole};
use crate::routing::spec::{Attribute, ResponseId};

/// How a conversation is told from others, and how long it keeps the version that it began on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `id` or `token`")]
pub(in crate::config) struct Conversations {
    /// Where a request carries its conversation's id: header, cookie, query or json. The first that is there counts.
    pub(in crate::config) id: Option<Vec<Text<Attribute>>>,
    /// Where a response names the conversation that it began: `header:…`, or `json:/…` in a JSON body or in the first
    /// event of an event stream. Headers come first.
    pub(in crate::config) response_id: Option<Vec<Text<ResponseId>>>,
    /// Default: pinned.
    pub(in crate::config) policy: Option<Policy>,
    /// Under `upgrade_at_turn`: how long after a response the next turn still is the same one. Default: 30s.
    pub(in crate::config) grace: Option<Duration>,
    /// A conversation in which nothing happens for so long is forgotten. Default: 1d.
    pub(in crate::config) ttl: Option<Duration>,
    /// Whether conversations leave a version that is rolled back. Default: true.
    pub(in crate::config) evict_on_rollback: Option<bool>,
    /// Hands clients a signed token that holds them to their version. Needs `pins.keys`.
    pub(in crate::config) token: Option<Token>,
}

/// How long a conversation keeps its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Policy {
    /// To the end of its time to live.
    Pinned,
    /// While a response is in flight and for `grace` after it; the next turn is decided anew.
    UpgradeAtTurn,
}

/// What carries the token: one of `cookie` and `header`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `cookie` or `header`")]
pub(in crate::config) struct Token {
    /// The name of a cookie, for browsers and clients that keep cookies.
    pub(in crate::config) cookie: Option<Text<String>>,
    /// The name of a header that a client sends back as it got it.
    pub(in crate::config) header: Option<Text<HeaderName>>,
}

/// The table of conversations, and the keys of their tokens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `max` and `keys`")]
pub(in crate::config) struct Pins {
    /// How many conversations are kept; beyond it the longest unused go. A million takes at worst 66 MiB.
    /// Default: 1000000.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub(in crate::config) max: Option<Whole>,
    /// What tokens are signed with: the first key signs, all of them verify.
    pub(in crate::config) keys: Option<Vec<Key>>,
}

/// Signed `x-pointsman-version` headers that send a request to a version.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `keys`")]
pub(in crate::config) struct Overrides {
    /// What they are signed with: the first key signs, all of them verify.
    pub(in crate::config) keys: Vec<Key>,
    /// Whether the agent sees the version of a request that has been sent to it so. Default: false.
    pub(in crate::config) forward: Option<bool>,
}

/// A named secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a key: a map with `id` and `secret`")]
pub(in crate::config) struct Key {
    /// Stands in what is signed, so that keys can change: letters, digits, `-`, `_` and `.`.
    pub(in crate::config) id: Text<String>,
    /// At least 32 bytes; best as `${NAME}`, made by `openssl rand -base64 32`.
    pub(in crate::config) secret: Text<String>,
}
