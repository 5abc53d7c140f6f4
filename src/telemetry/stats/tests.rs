//! Tables and properties of the buckets, the sums over shards and the registry.

use std::collections::HashSet;

use proptest::prelude::*;

use super::histogram::TOP_OCTAVE;
use super::registry::OwnLine;
use super::*;

fn labels(environment: &str, agent: &str, version: &str) -> VersionLabels {
    VersionLabels { environment: environment.into(), agent: agent.into(), version: version.into() }
}

fn version(workers: usize) -> VersionStats {
    VersionStats::new(labels("production", "bot", "1.0.0"), workers, Arc::default())
}

fn exchange(outcome: Outcome, latency_us: u64) -> Exchange {
    let latency = Duration::from_micros(latency_us);
    Exchange::plain(outcome, StatusClass::Success, latency, Some(latency / 2))
}

fn distribution(values_us: &[u64]) -> Distribution {
    let mut distribution = Distribution::default();
    for us in values_us {
        distribution.record(Duration::from_micros(*us));
    }
    distribution
}

/// The last value that has a bucket of its own width; all above share the last bucket.
const LONGEST_US: u64 = (1 << TOP_OCTAVE) - 1;

// --- buckets ---

#[test]
fn buckets_tile_the_range_without_gap_or_overlap() {
    let mut start = 0;
    for index in 0..HISTOGRAM_BUCKETS {
        let end = bucket_end(index);
        assert!(end > start, "bucket {index} is empty: {start}..{end}");
        assert_eq!(bucket_of(start), index, "first value of bucket {index}");
        assert_eq!(bucket_of(end - 1), index, "last value of bucket {index}");
        assert!(end - start == 1 || (end - start) * 16 <= start, "bucket {index} is wider than 6.25 %: {start}..{end}");
        start = end;
    }
    assert_eq!(start, LONGEST_US + 1, "the buckets end at 2^32 µs");
}

#[test]
fn what_is_longer_than_the_range_counts_in_the_last_bucket() {
    for us in [LONGEST_US, LONGEST_US + 1, 1 << 33, 1 << 40, u64::MAX - 1, u64::MAX] {
        assert_eq!(bucket_of(us), HISTOGRAM_BUCKETS - 1, "{us} µs");
    }
}

#[test]
fn every_power_of_two_is_an_edge() {
    // The scrape's coarse boundaries rely on it.
    for power in 0..=TOP_OCTAVE {
        assert!((0..HISTOGRAM_BUCKETS).any(|index| bucket_end(index) == 1 << power), "2^{power} µs is no edge");
    }
}

#[test]
fn the_documented_size_holds() {
    assert_eq!(HISTOGRAM_BUCKETS, 464);
    assert!(HISTOGRAM_BUCKETS * size_of::<AtomicU64>() <= 3 * 1024 + 640, "3.6 KiB");
    assert_eq!(align_of::<Shard>(), 64);
    assert_eq!(size_of::<OwnLine>(), 64);
}

proptest! {
    #[test]
    fn a_value_lies_in_its_bucket(us in prop_oneof![0..5_000u64, 0..=LONGEST_US]) {
        let index = bucket_of(us);
        prop_assert!(us < bucket_end(index));
        prop_assert!(index == 0 || us >= bucket_end(index - 1));
    }

    #[test]
    fn a_quantile_is_above_the_true_one_by_at_most_a_sixteenth(
        mut values in prop::collection::vec(prop_oneof![0..200u64, 0..100_000u64, 0..=LONGEST_US], 1..200),
        q in 0.0..=1.0f64,
    ) {
        let found = distribution(&values).quantile(q).map(|d| d.as_micros() as u64);
        values.sort_unstable();
        let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let exact = values[rank - 1];
        let found = found.expect("not empty");
        prop_assert!(found > exact, "{} is not above {}", found, exact);
        prop_assert!((found - exact) as f64 <= (exact as f64 / 16.0).max(1.0), "{} for {}", found, exact);
    }

    #[test]
    fn since_is_the_inverse_of_adding(
        first in prop::collection::vec(0..1_000_000u64, 0..50),
        later in prop::collection::vec(0..1_000_000u64, 0..50),
    ) {
        let all: Vec<u64> = first.iter().chain(&later).copied().collect();
        prop_assert_eq!(distribution(&all).since(&distribution(&first)), distribution(&later));
    }

    #[test]
    fn above_is_exact_at_a_buckets_last_value(
        values in prop::collection::vec(0..=LONGEST_US, 0..100),
        index in 0..HISTOGRAM_BUCKETS,
    ) {
        let limit = bucket_end(index) - 1;
        let exact = values.iter().filter(|v| **v > limit).count() as u64;
        prop_assert_eq!(distribution(&values).above(Duration::from_micros(limit)), exact);
    }
}

// --- distributions ---

#[test]
fn an_empty_distribution_has_no_quantile_and_nothing_above() {
    let empty = Distribution::default();
    for q in [0.0, 0.5, 1.0, f64::NAN] {
        assert_eq!(empty.quantile(q), None);
    }
    assert_eq!((empty.count(), empty.above(Duration::ZERO)), (0, 0));
}

#[test]
fn quantiles_count_ranks_from_one() {
    // 1..=10 µs: each value has a bucket of its own, so the answer is the value plus 1 µs.
    let ten = distribution(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for (q, value) in [(0.0, 1), (0.05, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.9, 9), (0.91, 10), (0.99, 10), (1.0, 10)]
    {
        assert_eq!(ten.quantile(q), Some(Duration::from_micros(value + 1)), "quantile {q}");
    }
    // Out of range is held to the range, not a panic.
    assert_eq!(ten.quantile(-1.0), ten.quantile(0.0));
    assert_eq!(ten.quantile(7.0), ten.quantile(1.0));
}

#[test]
fn above_leaves_out_the_limits_own_bucket() {
    let d = distribution(&[5, 9, 10, 11, 4_000_000, u64::MAX]);
    assert_eq!(d.above(Duration::from_micros(9)), 4);
    assert_eq!(d.above(Duration::from_micros(10)), 3);
    assert_eq!(d.above(Duration::from_secs(3)), 2);
    assert_eq!(d.above(Duration::from_secs(5)), 1);
    assert_eq!(d.above(Duration::MAX), 0);
}

#[test]
fn since_a_later_moment_is_empty_rather_than_negative() {
    let (few, many) = (distribution(&[7]), distribution(&[7, 7, 7, 900]));
    assert_eq!(few.since(&many), Distribution::default());
}

#[test]
fn sums_saturate_where_a_duration_is_absurd() {
    let mut d = distribution(&[u64::MAX]);
    d.record(Duration::MAX);
    assert_eq!((d.count(), d.sum), (2, u64::MAX));
}

// --- versions ---

#[test]
fn totals_sum_the_shards() {
    let stats = version(3);
    for (worker, exchanges) in [(0, 2), (2, 3)] {
        for n in 0..exchanges {
            stats.started(worker);
            stats.ended(worker, &exchange(Outcome::Success, 100 * (n + 1)));
        }
    }
    stats.started(1);
    let totals = stats.totals();
    assert_eq!((totals.started, totals.ended, totals.in_flight()), (6, 5, 1));
    assert_eq!(totals.outcomes[Outcome::Success as usize][StatusClass::Success as usize], 5);
    assert_eq!((totals.judged(), totals.errors()), (5, 0));
    assert_eq!(totals.latency, distribution(&[100, 200, 100, 200, 300]));
    assert_eq!(totals.first_byte, distribution(&[50, 100, 50, 100, 150]));
}

#[test]
fn a_version_that_never_served_has_empty_totals_and_no_shard() {
    let stats = version(8);
    assert_eq!(stats.totals(), Totals::default());
    assert!(stats.shards.iter().all(|shard| shard.get().is_none()));
    stats.started(3);
    assert_eq!(stats.shards.iter().filter(|shard| shard.get().is_some()).count(), 1);
}

#[test]
fn what_the_client_broke_is_counted_but_says_nothing_of_the_version() {
    for outcome in Outcome::ALL {
        let stats = version(1);
        stats.started(0);
        stats.ended(0, &exchange(outcome, 1_000));
        let totals = stats.totals();
        let says_something = !matches!(outcome, Outcome::ClientCancel | Outcome::ClientError);
        assert_eq!(totals.outcome(outcome), 1, "{outcome:?}");
        assert_eq!(totals.judged(), u64::from(says_something), "{outcome:?}");
        let is_timed = says_something && outcome != Outcome::CircuitOpen;
        assert_eq!(totals.latency.count(), u64::from(is_timed), "{outcome:?}");
        assert_eq!(totals.errors(), u64::from(says_something && outcome != Outcome::Success), "{outcome:?}");
        assert_eq!(totals.in_flight(), 0);
    }
}

#[test]
fn no_first_byte_is_no_time_to_it() {
    let stats = version(1);
    stats.started(0);
    let failed = Exchange { first_byte: None, ..exchange(Outcome::ConnectFailed, 700) };
    stats.ended(0, &Exchange { class: StatusClass::None, ..failed });
    let totals = stats.totals();
    assert_eq!((totals.latency.count(), totals.first_byte.count()), (1, 0));
}

#[test]
fn names_are_distinct_and_the_index_of_each_is_its_place() {
    for (index, outcome) in Outcome::ALL.iter().enumerate() {
        assert_eq!(*outcome as usize, index);
    }
    for (index, class) in StatusClass::ALL.iter().enumerate() {
        assert_eq!(*class as usize, index);
    }
    assert_eq!(Outcome::ALL.iter().map(|o| o.as_str()).collect::<HashSet<_>>().len(), Outcome::ALL.len());
    assert_eq!(StatusClass::ALL.iter().map(|c| c.as_str()).collect::<HashSet<_>>().len(), StatusClass::ALL.len());
}

#[test]
fn status_classes_cover_every_number() {
    for (status, class) in [
        (0, "none"),
        (99, "none"),
        (100, "1xx"),
        (199, "1xx"),
        (200, "2xx"),
        (299, "2xx"),
        (304, "3xx"),
        (404, "4xx"),
        (499, "4xx"),
        (500, "5xx"),
        (599, "5xx"),
        (600, "none"),
        (u16::MAX, "none"),
    ] {
        assert_eq!(StatusClass::of(status).as_str(), class, "{status}");
    }
}

#[test]
fn a_reader_never_sees_more_ends_than_starts_nor_ends_without_their_outcome() {
    const EXCHANGES: u64 = 200_000;
    let stats = version(2);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|worker| {
                let stats = &stats;
                scope.spawn(move || {
                    for _ in 0..EXCHANGES {
                        stats.started(worker);
                        stats.ended(worker, &exchange(Outcome::Success, 42));
                    }
                })
            })
            .collect();
        let mut last_ended = 0;
        while !writers.iter().all(|w| w.is_finished()) {
            let totals = stats.totals();
            assert!(totals.ended <= totals.started, "{} ended, {} started", totals.ended, totals.started);
            assert!(totals.outcome(Outcome::Success) >= totals.ended);
            assert!(totals.latency.count() >= totals.ended);
            assert!(totals.ended >= last_ended, "totals only grow");
            last_ended = totals.ended;
        }
    });
    let totals = stats.totals();
    assert_eq!((totals.started, totals.ended, totals.in_flight()), (2 * EXCHANGES, 2 * EXCHANGES, 0));
    assert_eq!((totals.latency.count(), totals.latency.sum), (2 * EXCHANGES, 2 * EXCHANGES * 42));
}

#[test]
fn only_a_guarded_versions_outcomes_ring_the_bell() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    let bell = Arc::new(Bell::default());
    let stats = VersionStats::new(labels("production", "bot", "1.0.0"), 1, bell.clone());
    let rung = || {
        let mut heard = std::pin::pin!(bell.heard());
        heard.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    };
    let one = || {
        stats.started(0);
        stats.ended(0, &exchange(Outcome::Success, 1));
    };
    one();
    assert!(!rung(), "not guarded");
    stats.set_guarded(true);
    stats.started(0);
    assert!(!rung(), "a start is no outcome");
    stats.ended(0, &exchange(Outcome::Reset, 1));
    one();
    assert!(rung(), "guarded");
    assert!(!rung(), "many outcomes, one ring");
    stats.set_guarded(false);
    one();
    assert!(!rung(), "no longer guarded");
}

// --- agents and the registry ---

#[test]
fn keyless_requests_sum_over_workers() {
    let agent = AgentStats::new("production".into(), "bot".into(), 3);
    agent.without_key(0);
    agent.without_key(2);
    agent.without_key(2);
    assert_eq!(agent.keyless(), 3);
}

#[test]
fn the_same_names_get_the_same_counters() {
    let registry = StatsRegistry::new(1);
    let one = registry.version(labels("production", "bot", "1.0.0"));
    assert!(Arc::ptr_eq(&one, &registry.version(labels("production", "bot", "1.0.0"))));
    for other in [("staging", "bot", "1.0.0"), ("production", "cat", "1.0.0"), ("production", "bot", "1.0.1")] {
        assert!(!Arc::ptr_eq(&one, &registry.version(labels(other.0, other.1, other.2))), "{other:?}");
    }
    let agent = registry.agent("production".into(), "bot".into());
    assert!(Arc::ptr_eq(&agent, &registry.agent("production".into(), "bot".into())));
    assert!(!Arc::ptr_eq(&agent, &registry.agent("staging".into(), "bot".into())));
}

#[test]
fn versions_and_agents_come_in_label_order() {
    let registry = StatsRegistry::new(1);
    for (environment, agent, version) in
        [("staging", "bot", "1"), ("production", "cat", "2"), ("production", "bot", "2"), ("production", "bot", "1")]
    {
        registry.version(labels(environment, agent, version));
        registry.agent(environment.into(), agent.into());
    }
    let names: Vec<String> = registry
        .versions()
        .iter()
        .map(|v| format!("{}/{}/{}", v.labels.environment, v.labels.agent, v.labels.version))
        .collect();
    assert_eq!(names, ["production/bot/1", "production/bot/2", "production/cat/2", "staging/bot/1"]);
    let agents: Vec<String> = registry.agents().iter().map(|a| format!("{}/{}", a.environment, a.agent)).collect();
    assert_eq!(agents, ["production/bot", "production/cat", "staging/bot"]);
}

#[test]
fn pruning_forgets_only_what_nobody_holds() {
    let registry = StatsRegistry::new(1);
    let held = registry.version(labels("production", "bot", "1.0.0"));
    let held_agent = registry.agent("production".into(), "bot".into());
    held.started(0);
    registry.version(labels("production", "bot", "2.0.0")).started(0);
    registry.agent("production".into(), "cat".into()).without_key(0);

    registry.prune();

    assert_eq!(registry.versions().len(), 1);
    assert_eq!(registry.agents().len(), 1);
    assert!(Arc::ptr_eq(&held, &registry.version(labels("production", "bot", "1.0.0"))), "counts go on");
    assert!(Arc::ptr_eq(&held_agent, &registry.agent("production".into(), "bot".into())));
    assert_eq!(registry.version(labels("production", "bot", "2.0.0")).totals().started, 0, "begins anew");

    drop((held, held_agent));
    registry.prune();
    assert!(registry.versions().is_empty() && registry.agents().is_empty());
}

#[test]
fn the_registrys_versions_ring_the_registrys_bell() {
    let registry = StatsRegistry::new(1);
    let stats = registry.version(labels("production", "bot", "1.0.0"));
    assert!(Arc::ptr_eq(&stats.bell, registry.bell()));
}

// --- streams, tokens and cost ---

fn stream(outcome: Outcome, end: StreamEnd, tokens: u64) -> Exchange {
    let usage = Usage { input_tokens: Some(tokens / 2), output_tokens: Some(tokens) };
    let first_token = Some(Duration::from_millis(20));
    Exchange { stream: Some(end), first_token, usage, cost_nanos: Some(7_000), ..exchange(outcome, 1_000) }
}

#[test]
fn streams_are_counted_by_their_end_and_only_some_ends_say_anything() {
    let stats = version(2);
    for (worker, end) in StreamEnd::ALL.into_iter().enumerate() {
        stats.started(worker % 2);
        stats.ended(worker % 2, &stream(Outcome::Success, end, 10));
    }
    let streams = stats.totals().streams;
    assert_eq!(streams.ends, [1; StreamEnd::ALL.len()]);
    assert_eq!((streams.judged(), streams.errors()), (4, 3), "neither the cancelled nor the opaque");
    assert_eq!(StreamEnd::ALL.iter().map(|e| e.as_str()).collect::<HashSet<_>>().len(), StreamEnd::ALL.len());
    for (index, end) in StreamEnd::ALL.iter().enumerate() {
        assert_eq!(*end as usize, index);
    }
}

#[test]
fn tokens_of_a_cancelled_answer_were_spent_but_are_no_evidence() {
    let stats = version(1);
    for (outcome, end) in [(Outcome::Success, StreamEnd::Complete), (Outcome::ClientCancel, StreamEnd::Cancelled)] {
        stats.started(0);
        stats.ended(0, &stream(outcome, end, 100));
    }
    let streams = stats.totals().streams;
    assert_eq!((streams.input_tokens, streams.output_tokens, streams.cost_nanos), (100, 200, 14_000));
    assert_eq!((streams.output.count(), streams.output.sum, streams.cost.sum), (1, 100, 7));
    assert_eq!((streams.first_token.count(), streams.unpriced), (1, 0));
}

#[test]
fn an_answer_that_claims_the_impossible_wraps_no_sum() {
    let stats = version(1);
    for _ in 0..3 {
        stats.started(0);
        let absurd = stream(Outcome::Success, StreamEnd::Complete, u64::MAX);
        stats.ended(0, &Exchange { cost_nanos: Some(u64::MAX), ..absurd });
    }
    let streams = stats.totals().streams;
    assert_eq!(streams.output_tokens, 3 * u64::from(u32::MAX));
    assert_eq!(streams.cost_nanos, 3_000_000_000_000_000);
}

#[test]
fn a_version_that_never_streams_has_no_part_for_streams() {
    let stats = version(1);
    stats.started(0);
    stats.ended(0, &exchange(Outcome::Success, 5));
    assert!(stats.shards[0].get().expect("it served").streams.get().is_none());
    assert_eq!(stats.totals().streams, StreamTotals::default());
    stats.between_tokens(0, Duration::from_millis(1), 3);
    let streams = stats.totals().streams;
    assert_eq!((streams.any, streams.between_tokens.sum), (true, 3_000));
}

#[test]
fn only_the_histograms_that_are_asked_for_are_read() {
    let stats = version(1);
    stats.started(0);
    stats.ended(0, &stream(Outcome::Success, StreamEnd::Complete, 10));
    let mut totals = Totals::default();
    stats.read(&mut totals, Histograms { cost: true, ..Histograms::default() });
    assert_eq!((totals.streams.cost.count(), totals.streams.output.count(), totals.latency.count()), (1, 0, 0));
    stats.read(&mut totals, Histograms { cost: true, ..Histograms::default() });
    assert_eq!(totals.streams.cost.count(), 1, "a second read counts nothing twice");
}
