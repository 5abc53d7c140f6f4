use proptest::prelude::*;

use super::*;

const OLD: (&str, &str) = ("2026-01", "an old secret of thirty-two bytes.");
const NEW: (&str, &str) = ("2026-02", "a new secret of thirty-two bytes..");

fn ring(keys: &[(&'static str, &'static str)]) -> KeyRing {
    KeyRing::new(keys.iter().copied()).unwrap()
}

fn opened(ring: &KeyRing, purpose: Purpose, seal: &str) -> Result<Vec<u8>, SealFault> {
    ring.open(purpose, seal.as_bytes()).map(|opened| opened.payload().to_vec())
}

#[test]
fn keys_rotate() {
    let (before, during, after) = (ring(&[OLD]), ring(&[NEW, OLD]), ring(&[NEW]));
    let (old, new) = (before.seal(Purpose::Pin, b"x"), during.seal(Purpose::Pin, b"x"));
    assert_eq!(opened(&during, Purpose::Pin, &old), Ok(b"x".to_vec()));
    assert_eq!(opened(&after, Purpose::Pin, &new), Ok(b"x".to_vec()));
    assert_eq!(opened(&after, Purpose::Pin, &old), Err(SealFault::UnknownKey));
    assert_eq!(opened(&before, Purpose::Pin, &new), Err(SealFault::UnknownKey));
    assert_eq!(during.sealing_with(OLD.0).unwrap().seal(Purpose::Pin, b"x"), old);
    assert!(during.sealing_with("2025-12").is_none());
}

#[test]
fn a_seal_serves_one_purpose() {
    let ring = ring(&[OLD]);
    let seal = ring.seal(Purpose::Pin, b"x");
    assert_eq!(opened(&ring, Purpose::Override, &seal), Err(SealFault::Forged));
}

#[test]
fn a_key_of_the_same_name_with_another_secret_is_another_key() {
    let seal = ring(&[(OLD.0, NEW.1)]).seal(Purpose::Pin, b"x");
    assert_eq!(opened(&ring(&[OLD]), Purpose::Pin, &seal), Err(SealFault::Forged));
}

#[test]
fn the_tag_is_the_half_of_an_hmac_that_anybody_can_compute() {
    // Made with another implementation (Python's hmac) of the same construction.
    let seal = ring(&[("k", "0123456789abcdef0123456789abcdef")]).seal(Purpose::Override, b"hello");
    assert_eq!(seal, "AWtoZWxsb4genMWTCMy__k0el8ZQYuM");
}

#[test]
fn nothing_prints_a_secret() {
    let shown = format!("{:?}", ring(&[NEW, OLD]));
    assert_eq!(shown, "[\"2026-02\", \"2026-01\"]");
}

#[test]
fn what_is_no_seal_is_malformed() {
    let ring = ring(&[OLD]);
    let too_long = "A".repeat(SEAL_BYTES_MAX + 4);
    for text in ["", "A", "AAAA", "not base64!", "AAAAAAAAAAAAAAAAAAAAAA==", too_long.as_str()] {
        assert_eq!(opened(&ring, Purpose::Pin, text), Err(SealFault::Malformed), "{text}");
    }
    assert!(KeyRing::new([]).is_none());
    assert!(KeyRing::new([("a name of a key that is far too long", OLD.1)]).is_none());
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
        let ring = ring(&[NEW, OLD]);
        prop_assert_eq!(opened(&ring, Purpose::Pin, &ring.seal(Purpose::Pin, &payload)), Ok(payload));
    }

    #[test]
    fn with_any_bit_flipped_it_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..80), bit in any::<usize>()) {
        let ring = ring(&[NEW, OLD]);
        let mut seal = ring.seal(Purpose::Pin, &payload).into_bytes();
        let bit = bit % (seal.len() * 8);
        seal[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ring.open(Purpose::Pin, &seal).is_err());
    }

    #[test]
    fn no_bytes_at_all_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
        prop_assert!(ring(&[NEW]).open(Purpose::Pin, &bytes).is_err());
        let encoded = URL_SAFE_NO_PAD.encode(&bytes);
        prop_assert!(ring(&[NEW]).open(Purpose::Pin, encoded.as_bytes()).is_err());
    }
}
