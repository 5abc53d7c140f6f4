use super::*;
use crate::routing::bucket::Bucketer;
use proptest::prelude::*;

fn percent(weights: &[u32]) -> Vec<Arm> {
    weights.iter().enumerate().map(|(i, w)| (i, Weight::new(w * 1000).expect("a share"))).collect()
}

fn thousandths(weights: &[u32]) -> Vec<Arm> {
    weights.iter().enumerate().map(|(i, w)| (i, Weight::new(*w).expect("a share"))).collect()
}

fn canonical(arms: &[Arm]) -> Split {
    Split::canonical(Scheme::Sha1, arms).expect("adds up")
}

fn ranges(split: &Split) -> Vec<(u32, u32, usize)> {
    split.ranges().map(|(range, version)| (*range.start(), *range.end(), version)).collect()
}

fn owner(split: &Split, bucket: u32) -> usize {
    split.pick(Bucketed { bucket, fraction: None })
}

fn moved(from: &Split, to: &Split) -> u32 {
    (0..BUCKETS).filter(|bucket| owner(from, *bucket) != owner(to, *bucket)).count() as u32
}

/// ½·Σ|Δweight| over all versions that either has.
fn least(from: &Split, to: &Split, versions: usize) -> u32 {
    (0..versions).map(|v| from.weight(v).get().abs_diff(to.weight(v).get())).sum::<u32>() / 2
}

#[test]
fn arms_lie_in_their_authors_order() {
    let split = canonical(&percent(&[5, 20, 75]));
    assert_eq!(ranges(&split), [(0, 4_999, 0), (5_000, 24_999, 1), (25_000, 99_999, 2)]);
    for (bucket, version) in [(0, 0), (4_999, 0), (5_000, 1), (24_999, 1), (25_000, 2), (99_999, 2)] {
        assert_eq!(owner(&split, bucket), version, "{bucket}");
    }
    assert_eq!(split.weight(1), Weight::new(20_000).expect("a share"));
    assert_eq!(split.sole(), None);
}

#[test]
fn an_arm_without_weight_has_no_bucket() {
    let split = canonical(&percent(&[0, 100]));
    assert_eq!(ranges(&split), [(0, 99_999, 1)]);
    assert_eq!(split.sole(), Some(1));
    assert_eq!(split, Split::all(1));
}

#[test]
fn weights_that_do_not_add_up_are_refused_with_their_sum() {
    let error = Split::canonical(Scheme::Sha1, &percent(&[5, 90])).expect_err("95 %");
    assert_eq!(error.to_string(), "the weights add up to 95%, expected 100%");
    let error = Split::all(0).evolve(&thousandths(&[99_999, 2])).expect_err("100.001 %");
    assert_eq!(error.to_string(), "the weights add up to 100.001%, expected 100%");
    assert!(Split::canonical(Scheme::LaunchDarkly, &[]).is_err());
}

#[test]
fn a_ramp_keeps_everybody_who_was_in_the_canary() {
    let (canary, stable) = (0, 1);
    let mut split = Split::all(stable);
    for weight in [1, 5, 25, 50, 100] {
        split = split.evolve(&percent(&[weight, 100 - weight])).expect("adds up");
        assert_eq!(owner(&split, 0), canary);
        assert_eq!(split, canonical(&percent(&[weight, 100 - weight])), "one range at the low end");
    }
    for weight in [50, 3, 0] {
        split = split.evolve(&percent(&[weight, 100 - weight])).expect("adds up");
        assert_eq!(split, canonical(&percent(&[weight, 100 - weight])), "shrinks the way it grew");
    }
}

#[test]
fn a_version_that_is_gone_gives_all_it_had() {
    let split = canonical(&percent(&[10, 20, 70]));
    let without_1 = split.evolve(&[(0, percent(&[40])[0].1), (2, percent(&[60])[0].1)]).expect("adds up");
    assert_eq!(without_1.weight(1), Weight::ZERO);
    assert_eq!(moved(&split, &without_1), 30_000);
}

#[test]
fn versions_may_be_numbered_anew() {
    let split = canonical(&percent(&[10, 20, 70])).renumbered(|v| [4, 4, 2][v]);
    assert_eq!(ranges(&split), [(0, 29_999, 4), (30_000, 99_999, 2)]);
}

#[test]
fn three_arms_stay_in_few_pieces() {
    let mut split = canonical(&percent(&[30, 30, 40]));
    for weights in [[40, 30, 30], [30, 50, 20], [1, 1, 98], [60, 20, 20], [20, 20, 60], [33, 33, 34]] {
        let next = split.evolve(&percent(&weights)).expect("adds up");
        assert_eq!(moved(&split, &next), least(&split, &next, 3));
        assert!(ranges(&next).len() <= 4, "{:?}", ranges(&next));
        split = next;
    }
}

#[test]
fn too_many_pieces_fall_back_to_the_canonical_layout() {
    let (a, b) = (percent(&[25, 25, 25, 25]), percent(&[35, 15, 35, 15]));
    let live = canonical_pieces(&a);
    let many = evolved_pieces(&live, &b, 1);
    assert_eq!(many, canonical_pieces(&b));
}

#[test]
fn launchdarkly_compares_fractions() {
    let split = Split::canonical(Scheme::LaunchDarkly, &percent(&[10, 20, 70])).expect("adds up");
    let pick = |fraction: f64| split.pick(Bucketed { bucket: 0, fraction: Some(fraction) });
    assert_eq!(pick(0.0), 0);
    assert_eq!(pick(0.0999999), 0);
    assert_eq!(pick(0.1), 1, "a sum must exceed the fraction");
    // 0.1 + 0.2 in doubles is 0.30000000000000004, and so it is in the SDKs.
    assert_eq!(pick(0.3), 1);
    assert_eq!(pick(0.30000000000000004), 2);
    assert_eq!(pick(1.0), 2, "what rounding leaves over goes to the last arm");
}

#[test]
fn launchdarkly_gives_what_rounding_leaves_over_to_the_last_arm() {
    let split = Split::canonical(Scheme::LaunchDarkly, &percent(&[10; 10])).expect("adds up");
    // Ten times 0.1 in doubles is 0.9999999999999999.
    assert_eq!(split.pick(Bucketed { bucket: 99_999, fraction: Some(1.0) }), 9);
}

#[test]
fn real_keys_get_their_share() {
    let weights = [5_000, 20_000, 75_000].map(|w| Weight::new(w).expect("a share"));
    let split = Split::numbered(Scheme::Sha1, &weights).expect("adds up");
    let bucketer = Bucketer::new(Scheme::Sha1, "support-bot", "2026-q1", None);
    let mut counts = [0_u32; 3];
    for user in 0..100_000 {
        counts[split.pick(bucketer.bucket(format!("user-{user}").as_bytes()))] += 1;
    }
    // Four standard deviations of a binomial count; the keys are fixed.
    for (count, share) in counts.iter().zip([0.05, 0.2, 0.75]) {
        let (mean, deviation) = (100_000.0 * share, (100_000.0_f64 * share * (1.0 - share)).sqrt());
        assert!((f64::from(*count) - mean).abs() < 4.0 * deviation, "{counts:?}");
    }
}

/// `arms` weights that add up to 100 %, some of them zero.
fn weights(arms: usize) -> impl Strategy<Value = Vec<Arm>> {
    prop::collection::vec(prop_oneof![1 => Just(0_u32), 4 => 0..=BUCKETS], arms - 1).prop_map(move |mut cuts| {
        cuts.sort_unstable();
        cuts.push(BUCKETS);
        let mut last = 0;
        let weights = cuts.iter().map(|cut| cut - std::mem::replace(&mut last, *cut));
        thousandths(&weights.collect::<Vec<_>>())
    })
}

fn history() -> impl Strategy<Value = Vec<Vec<Arm>>> {
    (2_usize..=7).prop_flat_map(|arms| prop::collection::vec(weights(arms), 2..20))
}

fn check_pieces(split: &Split) -> Result<(), TestCaseError> {
    let mut next = 0;
    for (range, _) in split.ranges() {
        prop_assert_eq!(*range.start(), next, "no gap, no overlap");
        next = range.end() + 1;
    }
    prop_assert_eq!(next, BUCKETS);
    let versions: Vec<_> = split.ranges().map(|(_, version)| version).collect();
    prop_assert!(versions.windows(2).all(|pair| pair[0] != pair[1]), "neighbours are joined");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_change_moves_exactly_half_the_sum_of_the_differences(history in history()) {
        let mut split = canonical(&history[0]);
        for arms in &history[1..] {
            let next = split.evolve(arms).expect("adds up");
            check_pieces(&next)?;
            for (version, weight) in arms {
                prop_assert_eq!(next.weight(*version), *weight);
            }
            prop_assert_eq!(moved(&split, &next), least(&split, &next, arms.len()));
            // Two arms are always two ranges; each change of n versions adds few pieces.
            prop_assert!(arms.len() > 2 || ranges(&next).len() <= 2);
            split = next;
        }
        prop_assert!(ranges(&split).len() <= history.len() * history[0].len());
    }

    #[test]
    fn who_gains_loses_nobody(history in history()) {
        let mut split = canonical(&history[0]);
        for arms in &history[1..] {
            let next = split.evolve(arms).expect("adds up");
            for bucket in (0..BUCKETS).step_by(7) {
                let (was, is) = (owner(&split, bucket), owner(&next, bucket));
                prop_assert!(was == is || next.weight(was) < split.weight(was), "bucket {} left {}", bucket, was);
            }
            split = next;
        }
    }

    #[test]
    fn the_same_weights_move_nothing(history in history()) {
        let mut split = canonical(&history[0]);
        for arms in &history[1..] {
            split = split.evolve(arms).expect("adds up");
            prop_assert_eq!(&split.evolve(arms).expect("adds up"), &split);
        }
    }

    /// Where no fraction falls on a rounded edge, LaunchDarkly's rule and the bucket ranges agree.
    #[test]
    fn launchdarkly_agrees_with_its_ranges(arms in weights(5), bucket in 0..BUCKETS) {
        let split = Split::canonical(Scheme::LaunchDarkly, &arms).expect("adds up");
        let fraction = (f64::from(bucket) + 0.5) / f64::from(BUCKETS);
        let by_range = split.ranges().find(|(range, _)| range.contains(&bucket)).map(|(_, version)| version);
        prop_assert_eq!(Some(split.pick(Bucketed { bucket, fraction: Some(fraction) })), by_range);
    }
}
