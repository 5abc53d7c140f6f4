use proptest::prelude::*;

use super::*;
use crate::routing::fixture::{CANARY, STABLE, agent, agent_with, conversations, pins};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId};
use crate::routing::spec::{AgentSpec, ConversationSpec};

const NOW: Second = 1_800_000_000;

fn ring() -> KeyRing {
    KeyRing::new([("2026-01", "a secret of at least thirty-two bytes")]).unwrap()
}

fn signed(agent: &Agent, version: usize) -> String {
    let pins = pins(10);
    let (_, seat) = agent.conversations(&pins).unwrap();
    sign(&ring(), agent, seat, version, 42, NOW).unwrap()
}

fn read_by(agent: &Agent, token: &[u8], now: Second) -> Result<Token, TokenFault> {
    let pins = pins(10);
    let (_, seat) = agent.conversations(&pins).unwrap();
    read(&ring(), agent, seat, token, now)
}

#[test]
fn a_token_holds_to_its_version_until_it_expires() {
    let agent = agent();
    let token = signed(&agent, CANARY);
    assert!(token.len() < 100, "{token}");
    let good = Token { version: CANARY, epoch: 42, expires: NOW + 3600 };
    assert_eq!(read_by(&agent, token.as_bytes(), NOW), Ok(good));
    assert_eq!(read_by(&agent, token.as_bytes(), NOW + 3599), Ok(good));
    assert_eq!(read_by(&agent, token.as_bytes(), NOW + 3600), Err(TokenFault::Expired));
}

#[test]
fn a_token_is_for_one_agent_in_one_environment() {
    let token = signed(&agent(), STABLE);
    let others: [fn(&mut AgentSpec); 2] =
        [|spec| spec.id = AgentId::new("other"), |spec| spec.environment = EnvironmentId::new("staging")];
    for other in others {
        assert_eq!(read_by(&agent_with(other, &[]), token.as_bytes(), NOW), Err(TokenFault::Foreign));
    }
}

#[test]
fn a_token_does_not_outlive_its_version() {
    let token = signed(&agent(), CANARY);
    let without = agent_with(|spec| drop(spec.versions.remove("1.5.0")), &[]);
    assert_eq!(read_by(&without, token.as_bytes(), NOW), Err(TokenFault::Gone));
    assert_eq!(read_by(&agent_with(|_| {}, &["1.5.0"]), token.as_bytes(), NOW), Err(TokenFault::Gone));
    let keeps = ConversationSpec { evict_on_rollback: false, ..conversations() };
    let keeping = agent_with(|spec| spec.conversations = Some(keeps), &["1.5.0"]);
    assert_eq!(read_by(&keeping, token.as_bytes(), NOW).map(|token| token.version), Ok(CANARY));
    // Versions may move within the table; the name counts.
    let more =
        agent_with(|spec| drop(spec.versions.insert(VersionId::new("1.0.0"), spec.versions["1.5.0"].clone())), &[]);
    assert_eq!(read_by(&more, token.as_bytes(), NOW).map(|token| token.version), Ok(CANARY + 1));
}

#[test]
fn a_well_signed_payload_of_another_form_is_malformed() {
    let agent = agent();
    let seal = ring().seal(Purpose::Pin, b"short");
    assert_eq!(read_by(&agent, seal.as_bytes(), NOW), Err(SealFault::Malformed.into()));
}

proptest! {
    #[test]
    fn with_any_bit_flipped_it_is_refused(bit in any::<usize>()) {
        let agent = agent();
        let mut token = signed(&agent, CANARY).into_bytes();
        let bit = bit % (token.len() * 8);
        token[bit / 8] ^= 1 << (bit % 8);
        let seals = [SealFault::Malformed, SealFault::UnknownKey, SealFault::Forged].map(TokenFault::Seal);
        prop_assert!(read_by(&agent, &token, NOW).is_err_and(|fault| seals.contains(&fault)));
    }
}
