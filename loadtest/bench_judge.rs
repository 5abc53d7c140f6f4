//! What a look of the judge costs: `cargo bench --bench judge`.
//!
//! A look reads the counters of both versions and judges what is new; the reconciler looks at most 200 times a second.
//! Goal: under 1 % of a core, that is, under 50 µs a look.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use pointsman::judge::{Feed, GuardSpec, GuardTest, Judge, Limit, Metric};
use pointsman::telemetry::stats::{Exchange, Outcome, StatsRegistry, StatusClass, Usage, VersionLabels, VersionStats};

const WORKERS: usize = 2;

/// A trial under guards, and the looks at it.
struct Trial {
    canary: Arc<VersionStats>,
    stable: Arc<VersionStats>,
    feeds: (Feed, Feed),
    judge: Judge,
    looks: u64,
}

impl Trial {
    fn new(guards: &[GuardSpec]) -> Self {
        let registry = StatsRegistry::new(WORKERS);
        let version = |name: &str| {
            let (environment, agent) = ("production".into(), "support-bot".into());
            registry.version(VersionLabels { environment, agent, version: name.into() })
        };
        let (canary, stable) = (version("1.5.0"), version("1.4.2"));
        let mut feeds = (Feed::of_canary(guards), Feed::of_stable(guards));
        let judge = Judge::new(guards, feeds.0.read(&canary), feeds.1.read(&stable), Duration::ZERO);
        let mut trial = Self { canary, stable, feeds, judge, looks: 0 };
        (0..10_000).for_each(|_| trial.look(1));
        trial
    }

    /// After `canary` more requests of the canary and 19 times as many of stable: one look.
    fn look(&mut self, canary: u64) {
        self.looks += 1;
        for request in 0..20 * canary {
            let version = if request % 20 == 0 { &self.canary } else { &self.stable };
            let worker = request as usize % WORKERS;
            let outcome =
                if (self.looks + request).is_multiple_of(300) { Outcome::ServerError } else { Outcome::Success };
            let latency = Duration::from_millis(80 + request % 40);
            let usage = Usage { input_tokens: Some(100), output_tokens: Some(400 + request % 200) };
            version.started(worker);
            version.ended(
                worker,
                &Exchange { usage, ..Exchange::plain(outcome, StatusClass::Success, latency, Some(latency)) },
            );
        }
        let now = Duration::from_millis(5 * self.looks);
        self.judge.observe(now, self.feeds.0.read(&self.canary), self.feeds.1.read(&self.stable));
        black_box(self.judge.verdict(now));
    }
}

fn guards() -> [(&'static str, Vec<GuardSpec>); 7] {
    let guard = |metric, test| GuardSpec { metric, test };
    let (window, confidence) = (Duration::from_secs(300), 0.999);
    let slow = Duration::from_secs(3);
    let windowed = |limit| GuardTest::Windowed { limit, window, min_requests: 50 };
    let worse = |slower_than| GuardTest::WorseThanStable { margin: 0.01, slower_than, cap: None, confidence };
    let errors = guard(Metric::ErrorRate, windowed(Limit::Rate(0.05)));
    let latency = guard(Metric::LatencyP95, windowed(Limit::Duration(slow)));
    let above = guard(Metric::ErrorRate, GuardTest::Above { limit: Limit::Rate(0.05), cap: None, confidence });
    let against = guard(Metric::ErrorRate, worse(None));
    let (mean, cap) = (Limit::Mean(1_000.0), Some(4_000.0));
    let worse_mean = GuardTest::WorseThanStable { margin: 200.0, slower_than: None, cap, confidence };
    [
        ("window", vec![errors]),
        ("above", vec![above]),
        ("worse than stable", vec![against]),
        ("latency window", vec![latency]),
        ("mean above", vec![guard(Metric::OutputTokensMean, GuardTest::Above { limit: mean, cap, confidence })]),
        ("mean worse than stable", vec![guard(Metric::OutputTokensMean, worse_mean)]),
        (
            "all four and latency against stable",
            vec![errors, latency, above, against, guard(Metric::TtfbP95, worse(Some(slow)))],
        ),
    ]
}

/// The twenty requests before each look are in the figure; `requests` shows what they cost.
fn looks(c: &mut Criterion) {
    for (name, guards) in guards() {
        let mut trial = Trial::new(&guards);
        c.bench_function(&format!("look/{name}"), |b| b.iter(|| trial.look(1)));
    }
    let mut none = Trial::new(&[]);
    c.bench_function("requests/20", |b| b.iter(|| none.look(1)));
    let all = guards().into_iter().last().map(|(_, guards)| guards).unwrap_or_default();
    let trial = Trial::new(&all);
    let now = Duration::from_millis(5 * trial.looks);
    c.bench_function("readings/five guards", |b| b.iter(|| black_box(trial.judge.readings(now))));
}

criterion_group!(benches, looks);
criterion_main!(benches);
