//! Tables: so long after the start, with so many gone, how many may go now.

use std::time::{Instant, SystemTime};

use super::*;

fn at(seconds: f64) -> Moment {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let by = Duration::from_secs_f64(seconds);
    Moment { instant: *START.get_or_init(Instant::now) + by, wall: SystemTime::UNIX_EPOCH + by }
}

fn migration(mode: Mode, total: u64) -> Migration {
    Migration {
        id: MigrationId::new("m"),
        from: VersionId::new("1.0.0"),
        to: VersionId::new("2.0.0"),
        mode,
        by: Actor::pointsman(),
        reason: None,
        started: at(0.0),
        total,
        progress: Progress { moved: 0, remaining: total, busy: 0 },
        state: State::Running,
    }
}

fn share(percent: u32, every: u64) -> Mode {
    let share = Weight::new(percent * 1_000).expect("a share");
    Mode::Gradual(Pace::Share { share, every: Duration::from_secs(every) })
}

fn per_second(rate: u32) -> Mode {
    Mode::Gradual(Pace::PerSecond(rate))
}

const ALL: u64 = u64::MAX;

#[test]
fn so_many_may_go_by_now() {
    // mode, of how many, gone, seconds since the start → may go
    let table = [
        (Mode::Immediate, 10_000, 0, 0.0, ALL),
        (Mode::Immediate, 10_000, 9_990, 60.0, ALL),
        (Mode::Manual { listed: vec!["a".into()] }, 1, 0, 0.0, ALL),
        (per_second(50), 1_000, 0, 0.0, 0),
        (per_second(50), 1_000, 0, 0.1, 5),
        (per_second(50), 1_000, 5, 0.1, 0),
        (per_second(50), 1_000, 5, 1.0, 45),
        // Those that were busy are caught up with.
        (per_second(50), 1_000, 10, 10.0, 490),
        // Due are all that it was for: nobody is left behind by a rounding.
        (per_second(50), 1_000, 990, 20.0, ALL),
        (per_second(50), 1_000, 0, 1e6, ALL),
        (per_second(PER_SECOND_MAX), u64::MAX, 0, 1e12, 100_000_000_000_000_000),
        (share(10, 60), 1_000, 0, 0.0, 100),
        (share(10, 60), 1_000, 100, 59.9, 0),
        (share(10, 60), 1_000, 100, 60.0, 100),
        (share(10, 60), 1_000, 100, 125.0, 200),
        (share(10, 60), 1_000, 900, 540.0, ALL),
        (share(30, 60), 10, 0, 0.0, 3),
        // A share of a few is rounded up, so that somebody goes.
        (share(1, 60), 7, 0, 0.0, 1),
        (share(100, 60), 7, 0, 0.0, ALL),
        (share(10, 60), 0, 0, 0.0, ALL),
    ];
    for (mode, total, moved, seconds, expected) in table {
        let mut migration = migration(mode, total);
        migration.progress.moved = moved;
        assert_eq!(migration.plan(at(seconds)).moves, expected, "{migration:?} after {seconds} s");
    }
}

#[test]
fn it_asks_again_when_there_may_be_more_and_not_before() {
    let table = [
        (Mode::Immediate, 0.0, 0.1),
        (per_second(1), 0.0, 1.0),
        (per_second(50), 3.0, 0.1),
        (share(10, 60), 0.0, 60.0),
        (share(10, 60), 59.0, 1.0),
        (share(10, 60), 59.99, 0.1),
        (share(10, 60), 60.0, 60.0),
    ];
    for (mode, seconds, expected) in table {
        let again = migration(mode.clone(), 1_000).plan(at(seconds)).again;
        assert!((again.as_secs_f64() - expected).abs() < 1e-6, "{mode:?} after {seconds} s: {again:?}");
    }
}

#[test]
fn it_ends_as_its_pace_says() {
    let table = [
        (Mode::Immediate, 1_000, None),
        (per_second(50), 1_000, Some(20.0)),
        (per_second(50), 0, Some(0.0)),
        (share(10, 60), 1_000, Some(540.0)),
        (share(30, 60), 1_000, Some(180.0)),
        (share(100, 60), 1_000, Some(0.0)),
    ];
    for (mode, total, seconds) in table {
        let migration = migration(mode, total);
        let end = migration.estimated_end().map(|end| end.since(at(0.0)).as_secs_f64());
        assert_eq!(end, seconds, "{migration:?}");
        // At that time, everybody is due.
        let due = migration.plan(at(seconds.unwrap_or(0.0))).moves;
        assert_eq!(due, ALL, "{migration:?}");
    }
}

#[test]
fn a_run_that_leaves_nobody_behind_is_the_last() {
    let mut migration = migration(Mode::Immediate, 10);
    assert!(!migration.ran(8, 2, 2, at(1.0)));
    assert_eq!(
        (migration.progress, migration.state.as_str()),
        (Progress { moved: 8, remaining: 2, busy: 2 }, "running")
    );
    assert!(migration.ran(2, 0, 0, at(2.0)));
    assert_eq!((migration.progress.moved, migration.state.ended()), (10, Some(at(2.0))));
    assert_eq!(migration.estimated_end(), None);
    // What has ended stays as it ended.
    migration.cancel(Actor::pointsman(), None, at(3.0));
    assert_eq!(migration.state, State::Completed { at: at(2.0) });
}

#[test]
fn one_that_is_cancelled_moves_nobody_back() {
    let mut migration = migration(Mode::Immediate, 10);
    migration.ran(8, 2, 2, at(1.0));
    migration.cancel(Actor::new("ada", "api"), Some("enough".into()), at(2.0));
    assert_eq!((migration.progress.moved, migration.state.as_str()), (8, "cancelled"));
    // A run that was under way meanwhile is counted, and opens nothing.
    assert!(migration.ran(1, 0, 0, at(3.0)));
    assert_eq!((migration.progress.moved, migration.state.as_str()), (9, "cancelled"));
}

#[test]
fn it_is_read_back_as_it_was_written() {
    for mode in [Mode::Immediate, share(10, 60), per_second(5), Mode::Manual { listed: vec!["0a".into()] }] {
        let mut before = migration(mode, 10);
        before.cancel(Actor::new("ada", "api"), None, at(2.0));
        let text = serde_json::to_string(&before).expect("is JSON");
        let after: Migration = serde_json::from_str(&text).expect("the same text");
        // On the monotonic clock a moment is as far from now as on the wall.
        assert_eq!((&after.mode, &after.progress, after.started.wall), (&before.mode, &before.progress, at(0.0).wall));
        assert_eq!(serde_json::to_string(&after).expect("is JSON"), text);
    }
}
