//! The conversation that a request belongs to: what holds it to its version before anything is decided, the pin
//! that is made or held, and what the response tells of it.
//!
//! An agent without `conversations:`, on an instance without `overrides:`, costs two branches. Tokens and override
//! cookies are between the client and us: they are taken off the request before it goes on, and no other
//! cookie is touched.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

use super::connection::ClientConn;
use super::outcome::Record;
use super::read::is_json;
use super::worker::Snapshot;
use crate::routing::conversation::{ConversationSpec, ResponseId, TokenPlace};
use crate::routing::overrides::{self, OverrideFault};
use crate::routing::pin::{self, Hold, PinKey, Second};
use crate::routing::seal::SealFault;
use crate::routing::standing;
use crate::routing::table::{Agent, Decision, Head, Reason};
use crate::routing::token::{self, Token, TokenFault};
use crate::telemetry::conversations::{IdFault, OverrideEnd, TokenEnd};

mod cookie;
mod pointer;
mod watch;

use watch::{IdWatch, Seen};

/// What a request's version is held by, if by anything.
#[derive(Default)]
pub(super) struct Standing {
    fixed: Option<Decision>,
    turn: Option<Box<Turn>>,
}

/// One request and response of a conversation.
pub(super) struct Turn {
    /// Of the id that the request brought.
    key: Option<PinKey>,
    hold: Option<Hold>,
    /// On the conversation that the response named.
    answer: Option<Hold>,
    token: Option<Token>,
    began: Second,
    watch: Option<IdWatch>,
}

pub(super) fn stand(conn: &ClientConn, snapshot: &Snapshot, agent: &Agent, head: &Head<'_>) -> Standing {
    let keys = &snapshot.options.keys;
    if agent.spec.conversations.is_none() && keys.overrides.is_none() {
        return Standing::default();
    }
    let (now, counters) = (wall(), &conn.worker.counters().conversations);
    let asked = keys.overrides.as_ref().and_then(|known| standing::overridden(known, agent, head.headers, now));
    if let Some(asked) = asked {
        counters.r#override(asked.map_or_else(override_end, |_| OverrideEnd::Accepted));
    }
    if let Some(Ok(version)) = asked {
        // It makes no pin and moves none.
        return Standing { fixed: Some(Decision::fixed(version, Reason::Override)), turn: None };
    }
    let pins = &conn.worker.shared.pins;
    let Some((spec, seat)) = agent.conversations(pins) else { return Standing::default() };
    let id = standing::conversation_id(spec, head);
    let key = id.as_ref().and_then(|id| seat.key(id.as_bytes()));
    if id.is_some() && key.is_none() {
        counters.id(IdFault::TooLong);
    }
    let token = standing::token(keys, (spec, seat), agent, head.headers, now);
    if let Some(token) = token {
        counters.token(token.map_or_else(token_end, |_| TokenEnd::Accepted));
    }
    let token = token.and_then(Result::ok);
    let (hold, pinned) = key.and_then(|key| pins.find(seat, key, now)).unzip();
    let version = pinned.or(token.map(|token| token.version));
    let fixed = version.map(|version| Decision::fixed(version, Reason::Pin));
    Standing { fixed, turn: Some(Box::new(Turn { key, hold, answer: None, token, began: now, watch: None })) }
}

impl Standing {
    pub fn decision(&self) -> Option<Decision> {
        self.fixed
    }

    /// Pins the conversation to the version that was decided. Another request of the same conversation may have
    /// been quicker: then its version is this one's too.
    pub fn settle(self, conn: &ClientConn, agent: &Agent, decision: &mut Decision) -> Option<Box<Turn>> {
        let mut turn = self.turn?;
        let pins = &conn.worker.shared.pins;
        if let (None, Some(key), Some((_, seat))) = (&turn.hold, turn.key, agent.conversations(pins))
            && let Some((hold, version)) = pins.make(seat, key, decision.version, turn.began)
        {
            turn.hold = Some(hold);
            if version != decision.version {
                *decision = Decision::fixed(version, Reason::Pin);
            }
        }
        Some(turn)
    }
}

impl Turn {
    /// The response has ended.
    pub fn end(self) {
        let now = wall();
        for hold in [self.hold, self.answer].into_iter().flatten() {
            hold.end(now);
        }
    }
}

/// Takes off the request what is between the client and us.
pub(super) fn strip(headers: &mut HeaderMap, snapshot: &Snapshot, agent: &Agent) {
    if snapshot.options.keys.overrides.is_some() {
        cookie::take(headers, overrides::COOKIE);
    }
    match agent.spec.conversations.as_ref().and_then(|spec| spec.token.as_ref()) {
        None => {}
        Some(TokenPlace::Header(name)) => drop(headers.remove(name)),
        Some(TokenPlace::Cookie(name)) => cookie::take(headers, name),
    }
}

/// The head of the response is here: the client's new token goes with it, and the id of a conversation that it
/// names is pinned, or looked for in the body that follows.
pub(super) fn answer(record: &mut Record, headers: &mut HeaderMap, is_success: bool) {
    let Some(mut turn) = record.turn.take() else { return };
    let agent = record.agent().clone();
    if let Some(spec) = &agent.spec.conversations {
        give_token(&turn, record, spec, headers);
        if is_success && !spec.response_id.is_empty() {
            find_id(&mut turn, record, spec, headers);
        }
    }
    record.turn = Some(turn);
}

/// A piece of the response's body, as it passes.
pub(super) fn see(record: &mut Record, data: &Bytes) {
    look(record, |watch, spec| watch.see(data, spec));
}

/// The response's body is whole.
pub(super) fn see_end(record: &mut Record) {
    look(record, |watch, spec| watch.end(spec));
}

fn look(record: &mut Record, look: impl FnOnce(&mut IdWatch, &[ResponseId]) -> Seen) {
    let Some(turn) = &mut record.turn else { return };
    let Some(mut watch) = turn.watch.take() else { return };
    let agent = record.agent().clone();
    let Some(spec) = &agent.spec.conversations else { return };
    let seen = look(&mut watch, &spec.response_id);
    let Some(mut turn) = record.turn.take() else { return };
    match seen {
        Seen::Nothing => turn.watch = Some(watch),
        Seen::Id(id) => pin_answer(&mut turn, record, &id),
        Seen::Over => record.conn().worker.counters().conversations.id(IdFault::NotFound),
    }
    record.turn = Some(turn);
}

/// A token is given where the client has none for this version, or half of its time is over.
fn give_token(turn: &Turn, record: &Record, spec: &ConversationSpec, headers: &mut HeaderMap) {
    let Some(place) = &spec.token else { return };
    let (agent, version, pins) = (record.agent(), record.decision.version, &record.conn().worker.shared.pins);
    let (Some(ring), Some((_, seat))) = (record.keys().tokens.as_ref(), agent.conversations(pins)) else { return };
    let is_fresh = |token: Token| token.version == version && token.expires.saturating_sub(turn.began) > seat.ttl() / 2;
    if turn.token.is_some_and(is_fresh) || !seat.is_open(version) {
        return;
    }
    let Some(token) = token::sign(ring, agent, seat, version, record.epoch(), turn.began) else { return };
    let (name, value): (HeaderName, _) = match place {
        TokenPlace::Header(name) => (name.clone(), HeaderValue::try_from(token)),
        TokenPlace::Cookie(name) => (SET_COOKIE, cookie::set(name, &token, seat.ttl(), record.conn().tls)),
    };
    let Ok(value) = value else { return };
    match place {
        TokenPlace::Header(_) => drop(headers.insert(name, value)),
        // The agent may set cookies of its own.
        TokenPlace::Cookie(_) => drop(headers.append(name, value)),
    }
    record.conn().worker.counters().conversations.token(TokenEnd::Issued);
}

fn find_id(turn: &mut Turn, record: &Record, spec: &ConversationSpec, headers: &HeaderMap) {
    let in_head = spec.response_id.iter().find_map(|place| match place {
        ResponseId::Header(name) => headers.get(name).filter(|id| !id.is_empty()),
        ResponseId::Json(_) => None,
    });
    if let Some(id) = in_head {
        return pin_answer(turn, record, id.as_bytes());
    }
    if !spec.response_id.iter().any(|place| matches!(place, ResponseId::Json(_))) {
        return;
    }
    let media = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let watch = if is_json(media) {
        IdWatch::of_json()
    } else if media.len() >= 17 && media[..17].eq_ignore_ascii_case(b"text/event-stream") {
        IdWatch::of_events()
    } else {
        return;
    };
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return record.conn().worker.counters().conversations.id(IdFault::Encoded);
    }
    turn.watch = Some(watch);
}

/// Pins the conversation that the response named to the version that answered.
fn pin_answer(turn: &mut Turn, record: &Record, id: &[u8]) {
    let pins = &record.conn().worker.shared.pins;
    let Some((_, seat)) = record.agent().conversations(pins) else { return };
    let Some(key) = seat.key(id) else {
        return record.conn().worker.counters().conversations.id(IdFault::TooLong);
    };
    if turn.key != Some(key) {
        turn.answer = pins.make(seat, key, record.decision.version, wall()).map(|(hold, _)| hold);
    }
}

fn override_end(fault: OverrideFault) -> OverrideEnd {
    match fault {
        OverrideFault::Unsigned => OverrideEnd::Unsigned,
        OverrideFault::Seal(SealFault::Malformed) => OverrideEnd::Malformed,
        OverrideFault::Seal(SealFault::UnknownKey) => OverrideEnd::UnknownKey,
        OverrideFault::Seal(SealFault::Forged) => OverrideEnd::Forged,
        OverrideFault::Expired => OverrideEnd::Expired,
        OverrideFault::Foreign => OverrideEnd::Foreign,
        OverrideFault::OtherVersion => OverrideEnd::OtherVersion,
        OverrideFault::UnknownVersion => OverrideEnd::UnknownVersion,
    }
}

fn token_end(fault: TokenFault) -> TokenEnd {
    match fault {
        TokenFault::Seal(SealFault::Malformed) => TokenEnd::Malformed,
        TokenFault::Seal(SealFault::UnknownKey) => TokenEnd::UnknownKey,
        TokenFault::Seal(SealFault::Forged) => TokenEnd::Forged,
        TokenFault::Expired => TokenEnd::Expired,
        TokenFault::Foreign => TokenEnd::Foreign,
        TokenFault::Gone => TokenEnd::Gone,
    }
}

/// Pins outlive the process, so their time is the wall's.
fn wall() -> Second {
    pin::second(SystemTime::now())
}
