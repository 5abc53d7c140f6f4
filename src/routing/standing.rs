//! What a request brings that fixes its version before any rule is asked: a signed override, then the pin of its
//! conversation, then a token.
//!
//! The table of pins comes before the token, for the table is what an operator's migration changes: a token that
//! says otherwise is replaced with the response. A request that brings none of them is decided by
//! [`super::decide`], as one whose override or token is no good.

use std::sync::Arc;

use http::HeaderMap;

use super::conversation::{ConversationSpec, TokenPlace};
use super::decide::Explanation;
use super::key::{self, Value};
use super::overrides::{self, OverrideFault, Overrides, SIGNATURE_HEADER, VERSION_HEADER};
use super::pin::{Seat, Second, SharedPins};
use super::seal::KeyRing;
use super::table::{Agent, Decision, Head, Reason};
use super::token::{self, Token, TokenFault};

/// The keys that an instance trusts. They change with its file.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    pub tokens: Option<KeyRing>,
    pub overrides: Option<Overrides>,
}

/// What is known of conversations at one time.
#[derive(Clone)]
pub struct Known {
    pub pins: SharedPins,
    pub keys: Arc<Keys>,
}

/// The version that an override asks for; `None` where the request brings no override.
pub fn overridden(
    overrides: &Overrides,
    agent: &Agent,
    headers: &HeaderMap,
    now: Second,
) -> Option<Result<usize, OverrideFault>> {
    match (headers.get(VERSION_HEADER), headers.get(SIGNATURE_HEADER)) {
        (Some(asked), Some(signature)) => {
            Some(overrides.version(agent, Some(asked.as_bytes()), signature.as_bytes(), now))
        }
        (Some(_), None) => Some(Err(OverrideFault::Unsigned)),
        (None, _) => {
            let signature = key::cookie(headers, overrides::COOKIE.as_bytes())?;
            Some(overrides.version(agent, None, signature, now))
        }
    }
}

/// The id of the request's conversation: the first source that is present and not empty.
pub fn conversation_id<'a>(spec: &ConversationSpec, head: &Head<'a>) -> Option<Value<'a>> {
    key::find(&spec.id, head).map(|(_, id)| id)
}

/// The token that the request brings; `None` where there is none, or the agent knows none.
pub fn token(
    keys: &Keys,
    (spec, seat): (&ConversationSpec, &Seat),
    agent: &Agent,
    headers: &HeaderMap,
    now: Second,
) -> Option<Result<Token, TokenFault>> {
    let place = spec.token.as_ref()?;
    let ring = keys.tokens.as_ref()?;
    let text = match place {
        TokenPlace::Header(name) => headers.get(name)?.as_bytes(),
        TokenPlace::Cookie(name) => key::cookie(headers, name.as_bytes())?,
    };
    Some(token::read(ring, agent, seat, text, now))
}

/// Says what the request's override, conversation and token come to, and whether they fix its version. Changes
/// no pin.
pub fn explain(explanation: &mut Explanation, agent: &Agent, head: &Head<'_>, known: &Known, now: Second) {
    let said = &mut explanation.standing;
    let fixed = explain_override(said, agent, head.headers, &known.keys, now)
        .or_else(|| explain_conversation(said, agent, head, known, now));
    if let Some(decision) = fixed {
        explanation.fix(agent, &decision);
    }
}

fn explain_override(
    said: &mut Vec<String>,
    agent: &Agent,
    headers: &HeaderMap,
    keys: &Keys,
    now: Second,
) -> Option<Decision> {
    match overridden(keys.overrides.as_ref()?, agent, headers, now)? {
        Ok(version) => {
            said.push(format!("its override for {} is good", name(agent, version)));
            Some(Decision::fixed(version, Reason::Override))
        }
        Err(fault) => {
            said.push(format!("its override is ignored: {fault}"));
            None
        }
    }
}

fn explain_conversation(
    said: &mut Vec<String>,
    agent: &Agent,
    head: &Head<'_>,
    Known { pins, keys }: &Known,
    now: Second,
) -> Option<Decision> {
    let (spec, seat) = agent.conversations(pins)?;
    let key = conversation_id(spec, head).map(|id| seat.key(id.as_bytes()));
    let pinned = key.flatten().and_then(|key| pins.peek(seat, key, now));
    said.extend(key.map(|key| match (key, pinned) {
        (None, _) => "its conversation's id is too long to be pinned".to_owned(),
        (_, None) => "its conversation is not in this instance's table of pins".to_owned(),
        (_, Some(version)) => format!("its conversation is pinned to {}", name(agent, version)),
    }));
    let token = token(keys, (spec, seat), agent, head.headers, now);
    said.extend(token.as_ref().map(|token| match token {
        Ok(Token { version, epoch, expires }) => {
            let (version, left) = (name(agent, *version), expires.saturating_sub(now));
            format!("its token holds to {version}, chosen at epoch {epoch}, for {left} s more")
        }
        Err(fault) => format!("its token is ignored: {fault}"),
    }));
    let held = pinned.or(token.and_then(Result::ok).map(|token| token.version));
    held.map(|version| Decision::fixed(version, Reason::Pin))
}

fn name(agent: &Agent, version: usize) -> &str {
    agent.versions.get(version).map_or("", |version| version.id.as_str())
}

#[cfg(test)]
mod tests;
