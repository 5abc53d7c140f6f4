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
    let Known { pins, keys } = known;
    let named = |version: usize| agent.versions.get(version).map_or("", |version| version.id.as_str());
    let mut fixed = None;
    if let Some(asked) = keys.overrides.as_ref().and_then(|known| overridden(known, agent, head.headers, now)) {
        explanation.standing.push(match asked {
            Ok(version) => format!("its override for {} is good", named(version)),
            Err(fault) => format!("its override is ignored: {fault}"),
        });
        fixed = asked.ok().map(|version| Decision::fixed(version, Reason::Override));
    }
    if let Some((spec, seat)) = agent.conversations(pins) {
        let mut pinned = None;
        if let Some(id) = conversation_id(spec, head) {
            let key = seat.key(id.as_bytes());
            pinned = key.and_then(|key| pins.peek(seat, key, now));
            explanation.standing.push(match (key, pinned) {
                (None, _) => "its conversation's id is too long to be pinned".to_owned(),
                (_, None) => "its conversation is not in this instance's table of pins".to_owned(),
                (_, Some(version)) => format!("its conversation is pinned to {}", named(version)),
            });
        }
        if let Some(token) = token(keys, (spec, seat), agent, head.headers, now) {
            explanation.standing.push(match &token {
                Ok(Token { version, epoch, expires }) => {
                    let left = expires.saturating_sub(now);
                    format!("its token holds to {}, chosen at epoch {epoch}, for {left} s more", named(*version))
                }
                Err(fault) => format!("its token is ignored: {fault}"),
            });
            pinned = pinned.or(token.ok().map(|token| token.version));
        }
        fixed = fixed.or(pinned.map(|version| Decision::fixed(version, Reason::Pin)));
    }
    if let Some(decision) = fixed {
        explanation.fix(agent, &decision);
    }
}

#[cfg(test)]
mod tests;
