use super::*;
use proptest::prelude::*;

const LONG_FLAG: &str = "flag-with-a-rather-long-name-that-fills-more-than-one-sha-block";
const LONG_KEY: &str = "key-0123456789-0123456789-0123456789-0123456789";

/// (flag, salt, key), then what Python's hashlib and Node's crypto say: sha1, sha1-js (`parseInt(hex, 16) %
/// 100000`), launchdarkly, launchdarkly with seed 61, md5, and murmur3 by a separate Python implementation.
type Known = (&'static str, &'static str, &'static str, u32, u32, f64, f64, u32, u32);

const KNOWN: [Known; 9] = [
    ("support-bot", "2026-q1", "u1", 88519, 88544, 0.9767974002476688, 0.5647588312844198, 87437, 39601),
    ("support-bot", "2026-q1", "u2", 49343, 49376, 0.5102397904483765, 0.4933389968343002, 81872, 92960),
    ("support-bot", "2026-q1", "alice@example.com", 65489, 65440, 0.9338181228311223, 0.16250399695686474, 59507, 7323),
    ("support-bot", "", "x", 5615, 5616, 0.5352168674583168, 0.4816584567872766, 70529, 33297),
    ("a", "b", "c", 53711, 53696, 0.38357800263543324, 0.4538938074178647, 94099, 18997),
    ("bot", "s", "日本", 2741, 2688, 0.8964027047242273, 0.8829320558314755, 33700, 41401),
    (LONG_FLAG, "and-a-salt", LONG_KEY, 35307, 35264, 0.5101790490269686, 0.3007907575098222, 38743, 46058),
    ("support-bot", "2026-q1", "user-4711", 26388, 26384, 0.06879377740092645, 0.13733985888641473, 77599, 63778),
    (
        "billing",
        "v2",
        "5f1d7e84-1b0a-4a38-9a5e-0c2a4d9f6e11",
        8561,
        8512,
        0.32154029096551456,
        0.4648456247289751,
        39763,
        72764,
    ),
];

#[test]
fn every_scheme_gives_what_other_languages_give() {
    for (flag, salt, key, sha1, sha1_js, fraction, seeded, md5, murmur3) in KNOWN {
        let bucketed = |scheme, seed| Bucketer::new(scheme, flag, salt, seed).bucket(key.as_bytes());
        assert_eq!(bucketed(Scheme::Sha1, None).bucket, sha1, "sha1 {key}");
        assert_eq!(bucketed(Scheme::Sha1Js, None).bucket, sha1_js, "sha1-js {key}");
        assert_eq!(bucketed(Scheme::LaunchDarkly, None).fraction, Some(fraction), "launchdarkly {key}");
        assert_eq!(bucketed(Scheme::LaunchDarkly, Some(61)).fraction, Some(seeded), "seed {key}");
        assert_eq!(bucketed(Scheme::Md5, None).bucket, md5, "md5 {key}");
        assert_eq!(bucketed(Scheme::Murmur3, None).bucket, murmur3, "murmur3 {key}");
    }
}

/// The figures that LaunchDarkly's own SDKs are tested against, to the seven digits that they publish.
#[test]
fn launchdarkly_gives_its_sdks_published_figures() {
    let published = [
        (None, "userKeyA", 0.42157587),
        (None, "userKeyB", 0.6708485),
        (None, "userKeyC", 0.10343106),
        (Some(61), "userKeyA", 0.09801207),
        (Some(61), "userKeyB", 0.14483777),
        (Some(61), "userKeyC", 0.9242641),
    ];
    for (seed, key, fraction) in published {
        let bucketed = Bucketer::new(Scheme::LaunchDarkly, "hashKey", "saltyA", seed).bucket(key.as_bytes());
        let ours = bucketed.fraction.expect("launchdarkly has a fraction");
        assert!((ours - fraction).abs() < 1e-7, "{key}: {ours}");
        assert_eq!(bucketed.bucket, (fraction * 100_000.0) as u32);
    }
}

/// Widely published answers of MurmurHash3 x86 32-bit with seed 0.
#[test]
fn murmur3_gives_the_published_answers() {
    let published: [(&[u8], u32); 9] = [
        (b"", 0),
        (b"test", 0xba6b_d213),
        (b"Hello, world!", 0xc036_3e43),
        (b"hello, world", 0x149b_bb7f),
        (b"hello", 0x248b_fa47),
        (b"abc", 0xb3dd_93fa),
        (b"The quick brown fox jumps over the lazy dog", 0x2e4f_f723),
        (b"\xff\xff\xff\xff", 0x7629_3b50),
        (b"\x21\x43\x65\x87", 0xf55b_516b),
    ];
    for (data, hash) in published {
        assert_eq!(Murmur3::default().with(data).finish(), hash, "{data:?}");
    }
}

#[test]
fn the_double_of_the_largest_hash_is_one() {
    assert_eq!(0xFFF_FFFF_FFFF_FFFF_u64 as f64 / LAUNCHDARKLY_SCALE, 1.0);
    assert_eq!(first_15_hex_digits(&[0xff; 20]), 0xFFF_FFFF_FFFF_FFFF);
    assert_eq!(first_15_hex_digits(&[0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11]), 0x123_4567_89ab_cdef);
}

fn scheme() -> impl Strategy<Value = Scheme> {
    prop::sample::select(Scheme::ALL.to_vec())
}

proptest! {
    #[test]
    fn every_bucket_is_in_range(
        scheme in scheme(), flag in ".{0,80}", salt in ".{0,80}", seed: Option<i64>,
        key in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bucketed = Bucketer::new(scheme, &flag, &salt, seed).bucket(&key);
        prop_assert!(bucketed.bucket < BUCKETS);
        prop_assert_eq!(bucketed.fraction.is_some(), scheme == Scheme::LaunchDarkly);
        prop_assert!(bucketed.fraction.is_none_or(|f| (0.0..=1.0).contains(&f)));
    }

    /// The prepared prefix is an optimisation only: hashing everything at once gives the same.
    #[test]
    fn the_prepared_prefix_changes_nothing(flag in ".{0,80}", salt in ".{0,80}", key in ".{0,200}") {
        let whole = format!("{flag}:{salt}:{key}");
        let sha1 = first_15_hex_digits(&sha1::Sha1::digest(&whole)) % 100_000;
        let md5 = first_15_hex_digits(&md5::Md5::digest(&whole)) % 100_000;
        let murmur3 = Murmur3::default().with(whole.as_bytes()).finish() % 100_000;
        let bucket = |scheme| Bucketer::new(scheme, &flag, &salt, None).bucket(key.as_bytes()).bucket;
        prop_assert_eq!(u64::from(bucket(Scheme::Sha1)), sha1);
        prop_assert_eq!(u64::from(bucket(Scheme::Md5)), md5);
        prop_assert_eq!(bucket(Scheme::Murmur3), murmur3);
    }

    /// Rounding 60 bits to a double's 53 moves the integer by at most 64, so the two buckets are as near.
    #[test]
    fn sha1_js_is_within_64_buckets_of_sha1(flag in ".{0,20}", salt in ".{0,20}", key in ".{0,40}") {
        let bucket = |scheme| i64::from(Bucketer::new(scheme, &flag, &salt, None).bucket(key.as_bytes()).bucket);
        let apart = (bucket(Scheme::Sha1) - bucket(Scheme::Sha1Js)).rem_euclid(100_000);
        prop_assert!(apart <= 64 || apart >= 100_000 - 64, "{} apart", apart);
    }
}

/// Pearson's chi-square over 100 cells of 1,000 buckets: 100,000 keys, 99 degrees of freedom. 148.2 is the
/// 99.9 % quantile; the keys are fixed, so the test either always passes or never does.
#[test]
fn keys_spread_evenly() {
    for scheme in Scheme::ALL {
        let bucketer = Bucketer::new(scheme, "support-bot", "2026-q1", None);
        let mut cells = [0_u32; 100];
        for user in 0..100_000 {
            cells[(bucketer.bucket(format!("user-{user}").as_bytes()).bucket / 1000) as usize] += 1;
        }
        let chi_square: f64 = cells.iter().map(|n| (f64::from(*n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 148.2, "{scheme}: {chi_square}");
    }
}
