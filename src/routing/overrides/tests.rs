use proptest::prelude::*;

use super::*;
use crate::routing::fixture::{CANARY, agent_with};

const NOW: Second = 1_800_000_000;

fn overrides() -> Overrides {
    let keys = KeyRing::new([("ops", "a secret of at least thirty-two bytes")]).unwrap();
    Overrides { keys, forward: false }
}

fn grant() -> Grant<'static> {
    Grant { environment: "production", agent: "support-bot", version: "1.5.0", expires: NOW + 60 }
}

/// What an agent whose version 1.5.0 was rolled back makes of it.
fn used(grant: &Grant<'_>, asked: Option<&str>, now: Second) -> Result<usize, OverrideFault> {
    let overrides = overrides();
    let signature = grant.sign(&overrides.keys).unwrap();
    let agent = agent_with(|_| {}, &["1.5.0"]);
    overrides.version(&agent, asked.map(str::as_bytes), signature.as_bytes(), now)
}

#[test]
fn it_works_within_its_scope_and_nowhere_else() {
    let cases = [
        (grant(), Ok(CANARY)),
        (Grant { agent: ANY_AGENT, ..grant() }, Ok(CANARY)),
        (Grant { agent: "other", ..grant() }, Err(OverrideFault::Foreign)),
        (Grant { environment: "staging", ..grant() }, Err(OverrideFault::Foreign)),
        (Grant { environment: "*", ..grant() }, Err(OverrideFault::Foreign)),
        (Grant { expires: NOW, ..grant() }, Err(OverrideFault::Expired)),
        (Grant { version: "9.0.0", ..grant() }, Err(OverrideFault::UnknownVersion)),
    ];
    for (grant, version) in cases {
        assert_eq!(used(&grant, None, NOW), version, "{grant:?}");
        assert_eq!(used(&grant, Some(grant.version), NOW), version, "{grant:?}");
    }
    assert_eq!(used(&grant(), Some("1.4.2"), NOW), Err(OverrideFault::OtherVersion));
}

#[test]
fn names_are_kept_apart() {
    let long = "x".repeat(300);
    assert!(Grant { agent: &long, ..grant() }.sign(&overrides().keys).is_none());
    // `support-bot` and `1.5.0`, cut elsewhere.
    let moved = Grant { environment: "productions", agent: "upport-bot", ..grant() };
    assert_eq!(used(&moved, None, NOW), Err(OverrideFault::Foreign));
}

#[test]
fn a_pin_token_is_no_signature() {
    let overrides = overrides();
    let agent = agent_with(|_| {}, &[]);
    let token = overrides.keys.seal(Purpose::Pin, b"anything");
    let fault = overrides.version(&agent, None, token.as_bytes(), NOW);
    assert_eq!(fault, Err(SealFault::Forged.into()));
    let short = overrides.keys.seal(Purpose::Override, b"\0\0\0\0\x20short");
    assert_eq!(overrides.version(&agent, None, short.as_bytes(), NOW), Err(SealFault::Malformed.into()));
}

proptest! {
    #[test]
    fn with_any_bit_flipped_it_is_refused(bit in any::<usize>()) {
        let overrides = overrides();
        let mut signature = grant().sign(&overrides.keys).unwrap().into_bytes();
        let bit = bit % (signature.len() * 8);
        signature[bit / 8] ^= 1 << (bit % 8);
        let agent = agent_with(|_| {}, &[]);
        let refused = overrides.version(&agent, None, &signature, NOW);
        prop_assert!(matches!(refused, Err(OverrideFault::Seal(_))), "{refused:?}");
    }
}
