//! Conversations: a way to tell them apart, and keys that can be trusted.

use std::time::Duration;

use http::HeaderName;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE, TRANSFER_ENCODING};

use super::super::errors::shown;
use super::super::file::{self, Policy};
use super::super::scalar::Text;
use super::super::{OverridesConfig, PinsConfig, Secret, SigningKey};
use super::agent::Checked;
use super::scope::Scope;
use crate::routing::overrides::{COOKIE as OVERRIDE_COOKIE, SIGNATURE_HEADER, VERSION_HEADER};
use crate::routing::seal::{KEY_ID_BYTES_MAX, SECRET_BYTES_MIN};
use crate::routing::spec::{Attribute, ConversationSpec, PinPolicy, TokenPlace};

const MAX_SOURCES: usize = 16;
const MAX_KEYS: usize = 16;
const MAX_PINS: u64 = 100_000_000;
const DEFAULT_PINS: u64 = 1_000_000;
const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// One agent's. What is wrong is reported, and the rest good for finding more errors.
pub(super) fn check(given: file::Conversations, scope: &mut Scope<'_, '_>) -> ConversationSpec {
    const PATH: &str = "conversations";
    let is_damaged = scope.is_damaged(PATH);
    let id: Vec<_> = given.id.into_iter().flatten().map(|Text(source)| source).collect();
    let response_id: Vec<_> = given.response_id.into_iter().flatten().map(|Text(place)| place).collect();
    for (key, count) in [("id", id.len()), ("response_id", response_id.len())] {
        if count > MAX_SOURCES {
            scope.error(&format!("{PATH}.{key}"), format!("{count} sources; expected at most {MAX_SOURCES}"));
        }
    }
    for (position, source) in scope.positions("conversations.id").1.into_iter().zip(&id) {
        if !tells_conversations(source) {
            let message = format!("`{source}` tells no conversations apart; expected header, cookie, query or json");
            scope.error(&format!("{PATH}.id[{position}]"), message);
        }
    }
    if id.is_empty() && given.token.is_none() && !is_damaged {
        scope.error(PATH, "nothing tells a conversation; expected `id: [...]` or `token: {...}`");
    }
    if id.is_empty() && !response_id.is_empty() && !is_damaged {
        let message = "names conversations that no later request could tell; expected `id: [...]` as well";
        scope.error(&format!("{PATH}.response_id"), message);
    }
    let ttl = scope.duration(&format!("{PATH}.ttl"), given.ttl, DAY, SECOND..=30 * DAY);
    let has_grace = given.grace.is_some();
    let grace = scope.duration(&format!("{PATH}.grace"), given.grace, DEFAULT_GRACE, Duration::ZERO..=DAY);
    let policy = match given.policy {
        Some(Policy::UpgradeAtTurn) => PinPolicy::UpgradeAtTurn { grace },
        Some(Policy::Pinned) | None => PinPolicy::Pinned,
    };
    if has_grace && policy == PinPolicy::Pinned {
        scope.error(&format!("{PATH}.grace"), "only `policy: upgrade_at_turn` has a grace time; remove one of the two");
    }
    if given.token.is_some() && policy != PinPolicy::Pinned {
        let message = "a token cannot know when a turn is over; expected `policy: pinned`, or `id` instead of a token";
        scope.error(&format!("{PATH}.token"), message);
    }
    let token = given.token.and_then(|given| token(given, "conversations.token", scope));
    let evict_on_rollback = given.evict_on_rollback.unwrap_or(true);
    ConversationSpec { id, response_id, policy, ttl, evict_on_rollback, token }
}

fn tells_conversations(source: &Attribute) -> bool {
    matches!(source, Attribute::Header(_) | Attribute::Cookie(_) | Attribute::Query(_) | Attribute::Json(_))
}

fn token(given: file::Token, path: &str, scope: &mut Scope<'_, '_>) -> Option<TokenPlace> {
    let (cookie, header) = (given.cookie.map(|Text(name)| name), given.header.map(|Text(name)| name));
    match (cookie, header) {
        (Some(name), None) => {
            let is_name = matches!(format!("cookie:{name}").parse(), Ok(Attribute::Cookie(_)));
            if !is_name || name == OVERRIDE_COOKIE {
                let message = format!("`{}` cannot be the token's cookie; expected a name of its own", shown(&name));
                scope.error(&format!("{path}.cookie"), message);
            }
            Some(TokenPlace::Cookie(name))
        }
        (None, Some(name)) => {
            if is_taken(&name) {
                let message = format!("`{name}` has a meaning of its own; expected another name, such as x-pin");
                scope.error(&format!("{path}.header"), message);
            }
            Some(TokenPlace::Header(name))
        }
        _ if scope.is_damaged(path) => None,
        _ => {
            scope.error(path, "a token is carried by one thing; expected one of `cookie` and `header`");
            None
        }
    }
}

fn is_taken(name: &HeaderName) -> bool {
    let taken = [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE, TRANSFER_ENCODING];
    taken.contains(name) || [VERSION_HEADER, SIGNATURE_HEADER].contains(name)
}

/// Agents whose tokens could not be signed.
pub(super) fn check_tokens(agents: &[Checked], pins: &PinsConfig, scope: &mut Scope<'_, '_>) {
    if !pins.keys.is_empty() || scope.is_damaged("pins") {
        return;
    }
    for spec in agents.iter().map(|agent| &agent.intent.spec) {
        if spec.conversations.as_ref().is_some_and(|conversations| conversations.token.is_some()) {
            let message = "there is no key to sign it with; set `pins: { keys: [{ id: ..., secret: ... }] }`";
            scope.error(&format!("agents.{}.conversations.token", spec.id), message);
        }
    }
}

pub(super) fn pins(given: file::Pins, scope: &mut Scope<'_, '_>) -> PinsConfig {
    let max = scope.count("pins.max", given.max, DEFAULT_PINS, 1..=MAX_PINS) as usize;
    PinsConfig { max, keys: keys(given.keys.unwrap_or_default(), "pins.keys", scope) }
}

pub(super) fn overrides(given: file::Overrides, scope: &mut Scope<'_, '_>) -> OverridesConfig {
    if given.keys.is_empty() && !scope.is_damaged("overrides.keys") {
        scope.error("overrides.keys", "there is no key; expected at least one, such as `{ id: ops, secret: ... }`");
    }
    OverridesConfig { keys: keys(given.keys, "overrides.keys", scope), forward: given.forward.unwrap_or(false) }
}

fn keys(given: Vec<file::Key>, path: &str, scope: &mut Scope<'_, '_>) -> Vec<SigningKey> {
    if given.len() > MAX_KEYS {
        scope.error(path, format!("{} keys; expected at most {MAX_KEYS}", given.len()));
    }
    let mut keys: Vec<SigningKey> = Vec::with_capacity(given.len());
    for (position, key) in scope.positions(path).1.into_iter().zip(given) {
        let (Text(id), Text(secret)) = (key.id, key.secret);
        if !is_key_id(&id) {
            let expected = format!("expected up to {KEY_ID_BYTES_MAX} letters, digits, `-`, `_` and `.`");
            scope
                .error(&format!("{path}[{position}].id"), format!("`{}` is no name for a key; {expected}", shown(&id)));
        }
        if keys.iter().any(|other| other.id == id) {
            scope.error(&format!("{path}[{position}].id"), "is the name of another key as well; expected each once");
        }
        if secret.len() < SECRET_BYTES_MIN {
            let found = secret.len();
            let remedy = "make one with `openssl rand -base64 32`";
            let message =
                format!("{found} bytes are too few for a secret; expected at least {SECRET_BYTES_MIN}: {remedy}");
            scope.error(&format!("{path}[{position}].secret"), message);
        }
        keys.push(SigningKey { id, secret: Secret::new(secret) });
    }
    keys
}

fn is_key_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=KEY_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_plain)
}
