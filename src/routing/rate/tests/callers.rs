//! The table of keys.

use super::*;

/// What the callers of [`Keys`] here may take.
fn drain(keys: &Keys, key: u128, now: Nanos) -> usize {
    let bucket = keys.bucket(key, MAX, now);
    std::iter::from_fn(|| bucket.take_request(PACE, now).ok()).take(1_000).count()
}

const MAX: usize = 1_000;

/// Spread as hashes are.
fn key(number: u64) -> u128 {
    let (high, low) = (crate::random::step(number).1, crate::random::step(!number).1);
    u128::from(high) << 64 | u128::from(low)
}

#[test]
fn each_caller_has_its_own() {
    let keys = Keys::default();
    assert_eq!([drain(&keys, key(1), 0), drain(&keys, key(2), 0), drain(&keys, key(1), 0)], [5, 5, 0]);
    assert_eq!(keys.stats(), KeyStats { keys: 2, forgotten: 0, overflowed: 0 });
}

#[test]
fn a_flood_of_keys_shares_one_allowance_and_takes_nothing_from_those_that_were_there() {
    let keys = Keys::default();
    for number in 0..MAX as u64 {
        assert_eq!(drain(&keys, key(number), SECOND), 5);
    }
    let let_in: usize = (0..10_000).map(|number| drain(&keys, key(1_000_000 + number), SECOND)).sum();
    assert_eq!(let_in, 5, "the flood has one caller's allowance");
    assert_eq!(keys.stats(), KeyStats { keys: MAX, forgotten: 0, overflowed: 10_000 });
    assert_eq!([drain(&keys, key(7), SECOND), drain(&keys, key(7), 2 * SECOND)], [0, 1]);
}

#[test]
fn a_full_table_forgets_those_whose_allowance_is_whole() {
    let keys = Keys::default();
    assert!((0..MAX as u64).all(|number| keys.bucket(key(number), MAX, 0).take_request(PACE, 0).is_ok()));
    // A second later all buckets are full again. One shard is looked through every ten milliseconds.
    let newcomers = (0..200).map(|number| keys.bucket(key(5_000 + number), MAX, 2 * SECOND + number * SECOND / 50));
    let own: Vec<_> = newcomers.collect();
    let overflow = keys.bucket(key(u64::MAX / 2), 0, 0);
    assert!(own.iter().all(|bucket| !Arc::ptr_eq(bucket, &overflow)), "there was room for each");
    let stats = keys.stats();
    assert!(stats.keys <= MAX && stats.forgotten >= 200, "{stats:?}");
}

#[test]
fn idle_callers_are_forgotten_after_a_while_and_busy_ones_are_not() {
    let keys = Keys::default();
    let busy = keys.bucket(key(1), MAX, 0);
    busy.enter(1).unwrap();
    drop(busy);
    assert!((2..200).all(|number| keys.bucket(key(number), MAX, 0).take_request(PACE, 0).is_ok()));
    let sweep = |now| (0..16).for_each(|_| keys.sweep(now));
    sweep(60 * SECOND);
    assert_eq!(keys.stats().keys, 199, "full for 59 seconds");
    sweep(61 * SECOND);
    assert_eq!(keys.stats(), KeyStats { keys: 1, forgotten: 198, overflowed: 0 });
    assert!(!keys.is_idle(61 * SECOND));
    keys.bucket(key(1), MAX, 0).leave();
    sweep(61 * SECOND);
    assert!(keys.is_idle(61 * SECOND));
}

#[test]
fn threads_that_come_with_the_same_new_keys_agree_and_count_right() {
    let keys = Keys::default();
    let barrier = Barrier::new(8);
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let all: usize = (0..500).map(|number| drain(&keys, key(number), 0)).sum();
                taken.fetch_add(all, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(taken.load(Ordering::Relaxed), 500 * 5);
    assert_eq!(keys.stats().keys, 500);
}
