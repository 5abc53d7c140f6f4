//! Timelines of a breaker: what happens when, and how it stands then.

use std::sync::Arc;

use super::*;
use crate::telemetry::stats::{Exchange, StatusClass, VersionLabels};

const SPEC: BreakerSpec = BreakerSpec {
    max_concurrent: None,
    max_pending: None,
    consecutive_failures: Some(3),
    error_share: None,
    open_for: Duration::from_secs(5),
    half_open_requests: 2,
};

const FAILED: End = End::Failed { share_reached: false };

/// A breaker by itself, and the passages that it has given, by number.
struct Rig {
    spec: BreakerSpec,
    state: BreakerState,
    passages: Vec<Passage>,
}

impl Rig {
    fn new(spec: BreakerSpec) -> Self {
        Self { spec, state: BreakerState::default(), passages: Vec::new() }
    }

    /// Whether a request may pass at that second; else for how many it is to stay away.
    fn admit(&mut self, second: u64) -> Result<usize, u64> {
        let (state, said) = self.spec.admitted(self.state, second * 1_000);
        self.state = state;
        said.map_err(|wait| wait.as_secs()).map(|passage| {
            self.passages.push(passage);
            self.passages.len() - 1
        })
    }

    fn end(&mut self, number: usize, end: End, second: u64) -> BreakerPhase {
        self.state = self.spec.after(self.state, self.passages[number], end, second * 1_000);
        self.state.phase
    }

    /// So many failures, in the first second.
    fn fail(&mut self, times: usize) {
        for _ in 0..times {
            self.pass(FAILED, 0);
        }
    }

    /// One request from its beginning to its end.
    fn pass(&mut self, end: End, second: u64) -> BreakerPhase {
        let number = self.admit(second).expect("it is let through");
        self.end(number, end, second)
    }
}

#[test]
fn only_failures_in_a_row_open_it() {
    use BreakerPhase::{Closed, Open};
    let mut rig = Rig::new(SPEC);
    for (end, phase) in [
        (FAILED, Closed),
        (FAILED, Closed),
        (End::Good, Closed),
        (FAILED, Closed),
        (FAILED, Closed),
        (End::Nothing, Closed),
        (FAILED, Open),
    ] {
        assert_eq!(rig.pass(end, 1), phase);
    }
    assert_eq!(rig.admit(1), Err(5));
    assert_eq!(rig.admit(4), Err(2));
}

#[test]
fn it_closes_when_all_that_were_let_through_went_well() {
    let mut rig = Rig::new(SPEC);
    rig.fail(3);
    assert_eq!(rig.state.phase, BreakerPhase::Open);
    let (first, second) = (rig.admit(5).expect("to see"), rig.admit(5).expect("to see"));
    assert_eq!(rig.admit(5), Err(1), "no more than two");
    assert_eq!(rig.end(first, End::Good, 6), BreakerPhase::HalfOpen);
    assert_eq!(rig.admit(6), Err(1), "not before the other one has ended");
    assert_eq!(rig.end(second, End::Good, 6), BreakerPhase::Closed);
    assert_eq!(rig.state, BreakerState::default());
    assert_eq!(rig.pass(FAILED, 6), BreakerPhase::Closed, "it counts from nothing");
}

#[test]
fn it_opens_again_when_one_of_them_fails_and_a_client_that_leaves_is_no_answer() {
    let mut rig = Rig::new(SPEC);
    rig.fail(3);
    assert_eq!(rig.pass(End::Nothing, 5), BreakerPhase::HalfOpen);
    let (first, second) = (rig.admit(5).expect("its place is free"), rig.admit(5).expect("to see"));
    assert_eq!(rig.end(first, FAILED, 6), BreakerPhase::Open);
    assert_eq!(rig.admit(6), Err(5));
    // The other one's end is old when the next are let through.
    let third = rig.admit(11).expect("to see");
    assert_eq!(rig.end(second, FAILED, 12), BreakerPhase::HalfOpen);
    assert_eq!(rig.end(second, End::Good, 12), BreakerPhase::HalfOpen);
    assert_eq!(rig.end(third, End::Good, 12), BreakerPhase::HalfOpen);
    assert_eq!(rig.pass(End::Good, 12), BreakerPhase::Closed);
}

/// A slow upload, or a call of an hour, does not keep it half-open.
#[test]
fn those_that_take_too_long_to_show_it_are_waited_for_no_more() {
    let mut rig = Rig::new(SPEC);
    rig.fail(3);
    let slow = [rig.admit(5).expect("to see"), rig.admit(5).expect("to see")];
    assert_eq!(rig.admit(9), Err(1));
    let others = [rig.admit(10).expect("asked anew"), rig.admit(10).expect("asked anew")];
    assert_eq!(rig.end(slow[0], FAILED, 11), BreakerPhase::HalfOpen, "of the ones before");
    assert_eq!(rig.end(others[0], End::Good, 11), BreakerPhase::HalfOpen);
    assert_eq!(rig.end(others[1], End::Good, 11), BreakerPhase::Closed);
}

#[test]
fn what_began_before_it_opened_says_nothing() {
    let mut rig = Rig::new(SPEC);
    let slow: Vec<_> = (0..4).map(|_| rig.admit(0).expect("closed")).collect();
    rig.fail(3);
    assert_eq!(rig.end(slow[0], End::Good, 1), BreakerPhase::Open);
    assert_eq!(rig.end(slow[1], FAILED, 2), BreakerPhase::Open);
    assert_eq!(rig.admit(4), Err(1), "nor does it stay open for longer");
    let probe = rig.admit(5).expect("to see");
    assert_eq!(rig.end(slow[2], FAILED, 6), BreakerPhase::HalfOpen);
    assert_eq!(rig.end(slow[3], End::Nothing, 6), BreakerPhase::HalfOpen);
    assert_eq!(rig.end(probe, End::Good, 6), BreakerPhase::HalfOpen, "one of two");
}

/// The rest with real figures: they are what a share is of.
fn serve(spec: &BreakerSpec, stats: &VersionStats, outcome: Outcome, now: Instant) -> BreakerPhase {
    let Ok(passage) = spec.admit(stats, now).said else { return stats.protection.breaker().phase };
    count(stats, outcome);
    spec.ended(stats, passage, outcome, now).after
}

fn serve_all(stats: &VersionStats, outcome: Outcome, times: usize, now: Instant) {
    for _ in 0..times {
        serve(&HALF, stats, outcome, now);
    }
}

fn count(stats: &VersionStats, outcome: Outcome) {
    stats.started(0);
    stats.ended(0, &Exchange::plain(outcome, StatusClass::None, Duration::ZERO, None));
}

fn stats() -> VersionStats {
    let labels = VersionLabels { environment: "e".into(), agent: "a".into(), version: "1.0.0".into() };
    VersionStats::new(labels, 1, Arc::default())
}

const HALF: BreakerSpec = BreakerSpec {
    consecutive_failures: None,
    error_share: Some(ErrorShare { millionths: 500_000, window: Duration::from_secs(10), min_requests: 10 }),
    half_open_requests: 1,
    ..SPEC
};

#[test]
fn a_share_of_failures_opens_it_once_there_are_enough_to_say_so() {
    let (stats, now) = (stats(), Instant::now());
    // Long before the window.
    serve_all(&stats, Outcome::Success, 1_000, now);
    let later = now + Duration::from_secs(60);
    for number in 1..=9 {
        let outcome = if number % 2 == 1 { Outcome::ServerError } else { Outcome::Success };
        assert_eq!(serve(&HALF, &stats, outcome, later), BreakerPhase::Closed, "{number}");
    }
    count(&stats, Outcome::ClientCancel);
    assert_eq!(serve(&HALF, &stats, Outcome::Reset, later), BreakerPhase::Open, "6 of 10");
}

#[test]
fn failures_of_an_earlier_window_are_forgotten() {
    let (stats, now) = (stats(), Instant::now());
    for second in 0..100 {
        let now = now + Duration::from_secs(second * 2);
        assert_eq!(serve(&HALF, &stats, Outcome::ServerError, now), BreakerPhase::Closed, "{second}");
    }
}

#[test]
fn what_it_refused_itself_and_what_came_before_it_closed_do_not_open_it_again() {
    let (stats, now) = (stats(), Instant::now());
    serve_all(&stats, Outcome::ServerError, 10, now);
    assert_eq!(stats.protection.breaker().phase, BreakerPhase::Open);
    (0..50).for_each(|_| count(&stats, Outcome::CircuitOpen));
    (0..20).for_each(|_| count(&stats, Outcome::ServerError));
    let later = now + Duration::from_secs(6);
    assert_eq!(serve(&HALF, &stats, Outcome::Success, later), BreakerPhase::Closed);
    for _ in 0..9 {
        assert_eq!(serve(&HALF, &stats, Outcome::ServerError, later), BreakerPhase::Closed);
        count(&stats, Outcome::CircuitOpen);
    }
    assert_eq!(serve(&HALF, &stats, Outcome::ServerError, later), BreakerPhase::Open);
}

/// It had a place, and was refused while it waited for a connection.
#[test]
fn what_there_was_no_room_for_is_no_failure() {
    let (stats, now) = (stats(), Instant::now());
    for _ in 0..5 {
        assert_eq!(serve(&SPEC, &stats, Outcome::CircuitOpen, now), BreakerPhase::Closed);
    }
}

#[test]
fn a_good_head_is_enough_to_close_it() {
    let (stats, now) = (stats(), Instant::now());
    serve_all(&stats, Outcome::ServerError, 10, now);
    let later = now + Duration::from_secs(5);
    let passage = HALF.admit(&stats, later).said.expect("to see");
    assert_eq!(HALF.answered(&stats, passage, later).after, BreakerPhase::Closed);
}
