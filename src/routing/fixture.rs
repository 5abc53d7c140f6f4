//! An agent with conversations, for this room's tests.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::compile::compile;
use super::ids::VersionId;
use super::pin::{PinSecret, Pins, SharedPins};
use super::spec::{AgentSpec, ConversationSpec, Desired, DesiredAgent, PinPolicy, TokenPlace};
use super::table::{Agent, Head};
use crate::control::fixture::an_agent;
use crate::telemetry::stats::StatsRegistry;

/// The indexes of its versions.
pub const STABLE: usize = 0;
pub const CANARY: usize = 1;

/// An hour, by `x-conversation-id`, with a token in `x-pin`.
pub fn conversations() -> ConversationSpec {
    ConversationSpec {
        id: vec!["header:x-conversation-id".parse().expect("an attribute")],
        response_id: vec![],
        policy: PinPolicy::Pinned,
        ttl: Duration::from_secs(3600),
        evict_on_rollback: true,
        token: Some(TokenPlace::Header(http::HeaderName::from_static("x-pin"))),
    }
}

/// 1.4.2 stable, 1.5.0 and 1.6.0; those of `barred` were rolled back.
pub fn agent_with(change: impl FnOnce(&mut AgentSpec), barred: &[&'static str]) -> Arc<Agent> {
    let mut spec = AgentSpec { conversations: Some(conversations()), ..an_agent() };
    change(&mut spec);
    let barred: Vec<_> = barred.iter().map(|name| VersionId::new(*name)).collect();
    let left = barred.clone();
    let agents = vec![DesiredAgent { spec: Arc::new(spec), barred, left, canary: None, notes: Default::default() }];
    let desired = Desired { config_hash: "".into(), agents };
    compile(&desired, None, &StatsRegistry::new(1), 7).expect("a table").agents[0].clone()
}

pub fn agent() -> Arc<Agent> {
    agent_with(|_| {}, &[])
}

pub fn pins(max: usize) -> SharedPins {
    Pins::new(PinSecret([7; 32]), max)
}

pub fn head(headers: &HeaderMap) -> Head<'_> {
    let client = [127, 0, 0, 1].into();
    Head {
        method: &Method::GET,
        host: "h",
        path: "/",
        query: None,
        headers,
        client,
        certificate: None,
        json: None,
        nonce: 1,
    }
}
