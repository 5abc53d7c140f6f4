//! Limits by a clock of the tests' own: [`pace`] alone, a limit's callers, whole requests.

use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use super::pace::{Fill, SECOND};
use super::*;

mod callers;
mod requests;

/// One a second, five at once.
const PACE: Pace = Pace { per_minute: 60, burst: 5 };

fn takes(fill: &Fill, now: Nanos) -> usize {
    std::iter::from_fn(|| fill.take(PACE, 1, now).ok()).take(1_000).count()
}

#[test]
fn a_burst_is_there_at_once_and_the_rest_comes_evenly() {
    let fill = Fill::default();
    let start = 1_000 * SECOND;
    assert_eq!(takes(&fill, start), 5);
    assert_eq!(fill.take(PACE, 1, start), Err(SECOND));
    assert_eq!(fill.take(PACE, 1, start + SECOND / 4), Err(SECOND / 4 * 3));
    assert_eq!(takes(&fill, start + SECOND - 1), 0);
    assert_eq!(takes(&fill, start + SECOND), 1);
    assert_eq!(takes(&fill, start + 4 * SECOND), 3);
    // Never more than a burst, however long it was idle.
    assert_eq!(takes(&fill, start + 4_000 * SECOND), 5);
    assert!(!fill.is_full(start + 4_004 * SECOND) && fill.is_full(start + 4_005 * SECOND));
}

#[test]
fn what_is_refused_costs_nothing() {
    let fill = Fill::default();
    takes(&fill, 0);
    assert!((0..100).all(|_| fill.take(PACE, 1, 0).is_err()));
    assert_eq!(takes(&fill, SECOND), 1);
}

#[test]
fn more_than_a_burst_at_once_never_passes() {
    let fill = Fill::default();
    assert!(fill.take(PACE, 6, 1_000 * SECOND).is_err());
    assert!(fill.take(PACE, 5, 1_000 * SECOND).is_ok());
    assert!(fill.take(PACE, u64::MAX, 2_000 * SECOND).is_err());
}

#[test]
fn what_is_given_back_can_be_taken_again_once() {
    let fill = Fill::default();
    let until = fill.take(PACE, 4, 0).unwrap();
    assert_eq!(takes(&fill, 0), 1);
    fill.give_back(PACE, 4, until, 0);
    assert_eq!(takes(&fill, 0), 4);
    // After an hour all of it has come back by itself.
    let until = fill.take(PACE, 4, 3_600 * SECOND).unwrap();
    let later = 7_200 * SECOND;
    assert_eq!(takes(&fill, later), 5);
    fill.give_back(PACE, 4, until, later);
    assert_eq!(takes(&fill, later), 0);
}

#[test]
fn a_debt_is_waited_out_and_has_an_end() {
    let fill = Fill::default();
    fill.charge(PACE, 65, 0);
    assert_eq!(fill.take(PACE, 1, 0), Err(61 * SECOND));
    assert_eq!(takes(&fill, 61 * SECOND), 1);
    fill.charge(PACE, u64::MAX, 100 * SECOND);
    let wait = fill.take(PACE, 1, 100 * SECOND).unwrap_err();
    assert_eq!(wait, 3_601 * SECOND);
}

#[test]
fn what_is_left_is_whole_units() {
    let fill = Fill::default();
    let full = fill.take(PACE, 1, 0).unwrap();
    assert_eq!((pace::left(PACE, full, 0), pace::left(PACE, full, SECOND / 2)), (4, 4));
    assert_eq!(pace::left(PACE, full, SECOND), 5);
    assert_eq!(pace::left(PACE, 100 * SECOND, 0), 0);
}

proptest::proptest! {
    /// Whoever asks whenever: no window of time sees more than its rate and a burst, and who always asks gets all of it.
    #[test]
    fn never_more_than_the_rate_and_never_less(
        per_minute in 1u64..=PER_MINUTE_MAX,
        burst in 1u64..50,
        gaps in proptest::collection::vec((0u64..3, 0u64..=1_000), 1..200),
    ) {
        let pace = Pace { per_minute, burst };
        let (greedy, fill) = (Fill::default(), Fill::default());
        let unit = pace.worth(1);
        let (mut now, mut taken, mut all) = (7 * SECOND, Vec::new(), 0u64);
        for (units, thousandths) in gaps {
            now += units * unit + unit * thousandths / 1_000;
            if fill.take(pace, 1, now).is_ok() {
                taken.push(now);
            }
            while greedy.take(pace, 1, now).is_ok() {
                all += 1;
            }
            let elapsed = now - 7 * SECOND;
            proptest::prop_assert!(all <= burst + elapsed / unit);
        }
        for (index, start) in taken.iter().enumerate() {
            for (count, end) in taken[index..].iter().enumerate() {
                proptest::prop_assert!(count as u64 <= (burst - 1) + (end - start) / unit);
            }
        }
    }
}

#[test]
fn threads_together_get_all_that_is_allowed_and_no_more() {
    const THREADS: usize = 8;
    let pace = Pace { per_minute: 60_000, burst: 1_000 };
    let (fill, clock, taken) = (Fill::default(), AtomicU64::new(SECOND), AtomicUsize::new(0));
    let barrier = Barrier::new(THREADS);
    // The first, at the very beginning.
    fill.take(pace, 1, SECOND).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..20_000 {
                    // Time goes on under them: a unit comes back every tenth try.
                    let now = clock.fetch_add(100_000, Ordering::Relaxed);
                    if fill.take(pace, 1, now).is_ok() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let now = clock.load(Ordering::Relaxed);
    while fill.take(pace, 1, now).is_ok() {
        taken.fetch_add(1, Ordering::Relaxed);
    }
    let elapsed = (now - SECOND) / 1_000_000;
    assert_eq!(taken.load(Ordering::Relaxed) as u64, 999 + elapsed);
}
