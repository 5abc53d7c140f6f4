//! What guards on means promise, by simulation. All seeds are fixed.

use super::*;
use crate::judge::{GuardError, GuardSpec, GuardTest, Judge, Limit, Metric, Reading};
use crate::random::Random;
use crate::telemetry::stats::Distribution;

const LIMIT: f64 = 1_000.0;
const CAP: f64 = 4_000.0;

/// An amount and its chance; what is left of the chance is 0.
type Shape = &'static [(u64, f64)];

/// Each has a mean of 1,000: all the same, all or nothing up to the cap, rare and far beyond it, a long tail.
const AT_THE_LIMIT: [Shape; 5] = [
    &[(1_000, 1.0)],
    &[(4_000, 0.25)],
    &[(400_000, 0.002_5)],
    &[(500, 0.8), (2_000, 0.15), (6_000, 0.05)],
    &[(3_999, 0.125), (571, 0.874_999)],
];

fn draw(shape: Shape, random: &mut Random) -> u64 {
    let mut left = 1.0;
    for (amount, chance) in shape {
        if random.chance((chance / left).min(1.0)) {
            return *amount;
        }
        left -= chance;
    }
    0
}

fn take(counts: &mut Counts, tokens: u64) {
    counts.judged += 1;
    counts.output_tokens.record_units(tokens);
}

fn spec(test: GuardTest) -> GuardSpec {
    GuardSpec { metric: Metric::OutputTokensMean, test }
}

fn above(confidence: f64) -> GuardSpec {
    spec(GuardTest::Above { limit: Limit::Mean(LIMIT), cap: Some(CAP), confidence })
}

fn worse(margin: f64, confidence: f64) -> GuardSpec {
    spec(GuardTest::WorseThanStable { margin, slower_than: None, cap: Some(CAP), confidence })
}

/// Two versions, of which the canary gets every tenth request; a look after each of the canary's.
struct World {
    judge: Judge,
    canary: Counts,
    stable: Counts,
    random: Random,
}

impl World {
    fn new(guard: GuardSpec, seed: u64) -> Self {
        let (canary, stable) = (Counts::default(), Counts::default());
        let judge = Judge::new(&[guard], &canary, &stable, Duration::ZERO);
        Self { judge, canary, stable, random: Random::new(seed) }
    }

    /// Canary requests until a breach, of at most `requests`.
    fn run(&mut self, canary: Shape, stable: Option<Shape>, requests: u64) -> Option<u64> {
        (1..=requests).find(|_| {
            take(&mut self.canary, draw(canary, &mut self.random));
            for _ in 0..9 {
                if let Some(stable) = stable {
                    take(&mut self.stable, draw(stable, &mut self.random));
                }
            }
            self.judge.observe(Duration::from_secs(1), &self.canary, &self.stable);
            self.judge.has_breached()
        })
    }

    fn reading(&self) -> Reading {
        self.judge.readings(Duration::from_secs(1)).swap_remove(0)
    }
}

/// The tests alone, on levels: many runs are cheap.
fn levels(shape: Shape) -> Vec<Answers<LEVELS>> {
    let scale = Scale::new(CAP as u64);
    let one = |amount| {
        let mut amounts = Distribution::default();
        amounts.record_units(amount);
        scale.answers(&amounts)
    };
    shape.iter().map(|(amount, _)| one(*amount)).chain([one(0)]).collect()
}

fn draw_level<'l>(shape: Shape, levels: &'l [Answers<LEVELS>], random: &mut Random) -> &'l Answers<LEVELS> {
    let drawn = draw(shape, random);
    let index = shape.iter().position(|(amount, _)| *amount == drawn).unwrap_or(shape.len());
    &levels[index]
}

#[test]
fn a_version_at_the_limit_is_blamed_no_more_often_than_promised_whatever_its_shape() {
    // At 90 %, so that 300 runs can tell: 30 are allowed.
    let scale = Scale::new(CAP as u64);
    let mut most = 0;
    for shape in AT_THE_LIMIT {
        let levels = levels(shape);
        let alarm = |seed| {
            let mut random = Random::new(seed);
            let mut test = AboveTest::new(LIMIT / CAP, 0.9, scale.worth_at_least());
            (0..200).any(|_| {
                test.take(draw_level(shape, &levels, &mut random));
                test.is_reached()
            })
        };
        let alarms = (0..300).filter(|seed| alarm(*seed)).count();
        assert!(alarms <= 30, "{shape:?}: {alarms}");
        most = most.max(alarms);
    }
    assert!(most > 0, "a proof that never blames proves nothing");
}

#[test]
fn a_version_at_the_margin_is_blamed_no_more_often_than_promised_whatever_the_shapes() {
    // The canary's mean is 1,000, and stable's 900 in three shapes: 100 are allowed, as much as there is.
    const STABLE: [Shape; 3] = [&[(900, 1.0)], &[(4_000, 0.225)], &[(300, 0.7), (2_300, 0.3)]];
    let scale = Scale::new(CAP as u64);
    let worth = (scale.worth_at_least(), scale.worth_at_most());
    for stable in STABLE {
        for canary in [AT_THE_LIMIT[0], AT_THE_LIMIT[1], AT_THE_LIMIT[4]] {
            let (of_stable, of_canary) = (levels(stable), levels(canary));
            let alarm = |seed| {
                let mut random = Random::new(seed);
                let mut test = AgainstTest::new(100.0 / CAP, 0.9, worth, &Answers::default());
                (0..60).any(|_| {
                    let canary = draw_level(canary, &of_canary, &mut random);
                    let mut nine = Answers::default();
                    (0..9).for_each(|_| nine = nine.plus(draw_level(stable, &of_stable, &mut random)));
                    test.take(canary, &nine);
                    test.is_reached()
                })
            };
            let alarms = (0..100).filter(|seed| alarm(*seed)).count();
            assert!(alarms <= 10, "{canary:?} beside {stable:?}: {alarms}");
        }
    }
}

#[test]
fn a_mean_twice_the_limit_is_found_soon_also_after_a_long_healthy_run() {
    const HEALTHY: Shape = &[(300, 0.6), (900, 0.3), (2_500, 0.1)];
    const DOUBLED: Shape = &[(1_200, 0.6), (2_800, 0.3), (4_400, 0.1)];
    for seed in 0..10 {
        let mut world = World::new(above(0.999), seed);
        assert_eq!(world.run(HEALTHY, None, 500), None, "seed {seed}");
        let found = world.run(DOUBLED, None, 200);
        assert!(found.is_some_and(|requests| requests <= 60), "seed {seed}: {found:?}");
    }
}

#[test]
fn a_mean_twice_that_of_stable_is_found_and_a_common_rise_blames_nobody() {
    const USUAL: Shape = &[(300, 0.6), (900, 0.3), (1_500, 0.1)];
    const DOUBLED: Shape = &[(600, 0.6), (1_800, 0.3), (3_000, 0.1)];
    for seed in 0..3 {
        let mut world = World::new(worse(200.0, 0.999), seed);
        assert_eq!(world.run(USUAL, Some(USUAL), 150), None);
        assert_eq!(world.run(DOUBLED, Some(DOUBLED), 150), None, "a question of the hour, not of the version");
        let mut world = World::new(worse(200.0, 0.999), seed);
        assert_eq!(world.run(USUAL, Some(USUAL), 50), None);
        let found = world.run(DOUBLED, Some(USUAL), 400);
        assert!(found.is_some(), "seed {seed}: {}", world.reading().explanation);
    }
}

#[test]
fn one_look_at_many_is_as_good_as_many_looks_for_what_is_within_the_limit() {
    let mut world = World::new(above(0.999), 1);
    for _ in 0..10_000 {
        take(&mut world.canary, 990);
    }
    world.judge.observe(Duration::from_secs(1), &world.canary, &world.stable);
    assert!(!world.judge.has_breached());
    for _ in 0..10_000 {
        take(&mut world.canary, 1_500);
    }
    world.judge.observe(Duration::from_secs(2), &world.canary, &world.stable);
    assert!(world.judge.has_breached());
}

#[test]
fn a_single_runaway_answer_cannot_outweigh_the_others() {
    let mut world = World::new(above(0.999), 1);
    assert_eq!(world.run(&[(700, 1.0)], None, 100), None);
    take(&mut world.canary, 3_000_000_000);
    world.judge.observe(Duration::from_secs(1), &world.canary, &world.stable);
    assert!(!world.judge.has_breached());
    let reading = world.reading();
    assert!(reading.canary.estimate.is_some_and(|mean| mean < 800.0), "{reading:?}");
}

#[test]
fn a_windowed_mean_is_the_plain_mean_once_there_are_enough_requests() {
    let window = Duration::from_secs(300);
    let test = GuardTest::Windowed { limit: Limit::Mean(0.02), window, min_requests: 50 };
    let guard = GuardSpec { metric: Metric::CostPerRequestMean, test };
    let mut canary = Counts::default();
    let stable = Counts::default();
    let mut judge = Judge::new(&[guard], &canary, &stable, Duration::ZERO);
    let mut look = |second, requests, micros| {
        (0..requests).for_each(|_| canary.cost.record_units(micros));
        let now = Duration::from_secs(second);
        judge.observe(now, &canary, &stable);
        judge.readings(now).swap_remove(0)
    };
    assert_eq!(look(1, 49, 100_000).verdict, Verdict::Hold, "too few");
    let high = look(200, 49, 10_000);
    assert_eq!((high.verdict, high.canary.estimate), (Verdict::Breach, Some(0.055)), "49 of 0.1 and 49 of 0.01");
    assert_eq!(high.explanation, "cost_per_request_mean above 0.02 over 5m: 0.055 (over 98 requests); breach");
    assert!(high.evidence >= 1.0);
}

#[test]
fn readings_of_means_say_what_counts_and_how_far_it_is() {
    let mut world = World::new(above(0.999), 1);
    world.run(&[(700, 1.0)], None, 100);
    let reading = world.reading();
    let (low, high) = reading.canary.interval.expect("there were requests");
    assert!(low < 700.0 && 700.0 < high && reading.limit == Some(LIMIT), "{reading:?}");
    assert_eq!((reading.verdict, reading.canary.requests, reading.canary.bad), (Verdict::Pass, 100, 0));
    let more = reading.bad_to_breach.expect("a few at the cap are one");
    let words = [
        "output_tokens_mean above 1000 tokens, each request up to 4000 tokens (confidence 99.9%)",
        "(over 100 requests); holds;",
        &format!("{more} more at the cap in a row would be a breach"),
    ];
    assert!(words.iter().all(|words| reading.explanation.contains(words)), "{}", reading.explanation);
    assert_eq!(world.run(&[(9_000, 1.0)], None, 1_000), Some(more), "it comes true");
}

#[test]
fn only_caps_that_can_bound_a_mean_check_out() {
    let cap = |cap| spec(GuardTest::Above { limit: Limit::Mean(LIMIT), cap, confidence: 0.99 }).check();
    assert_eq!(cap(Some(CAP)), Ok(()));
    assert_eq!(cap(None), Err(GuardError::WantsCap(Metric::OutputTokensMean)));
    assert_eq!(cap(Some(LIMIT)), Err(GuardError::CapOutOfRange));
    assert_eq!(cap(Some(1e10)), Err(GuardError::CapOutOfRange));
    let rate = GuardTest::Above { limit: Limit::Rate(0.05), cap: Some(1.0), confidence: 0.99 };
    assert_eq!(GuardSpec { metric: Metric::StreamErrorRate, test: rate }.check(), Err(GuardError::NoCap));
    assert_eq!(spec(rate).check(), Err(GuardError::WantsNumber(Metric::OutputTokensMean)));
    let second = Duration::from_secs(1);
    let gaps = GuardTest::Above { limit: Limit::Duration(second), cap: None, confidence: 0.99 };
    let metric = Metric::InterTokenP95;
    assert_eq!(GuardSpec { metric, test: gaps }.check(), Err(GuardError::NotPerRequest(metric)));
    let windowed = GuardTest::Windowed { limit: Limit::Duration(second), window: second, min_requests: 1 };
    assert_eq!(GuardSpec { metric, test: windowed }.check(), Ok(()));
    assert_eq!(worse(0.0, 0.99).check(), Err(GuardError::AmountOutOfRange));
}

#[test]
fn a_guard_on_a_mean_is_plain_json_and_reads_back() {
    for guard in [above(0.999), worse(200.0, 0.99)] {
        let json = serde_json::to_value(guard).expect("plain data");
        assert_eq!(serde_json::from_value::<GuardSpec>(json).expect("as it was written"), guard);
    }
    let older = serde_json::json!({ "metric": "error_rate",
        "test": { "kind": "above", "limit": { "rate": 0.05 }, "confidence": 0.999 } });
    assert!(serde_json::from_value::<GuardSpec>(older).is_ok(), "guards that were stored before there were caps");
}
