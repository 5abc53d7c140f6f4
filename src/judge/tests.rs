//! The behaviours that people rely on, by name. All seeds are fixed.

use std::time::Duration;

use super::*;
use crate::random::Random;

const WORSE_THAN_STABLE: GuardSpec = GuardSpec {
    metric: Metric::ErrorRate,
    test: GuardTest::WorseThanStable { margin: 0.01, slower_than: None, cap: None, confidence: 0.999 },
};

const ABOVE: GuardSpec = GuardSpec {
    metric: Metric::ErrorRate,
    test: GuardTest::Above { limit: Limit::Rate(0.05), cap: None, confidence: 0.999 },
};

const WINDOWED: GuardSpec = GuardSpec {
    metric: Metric::ErrorRate,
    test: GuardTest::Windowed { limit: Limit::Rate(0.05), window: Duration::from_secs(300), min_requests: 50 },
};

/// Two versions under traffic, judged after every request.
struct World {
    judge: Judge,
    canary: Counts,
    stable: Counts,
    now: Duration,
    random: Random,
    share: f64,
    canary_rate: f64,
    stable_rate: f64,
}

impl World {
    fn new(guards: &[GuardSpec], seed: u64) -> Self {
        let (canary, stable) = (Counts::default(), Counts::default());
        Self {
            judge: Judge::new(guards, &canary, &stable, Duration::ZERO),
            canary,
            stable,
            now: Duration::ZERO,
            random: Random::new(seed),
            share: 0.05,
            canary_rate: 0.005,
            stable_rate: 0.005,
        }
    }

    fn request(&mut self, every: Duration) {
        self.now += every;
        let to_canary = self.random.chance(self.share);
        let bad = self.random.chance(if to_canary { self.canary_rate } else { self.stable_rate });
        let version = if to_canary { &mut self.canary } else { &mut self.stable };
        version.judged += 1;
        version.errors += u64::from(bad);
        self.judge.observe(self.now, &self.canary, &self.stable);
    }

    /// Canary requests until a breach, of at most `limit`.
    fn canary_requests_to_breach(&mut self, limit: u64) -> Option<u64> {
        let before = self.canary.judged;
        while self.canary.judged - before < limit {
            self.request(Duration::from_millis(10));
            if self.judge.has_breached() {
                return Some(self.canary.judged - before);
            }
        }
        None
    }

    fn verdict(&self) -> Verdict {
        self.judge.verdict(self.now)
    }

    fn reading(&self) -> Reading {
        self.judge.readings(self.now).swap_remove(0)
    }
}

/// How many of `runs` worlds have a breach within `canary_requests`.
fn alarms(runs: u64, canary_requests: u64, guard: GuardSpec, set_up: impl Fn(&mut World)) -> u64 {
    let breaches = |seed| {
        let mut world = World::new(&[guard], seed);
        set_up(&mut world);
        world.canary_requests_to_breach(canary_requests).is_some()
    };
    (0..runs).filter(|seed| breaches(*seed)).count() as u64
}

// --- False alarms -----------------------------------------------------------------------------------------

#[test]
fn a_canary_at_the_limit_is_blamed_no_more_often_than_promised() {
    // At a confidence of 95 %, so that 2,000 runs can tell: 100 are allowed.
    let test = GuardTest::Above { limit: Limit::Rate(0.05), cap: None, confidence: 0.95 };
    let guard = GuardSpec { metric: Metric::ErrorRate, test };
    let alarms = alarms(2_000, 500, guard, |world| (world.share, world.canary_rate) = (1.0, 0.05));
    assert!((5..=100).contains(&alarms), "{alarms}");
}

#[test]
fn a_canary_at_the_margin_is_blamed_no_more_often_than_promised() {
    for (share, stable_rate) in [(0.05, 0.005), (0.5, 0.05)] {
        let test = GuardTest::WorseThanStable { margin: 0.01, slower_than: None, cap: None, confidence: 0.95 };
        let guard = GuardSpec { metric: Metric::ErrorRate, test };
        let alarms = alarms(2_000, 200, guard, |world| {
            (world.share, world.stable_rate, world.canary_rate) = (share, stable_rate, stable_rate + 0.01);
        });
        assert!((u64::from(share < 0.1)..=100).contains(&alarms), "{share} {alarms}");
    }
}

#[test]
fn a_canary_like_stable_is_never_blamed_at_the_default_confidence() {
    assert_eq!(alarms(500, 300, WORSE_THAN_STABLE, |_| {}), 0);
}

// --- Both versions together ---------------------------------------------------------------------------------

#[test]
fn a_bad_hour_that_hits_both_does_not_blame_the_canary() {
    for share in [0.01, 0.05, 0.5, 0.95] {
        for seed in 0..20 {
            let mut world = World::new(&[WORSE_THAN_STABLE], seed);
            world.share = share;
            // Healthy, then half of everything fails, then all of it, then healthy again, and so on.
            for hour in 0..8 {
                let rate = [0.005, 0.5, 1.0, 0.005][hour % 4];
                (world.canary_rate, world.stable_rate) = (rate, rate);
                for _ in 0..2_000 {
                    world.request(Duration::from_millis(10));
                }
            }
            assert!(!world.judge.has_breached(), "share {share} seed {seed}: {}", world.reading().explanation);
        }
    }
}

#[test]
fn a_burst_blames_the_canary_only_where_stable_does_not_fail_with_it() {
    for (stable_errors, breach) in [(1_140, false), (19, true)] {
        let mut world = World::new(&[WORSE_THAN_STABLE], 1);
        assert_eq!(world.canary_requests_to_breach(200), None);
        // 4,000 requests between two looks, of which 30 % fail; or only the canary's do.
        world.canary.judged += 200;
        world.canary.errors += 60;
        world.stable.judged += 3_800;
        world.stable.errors += stable_errors;
        world.judge.observe(world.now, &world.canary, &world.stable);
        assert_eq!(world.judge.has_breached(), breach, "{}", world.reading().explanation);
    }
}

#[test]
fn a_rate_that_drifts_for_both_does_not_blame_the_canary() {
    for seed in 0..20 {
        let mut world = World::new(&[WORSE_THAN_STABLE], seed);
        for step in 0..20_000u32 {
            let rate = 0.2 * (f64::from(step) / 700.0).sin().powi(2);
            (world.canary_rate, world.stable_rate) = (rate, rate);
            world.request(Duration::from_millis(10));
        }
        assert!(!world.judge.has_breached(), "seed {seed}");
    }
}

#[test]
fn a_canary_that_is_worse_than_a_failing_stable_is_still_caught() {
    let mut world = World::new(&[WORSE_THAN_STABLE], 1);
    (world.stable_rate, world.canary_rate) = (0.2, 0.8);
    assert!(world.canary_requests_to_breach(150).is_some());
}

#[test]
fn a_stable_without_errors_does_not_hide_a_bad_canary() {
    let mut world = World::new(&[WORSE_THAN_STABLE], 1);
    world.stable_rate = 0.0;
    assert_eq!(world.canary_requests_to_breach(5_000), None, "0.5 % is within the margin of 1 %");
    world.canary_rate = 0.1;
    let caught = world.canary_requests_to_breach(400);
    assert!(caught.is_some(), "{}", world.reading().explanation);
}

// --- Detection ----------------------------------------------------------------------------------------------

/// In how many of `runs` worlds half of the canary's requests failing is found within 40 of them.
fn found_within_40(runs: u64, guard: GuardSpec, (share, stable_rate): (f64, f64), healthy: u64) -> u64 {
    let found = |seed| {
        let mut world = World::new(&[guard], seed);
        (world.share, world.stable_rate, world.canary_rate) = (share, stable_rate, stable_rate);
        assert_eq!(world.canary_requests_to_breach(healthy), None, "seed {seed}");
        world.canary_rate = 0.5;
        world.canary_requests_to_breach(40).is_some()
    };
    (0..runs).filter(|seed| found(*seed)).count() as u64
}

#[test]
fn half_of_requests_failing_is_found_within_40_canary_requests_at_onset() {
    for stable_rate in [0.005, 0.01] {
        assert!(found_within_40(200, WORSE_THAN_STABLE, (0.05, stable_rate), 0) >= 198);
    }
    assert!(found_within_40(200, ABOVE, (1.0, 0.005), 0) >= 196);
}

#[test]
fn half_of_requests_failing_is_found_within_40_canary_requests_after_10_000_healthy_ones() {
    assert!(found_within_40(20, WORSE_THAN_STABLE, (0.05, 0.005), 10_000) >= 19);
    assert!(found_within_40(20, WORSE_THAN_STABLE, (0.05, 0.01), 10_000) >= 19);
    // Half is nearer to a limit of 5 % than to a stable of 1 %: of 1,500 simulated runs 99.4 % were found in time.
    assert!(found_within_40(200, ABOVE, (1.0, 0.005), 10_000) >= 196);
}

#[test]
fn when_all_canary_requests_fail_a_handful_is_enough() {
    for guard in [WORSE_THAN_STABLE, ABOVE] {
        for seed in 0..20 {
            let mut world = World::new(&[guard], seed);
            world.canary_rate = 1.0;
            let caught = world.canary_requests_to_breach(40).unwrap();
            assert!((3..=12).contains(&caught), "{caught}");
        }
    }
}

#[test]
fn at_full_weight_a_bad_canary_is_found_without_stable() {
    let mut world = World::new(&[WORSE_THAN_STABLE], 1);
    world.share = 0.25;
    assert_eq!(world.canary_requests_to_breach(1_000), None);
    world.share = 1.0;
    assert_eq!(world.canary_requests_to_breach(1_000), None);
    assert_eq!(world.verdict(), Verdict::Pass);
    world.canary_rate = 0.5;
    assert!(world.canary_requests_to_breach(60).is_some());
}

#[test]
fn a_look_after_a_lull_takes_in_all_that_came_in_it() {
    let mut world = World::new(&[WORSE_THAN_STABLE, ABOVE], 1);
    world.canary = Counts { judged: 100, errors: 50, ..Counts::default() };
    world.stable = Counts { judged: 1_900, errors: 10, ..Counts::default() };
    world.judge.observe(Duration::from_secs(3_600), &world.canary, &world.stable);
    let verdicts: Vec<Verdict> = world.judge.readings(Duration::from_secs(3_600)).iter().map(|r| r.verdict).collect();
    assert_eq!(verdicts, [Verdict::Breach, Verdict::Breach]);
}

// --- Little data --------------------------------------------------------------------------------------------

#[test]
fn a_canary_without_traffic_is_held_for_ever() {
    for guard in [WORSE_THAN_STABLE, ABOVE, WINDOWED] {
        let mut world = World::new(&[guard], 1);
        world.share = 0.0;
        for _ in 0..20_000 {
            world.request(Duration::from_secs(1));
            assert_eq!(world.verdict(), Verdict::Hold);
        }
        let reading = world.reading();
        assert_eq!((reading.canary.requests, reading.canary.estimate, reading.verdict), (0, None, Verdict::Hold));
    }
}

#[test]
fn at_twenty_requests_an_hour_good_passes_in_time_and_bad_is_caught() {
    let every = Duration::from_secs(180);
    let mut world = World::new(&[WORSE_THAN_STABLE], 3);
    world.share = 0.25;
    let mut requests = 0;
    while world.verdict() == Verdict::Hold {
        world.request(every);
        requests += 1;
    }
    assert_eq!(world.verdict(), Verdict::Pass);
    assert!((150..400).contains(&requests), "{requests}");
    world.canary_rate = 0.5;
    while world.verdict() != Verdict::Breach {
        world.request(every);
        assert!(world.canary.judged < 150, "{}", world.reading().explanation);
    }
    // The windowed guard never has its 50 requests: it neither breaches nor passes.
    let mut world = World::new(&[WINDOWED], 3);
    world.canary_rate = 1.0;
    for _ in 0..1_000 {
        world.request(every);
        assert_eq!(world.verdict(), Verdict::Hold);
    }
}

#[test]
fn each_step_needs_its_own_requests_to_pass() {
    for guard in [WORSE_THAN_STABLE, ABOVE, WINDOWED] {
        let mut world = World::new(&[guard], 1);
        assert_eq!(world.canary_requests_to_breach(100), None);
        assert_eq!(world.verdict(), Verdict::Pass, "{guard}");
        world.judge.step_started();
        assert_eq!(world.verdict(), Verdict::Hold, "{guard}");
        assert_eq!(world.canary_requests_to_breach(60), None);
        assert_eq!(world.verdict(), Verdict::Pass, "{guard}");
    }
}

#[test]
fn some_failures_hold_a_step_before_they_are_a_breach() {
    let mut world = World::new(&[ABOVE], 1);
    world.canary.judged = 1_000;
    world.judge.observe(world.now, &world.canary, &world.stable);
    assert_eq!(world.verdict(), Verdict::Pass);
    let bad_to_breach = world.reading().bad_to_breach.unwrap();
    let mut verdicts = Vec::new();
    for _ in 0..bad_to_breach {
        assert!(!world.judge.has_breached());
        world.canary.judged += 1;
        world.canary.errors += 1;
        world.judge.observe(world.now, &world.canary, &world.stable);
        verdicts.push(world.verdict());
    }
    assert!(verdicts.is_sorted_by_key(|v| [Verdict::Pass, Verdict::Hold, Verdict::Breach].iter().position(|w| w == v)));
    assert!(verdicts.contains(&Verdict::Hold));
    assert_eq!(verdicts.last(), Some(&Verdict::Breach), "as many as the reading said: {bad_to_breach}");
}

// --- Onset ---------------------------------------------------------------------------------------------------

#[test]
fn fast_failures_before_slow_successes_do_not_blame_a_good_canary() {
    // 1,000 requests a second, of which 0.5 % fail at once; the others take ten seconds.
    let mut world = World::new(&[ABOVE], 1);
    for tick in 1..=3_000u64 {
        let (started, succeeded) = (10 * tick, 10 * tick.saturating_sub(1_000) * 995 / 1_000);
        world.canary.errors = started * 5 / 1_000;
        world.canary.judged = world.canary.errors + succeeded;
        world.canary.in_flight = started - world.canary.judged;
        world.judge.observe(Duration::from_millis(10 * tick), &world.canary, &world.stable);
        assert!(!world.judge.has_breached(), "tick {tick}: {}", world.reading().explanation);
    }
}

#[test]
fn when_all_canary_requests_time_out_it_is_caught_though_many_hang_first() {
    let mut world = World::new(&[WORSE_THAN_STABLE], 1);
    // 30 s of hanging requests at 10/s, with 190/s to stable; then they time out one by one.
    let mut caught = None;
    for tick in 1..=600u64 {
        world.stable.judged = 19 * tick;
        world.canary.judged = tick.saturating_sub(300);
        world.canary.errors = world.canary.judged;
        world.canary.in_flight = tick - world.canary.judged;
        world.judge.observe(Duration::from_millis(100 * tick), &world.canary, &world.stable);
        if world.judge.has_breached() && caught.is_none() {
            caught = Some(world.canary.errors);
        }
    }
    assert!(caught.is_some_and(|errors| errors <= 10), "{caught:?}");
}

// --- Windows -------------------------------------------------------------------------------------------------

#[test]
fn a_windowed_guard_breaches_at_the_request_that_crosses_its_limit() {
    let mut world = World::new(&[WINDOWED], 1);
    let mut look = |judged, errors| {
        world.canary = Counts { judged, errors, ..Counts::default() };
        world.judge.observe(Duration::from_secs(1), &world.canary, &world.stable);
        world.judge.verdict(Duration::from_secs(1))
    };
    assert_eq!(look(49, 20), Verdict::Hold);
    assert_eq!(look(400, 20), Verdict::Pass, "5 % is not above 5 %");
    assert_eq!(look(400, 20), Verdict::Pass);
    assert_eq!(look(401, 21), Verdict::Breach);
    assert_eq!(look(4_000, 21), Verdict::Breach, "latched");
}

#[test]
fn a_burst_of_errors_trips_the_window_and_old_errors_do_not() {
    let mut world = World::new(&[WINDOWED], 1);
    for second in 1..=1_000u64 {
        // One request a second, and 60 errors before the first look.
        world.canary = Counts { judged: second, errors: 0, ..Counts::default() };
        world.judge.observe(Duration::from_secs(second), &world.canary, &world.stable);
    }
    // 200 requests in one look, 18 of them failed: 18 of about 500.
    let burst = |errors| Counts { judged: 1_200, errors, ..Counts::default() };
    let mut calm = world.judge.clone();
    calm.observe(Duration::from_secs(1_001), &burst(18), &world.stable);
    assert_eq!(calm.verdict(Duration::from_secs(1_001)), Verdict::Pass);
    world.judge.observe(Duration::from_secs(1_001), &burst(60), &world.stable);
    assert_eq!(world.judge.verdict(Duration::from_secs(1_001)), Verdict::Breach);
}

fn latency_guard(test: GuardTest) -> GuardSpec {
    GuardSpec { metric: Metric::LatencyP95, test }
}

fn record(counts: &mut Counts, requests: u64, milliseconds: u64) {
    for _ in 0..requests {
        counts.judged += 1;
        counts.latency.record(Duration::from_millis(milliseconds));
    }
}

#[test]
fn a_latency_window_breaches_when_more_than_its_share_is_slower() {
    let limit = Limit::Duration(Duration::from_secs(3));
    let guard = latency_guard(GuardTest::Windowed { limit, window: Duration::from_secs(300), min_requests: 50 });
    let mut world = World::new(&[guard], 1);
    record(&mut world.canary, 95, 200);
    record(&mut world.canary, 5, 4_000);
    world.judge.observe(Duration::from_secs(1), &world.canary, &world.stable);
    let reading = world.reading();
    assert_eq!((reading.verdict, reading.unit, reading.limit), (Verdict::Pass, Unit::Duration, Some(3.0)));
    assert!((reading.evidence - 5.0 / 6.0).abs() < 1e-9);
    record(&mut world.canary, 1, 4_000);
    world.judge.observe(Duration::from_secs(2), &world.canary, &world.stable);
    let reading = world.reading();
    assert_eq!((reading.verdict, reading.canary.bad), (Verdict::Breach, 6));
    assert!(reading.evidence >= 1.0 && reading.canary.estimate.unwrap() > 4.0, "{reading:?}");
}

#[test]
fn anytime_latency_guards_judge_the_share_of_slow_requests() {
    let limit = Duration::from_secs(3);
    let above = latency_guard(GuardTest::Above { limit: Limit::Duration(limit), cap: None, confidence: 0.999 });
    let worse = latency_guard(GuardTest::WorseThanStable {
        margin: 0.02,
        slower_than: Some(limit),
        cap: None,
        confidence: 0.999,
    });
    let mut world = World::new(&[above, worse], 1);
    for second in 1..=100 {
        record(&mut world.canary, 10, 200);
        record(&mut world.stable, 190, 200);
        world.judge.observe(Duration::from_secs(second), &world.canary, &world.stable);
    }
    assert_eq!(world.judge.verdict(Duration::from_secs(100)), Verdict::Pass);
    for second in 101..=104 {
        record(&mut world.canary, 5, 200);
        record(&mut world.canary, 5, 5_000);
        record(&mut world.stable, 190, 200);
        world.judge.observe(Duration::from_secs(second), &world.canary, &world.stable);
    }
    for reading in world.judge.readings(Duration::from_secs(104)) {
        assert_eq!((reading.verdict, reading.unit), (Verdict::Breach, Unit::Share), "{}", reading.explanation);
    }
}

// --- Readings ------------------------------------------------------------------------------------------------

#[test]
fn a_reading_says_what_was_seen_and_what_it_would_take() {
    let mut world = World::new(&[WORSE_THAN_STABLE, ABOVE, WINDOWED], 1);
    world.canary = Counts { judged: 100, errors: 2, ..Counts::default() };
    world.stable = Counts { judged: 1_900, errors: 19, ..Counts::default() };
    world.judge.observe(Duration::from_secs(60), &world.canary, &world.stable);
    let readings = world.judge.readings(Duration::from_secs(60));
    let sentences: Vec<&str> = readings.iter().map(|reading| reading.explanation.as_str()).collect();
    assert_eq!(
        sentences,
        [
            "error_rate worse than stable by 1% (confidence 99.9%): 2% (2 of 100 requests failed); \
             stable 1% (19 of 1900 requests failed); holds; 3 more bad in a row would be a breach, as would 5 in the next 20",
            "error_rate above 5% (confidence 99.9%): 2% (2 of 100 requests failed); holds; \
             4 more bad in a row would be a breach, as would 6 in the next 20",
            "error_rate above 5% over 5m: 2% (2 of 100 requests failed); holds; 4 more bad in a row would be a breach, \
             as would 5 in the next 20",
        ]
    );
    let figures = readings[0].canary;
    assert_eq!((figures.requests, figures.bad, figures.estimate), (100, 2, Some(0.02)));
    let (low, high) = figures.interval.unwrap();
    assert!(low < 0.02 && 0.02 < high);
    assert!((readings[0].limit.unwrap() - 0.02).abs() < 1e-12);
    assert_eq!(overall(&readings), Verdict::Pass);
}

#[test]
fn a_forecast_comes_true_and_one_less_does_not() {
    for (seed, guard) in [(1, ABOVE), (2, WORSE_THAN_STABLE), (3, WINDOWED)] {
        let mut world = World::new(&[guard], seed);
        assert_eq!(world.canary_requests_to_breach(300), None);
        let Forecast { bad, requests } = world.reading().forecast.unwrap();
        assert!(bad > 1 && bad < requests, "{guard}: {bad} of {requests}");
        for (bad, trips) in [(bad, true), (bad - 1, false)] {
            let (mut judge, mut canary, mut stable) = (world.judge.clone(), world.canary.clone(), world.stable.clone());
            for request in 0..requests {
                canary.judged += 1;
                canary.errors += u64::from(request >= requests - bad);
                stable.judged += 19;
                judge.observe(world.now, &canary, &stable);
            }
            assert_eq!(judge.has_breached(), trips, "{guard}: {bad} of {requests}");
        }
        world.canary_rate = 1.0;
        world.canary_requests_to_breach(100).unwrap();
        assert_eq!((world.reading().forecast, world.reading().bad_to_breach), (None, None));
        assert_eq!(world.judge.breach(world.now), Some(world.reading()));
    }
}

#[test]
fn a_reading_is_plain_json() {
    let world = World::new(&[WINDOWED], 1);
    let json = serde_json::to_value(world.reading()).unwrap();
    assert_eq!(
        json["guard"],
        serde_json::json!({
            "metric": "error_rate",
            "test": { "kind": "windowed", "limit": { "rate": 0.05 }, "windowSeconds": 300.0, "minRequests": 50 },
        })
    );
    assert_eq!((&json["verdict"], &json["badToBreach"]), (&"hold".into(), &50.into()));
    assert_eq!(
        json["explanation"],
        "error_rate above 5% over 5m: no requests; needs 50 requests at this step, has 0; \
         50 more bad in a row would be a breach, as would 3 in the next 50"
    );
}

#[test]
fn evidence_and_verdict_agree_on_what_a_breach_is() {
    let mut random = Random::new(5);
    for seed in 0..200 {
        let mut world = World::new(&[WORSE_THAN_STABLE, ABOVE, WINDOWED], seed);
        (world.share, world.canary_rate) = (0.3, [0.0, 0.05, 0.3][random.below(3) as usize]);
        for _ in 0..300 {
            world.request(Duration::from_secs(1));
            if world.judge.has_breached() {
                break;
            }
        }
        let readings = world.judge.readings(world.now);
        for reading in &readings {
            assert_eq!(reading.evidence >= 1.0, reading.verdict == Verdict::Breach, "{reading:?}");
        }
        assert_eq!(overall(&readings), world.verdict());
    }
}

#[test]
fn verdicts_combine() {
    use Verdict::*;
    for (verdicts, all) in
        [(vec![], Pass), (vec![Pass, Pass], Pass), (vec![Pass, Hold], Hold), (vec![Hold, Breach, Pass], Breach)]
    {
        assert_eq!(Verdict::all(verdicts), all);
    }
    assert_eq!(overall(&[]), Pass);
}

// --- Odd input -----------------------------------------------------------------------------------------------

#[test]
fn counts_that_begin_anew_are_no_evidence() {
    let mut world = World::new(&[WORSE_THAN_STABLE, ABOVE, WINDOWED], 1);
    world.canary = Counts { judged: 1_000, errors: 5, ..Counts::default() };
    world.stable = Counts { judged: 1_000, errors: 5, ..Counts::default() };
    world.judge.observe(Duration::from_secs(1), &world.canary, &world.stable);
    world.judge.observe(Duration::from_secs(2), &Counts::default(), &Counts::default());
    assert!(!world.judge.has_breached());
}

#[test]
fn only_guards_whose_parts_fit_check_out() {
    let second = Duration::from_secs(1);
    let of = |metric, test| GuardSpec { metric, test }.check();
    let windowed = |limit, window| GuardTest::Windowed { limit, window, min_requests: 1 };
    let above = |limit, confidence| GuardTest::Above { limit, cap: None, confidence };
    let worse = |margin, slower_than| GuardTest::WorseThanStable { margin, slower_than, cap: None, confidence: 0.99 };
    let (rate, p95) = (Metric::ErrorRate, Metric::LatencyP95);
    for guard in [WORSE_THAN_STABLE, ABOVE, WINDOWED] {
        assert_eq!(guard.check(), Ok(()));
    }
    assert_eq!(of(p95, worse(0.01, Some(second))), Ok(()));
    assert_eq!(of(rate, windowed(Limit::Duration(second), second)), Err(GuardError::WantsShare(rate)));
    assert_eq!(of(p95, above(Limit::Rate(0.1), 0.9)), Err(GuardError::WantsDuration(p95)));
    assert_eq!(of(rate, windowed(Limit::Rate(0.1), Duration::ZERO)), Err(GuardError::EmptyWindow));
    assert_eq!(of(rate, above(Limit::Rate(1.1), 0.9)), Err(GuardError::ShareOutOfRange));
    assert_eq!(of(rate, above(Limit::Rate(0.1), 1.0)), Err(GuardError::ConfidenceOutOfRange));
    assert_eq!(of(rate, above(Limit::Rate(0.1), f64::NAN)), Err(GuardError::ConfidenceOutOfRange));
    assert_eq!(of(rate, worse(0.01, Some(second))), Err(GuardError::NoLatency(rate)));
    assert_eq!(of(p95, worse(0.01, None)), Err(GuardError::WantsSlowerThan(p95)));
    assert_eq!(of(rate, worse(f64::NAN, None)), Err(GuardError::ShareOutOfRange));
}
