//! When endpoints go, for how long, and when they come back.

use std::sync::Arc;

use http::HeaderValue;

use super::*;
use crate::routing::ids::Weight;
use crate::routing::spec::EndpointAddress;

const SECOND: Duration = Duration::from_secs(1);
const FAULT: EjectionReason = EjectionReason::ResponseTimeout;

struct Version {
    all: Vec<Endpoint>,
    rule: EjectionSpec,
}

impl Version {
    fn new(count: usize, rule: EjectionSpec) -> Self {
        let endpoint = |port| Endpoint {
            address: EndpointAddress::Http { host: "h".into(), port },
            id: u64::from(port),
            authority: HeaderValue::from_static("h"),
            health: Arc::default(),
        };
        Self { all: (0..count as u16).map(endpoint).collect(), rule }
    }

    fn endpoints(&self) -> Endpoints<'_> {
        Endpoints { all: &self.all, rule: &self.rule }
    }

    fn fail(&self, index: usize, sent: Sent, at: u64) -> Option<Ejected> {
        self.endpoints().failed(index, sent, FAULT, tick(at), 0)
    }

    /// As many plain failures as it takes.
    fn eject(&self, index: usize, at: u64) -> Option<Ejected> {
        (0..5).fold(None, |ejected, _| self.fail(index, Sent::Plain, at).or(ejected))
    }

    /// Its state at each endpoint, as a letter.
    fn states(&self, at: u64) -> String {
        let letter = |endpoint: &Endpoint| match endpoint.health.view(&self.rule, tick(at)).state {
            EndpointState::InService => 's',
            EndpointState::Kept => 'k',
            EndpointState::Ejected => 'e',
            EndpointState::Unhealthy => 'u',
        };
        self.all.iter().map(letter).collect()
    }
}

/// Seconds of a clock of ours.
fn tick(seconds: u64) -> Tick {
    Tick(1 + seconds * 1_000)
}

/// A good answer, head and end.
fn succeed(health: &EndpointHealth, sent: Sent, now: impl FnOnce() -> Tick) -> bool {
    health.answered();
    health.completed(sent, now)
}

fn three() -> Version {
    Version::new(3, EjectionSpec::default())
}

fn for_seconds(seconds: u64, in_a_row: u32) -> Option<Ejected> {
    Some(Ejected { time: Duration::from_secs(seconds), in_a_row })
}

#[test]
fn the_fifth_failure_in_a_row_ejects_and_a_good_answer_begins_the_count_anew() {
    let version = three();
    for _ in 0..4 {
        assert_eq!(version.fail(0, Sent::Plain, 0), None);
    }
    assert!(!succeed(&version.all[0].health, Sent::Plain, || tick(0)));
    for _ in 0..4 {
        assert_eq!(version.fail(0, Sent::Plain, 0), None);
    }
    assert_eq!(version.states(0), "sss");
    assert_eq!(version.fail(0, Sent::Plain, 0), for_seconds(10, 1));
    assert_eq!(version.states(0), "ess");
    // What was in flight there when it went says nothing new.
    assert_eq!(version.eject(0, 1), None);
    assert!(!succeed(&version.all[0].health, Sent::Plain, || tick(1)));
    assert_eq!(version.states(9), "ess");
    let view = version.all[0].health.view(&version.rule, tick(4));
    assert_eq!((view.ejected_for, view.reason, view.ejections_in_a_row), (Some(6 * SECOND), Some(FAULT), 1));
}

#[test]
fn answers_that_break_off_eject_too_and_a_good_head_says_nothing_of_them() {
    let version = three();
    let breaks = |at| version.endpoints().failed(0, Sent::Plain, EjectionReason::Truncated, tick(at), 0);
    for _ in 0..4 {
        version.all[0].health.answered();
        assert_eq!(breaks(0), None);
    }
    assert!(!succeed(&version.all[0].health, Sent::Plain, || tick(0)), "a whole answer does");
    for _ in 0..4 {
        version.all[0].health.answered();
        assert_eq!(breaks(0), None);
        // Nor does a long answer that ends well now say anything of attempts.
        assert_eq!(version.fail(0, Sent::Plain, 0), None);
    }
    version.all[0].health.answered();
    assert_eq!(breaks(0), for_seconds(10, 1));
}

#[test]
fn the_time_doubles_with_each_ejection_in_a_row_up_to_its_limit() {
    let version = three();
    let mut now = 0;
    assert_eq!(version.eject(0, now), for_seconds(10, 1));
    for (ejections, seconds) in [(2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300)] {
        let health = &version.all[0].health;
        let left = health.view(&version.rule, tick(now)).ejected_for.unwrap();
        assert!(!health.take_probe(&version.rule, tick(now + left.as_secs() - 1)), "before its time");
        now += left.as_secs();
        assert!(health.take_probe(&version.rule, tick(now)));
        assert!(!health.take_probe(&version.rule, tick(now)), "one probe");
        assert_eq!(version.fail(0, Sent::Probe, now), for_seconds(seconds, ejections));
    }
}

#[test]
fn what_stays_good_lives_its_ejections_down() {
    // Seconds good after three ejections in a row → how long the next one lasts.
    for (good, seconds, in_a_row) in [(0, 80, 4), (9, 80, 4), (10, 40, 3), (29, 20, 2), (30, 10, 1), (1_000, 10, 1)] {
        let version = three();
        version.eject(0, 0);
        version.fail(0, Sent::Probe, 10);
        version.fail(0, Sent::Probe, 30);
        let health = &version.all[0].health;
        assert!(health.take_probe(&version.rule, tick(100)));
        assert!(succeed(health, Sent::Probe, || tick(100)), "a good probe brings it back");
        assert_eq!(version.states(100), "sss");
        assert_eq!(version.eject(0, 100 + good), for_seconds(seconds, in_a_row), "{good} s good");
    }
}

#[test]
fn the_time_is_spread_over_a_fifth_and_never_above_the_limit() {
    let rule = EjectionSpec::default();
    for random in [0, 1, 511, 1_023, 1_024, u64::MAX] {
        let (first, last) = (rule.time(0, random), rule.time(u32::MAX, random));
        assert!((8 * SECOND..=10 * SECOND).contains(&first), "{first:?}");
        assert!((240 * SECOND..=300 * SECOND).contains(&last), "{last:?}");
    }
    assert_ne!(rule.time(0, 0), rule.time(0, 900));
}

#[test]
fn so_many_may_be_out() {
    let most = |share, endpoints| {
        let max_ejected = Weight::new(share).unwrap();
        EjectionSpec { max_ejected, ..EjectionSpec::default() }.most_out(endpoints)
    };
    for (share, endpoints, out) in [
        (50_000, 1, 0),
        (50_000, 2, 1),
        (50_000, 3, 1),
        (50_000, 4, 2),
        (50_000, 9, 4),
        (100_000, 1, 0),
        (100_000, 3, 2),
        (1_000, 3, 1),
        (34_000, 10, 3),
    ] {
        assert_eq!(most(share, endpoints), out, "{share} of {endpoints}");
    }
}

#[test]
fn a_bad_endpoint_is_kept_while_too_many_are_out_and_goes_when_one_comes_back() {
    let version = three();
    assert!(version.eject(0, 0).is_some());
    assert_eq!(version.eject(1, 0), None);
    assert_eq!(version.states(0), "eks");
    assert!(succeed(&version.all[0].health, Sent::Anyway, || tick(1)));
    assert_eq!(version.fail(1, Sent::Plain, 1), for_seconds(10, 1));
    assert_eq!(version.states(1), "ses");
    let alone = Version::new(1, EjectionSpec::default());
    assert_eq!(alone.eject(0, 0), None);
    assert_eq!(alone.states(0), "k");
    assert!(!succeed(&alone.all[0].health, Sent::Plain, || tick(1)));
    assert_eq!(alone.states(1), "s");
}

#[test]
fn a_check_takes_out_and_brings_back_and_requests_do_not_undo_its_word() {
    let version = three();
    let endpoints = version.endpoints();
    assert!(endpoints.checked(0, false));
    assert!(!endpoints.checked(0, false), "it is out already");
    assert_eq!(version.states(0), "uss");
    assert!(!succeed(&version.all[0].health, Sent::Anyway, || tick(0)));
    assert!(!version.all[0].health.take_probe(&version.rule, tick(1_000)));
    // The same floor for both.
    assert!(!endpoints.checked(1, false));
    assert_eq!(version.eject(2, 0), None);
    assert_eq!(version.states(0), "ukk");
    assert!(endpoints.checked(0, true));
    assert!(endpoints.checked(1, false), "the next try finds room");
    assert_eq!(version.states(0), "suk");
}

#[test]
fn a_passing_check_does_not_end_an_ejection() {
    let version = three();
    version.eject(0, 0);
    let endpoints = version.endpoints();
    assert!(endpoints.checked(0, false), "it is out for two reasons");
    assert!(!endpoints.checked(0, true));
    assert_eq!(version.states(5), "ess");
    assert!(version.all[0].health.take_probe(&version.rule, tick(10)));
}

#[test]
fn with_ejection_off_requests_eject_nothing_and_end_what_is_left_of_it() {
    let mut version = three();
    version.eject(0, 0);
    version.rule.consecutive_failures = None;
    assert_eq!(version.eject(1, 0), None);
    assert!(version.all[0].health.take_probe(&version.rule, tick(10)));
    assert_eq!(version.fail(0, Sent::Probe, 10), None);
    assert_eq!(version.states(10), "sss");
    assert!(version.endpoints().checked(2, false), "checks go on");
}

#[test]
fn a_probe_of_which_no_word_comes_is_followed_by_another() {
    let version = three();
    version.eject(0, 0);
    let health = &version.all[0].health;
    assert!(health.take_probe(&version.rule, tick(10)));
    assert!(!health.take_probe(&version.rule, tick(19)));
    assert!(health.take_probe(&version.rule, tick(20)));
}

#[test]
fn a_late_word_of_a_probe_is_one_failure_where_another_probe_was_good() {
    let version = three();
    version.eject(0, 0);
    let health = &version.all[0].health;
    assert!(health.take_probe(&version.rule, tick(10)) && health.take_probe(&version.rule, tick(20)));
    assert!(succeed(health, Sent::Probe, || tick(20)));
    assert_eq!(version.fail(0, Sent::Probe, 21), None);
    assert_eq!(version.states(21), "sss");
}

/// Of many threads that fail all endpoints at once, none gets more out than may be.
#[test]
fn the_floor_holds_under_concurrency() {
    let version = Version::new(10, EjectionSpec { consecutive_failures: Some(1), ..EjectionSpec::default() });
    let fail_all = |worker: usize, round| {
        for index in 0..10 {
            version.fail((index + worker * 3) % 10, Sent::Plain, round);
        }
    };
    for round in 0..200 {
        std::thread::scope(|scope| (0..4).for_each(|worker| drop(scope.spawn(move || fail_all(worker, round)))));
        let out = version.all.iter().filter(|endpoint| !endpoint.health.is_in_service()).count();
        assert!((1..=5).contains(&out), "{out} are out");
        for endpoint in &version.all {
            succeed(&endpoint.health, Sent::Anyway, || tick(round));
        }
    }
}

#[test]
fn which_statuses_are_failures() {
    let rule = EjectionSpec::default();
    let failures: Vec<u16> = (100..600).filter(|status| rule.is_failure(*status)).collect();
    assert_eq!(failures, [502, 503, 504]);
}
