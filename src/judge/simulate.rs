//! Proof by simulation: how often the judge blames a good canary, and how fast it finds a bad one.
//!
//! Pure and deterministic: a result follows from the [`Plan`], seed included, whatever the number of threads,
//! since each run draws from a generator of its own. The real [`Judge`] runs on counts as the data plane would
//! give them; what is simulated is the traffic: evenly spaced requests, each of which goes to the canary with
//! the chance of its share and ends bad with the chance of its version's rate. Left out: requests that end
//! after the rollback was decided, and rates that drift (the room's tests have those).

mod random;
mod report;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Counts, GuardSpec, GuardTest, Judge, Metric, Verdict};

pub use random::Random;
pub use report::{DetectionRow, NullRow, Quantiles, Report};

/// What to simulate. Every combination of the lists is a row, so their lengths multiply.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Judged together. Error rates only: the simulated requests have no latency.
    pub guards: Vec<GuardSpec>,
    /// Stable's share of bad requests.
    pub stable_rates: Vec<f64>,
    /// The canary's share of the traffic.
    pub canary_shares: Vec<f64>,
    /// Of both versions together.
    pub requests_per_second: Vec<f64>,
    /// For false alarms: by how much the good canary's rate is above stable's; up to the margin it is good.
    pub null_excesses: Vec<f64>,
    /// For detection: by how much the bad canary's rate is above stable's.
    pub defects: Vec<f64>,
    /// For detection: healthy canary requests before the defect.
    pub healthy_requests: Vec<u64>,
    /// A null run ends after this many canary requests, or this many of both, whichever is first.
    pub null_canary_requests: u64,
    pub null_requests_max: u64,
    /// A detection run gives up after this many canary requests with the defect.
    pub detection_canary_requests: u64,
    /// How often the judge looks when searching a defect: the bell's pace. Null runs are judged after every request.
    pub look_every: Duration,
    /// How many users there are; each request is one's, drawn evenly among those of its version.
    pub users: u64,
    /// Per row.
    pub null_runs: u64,
    pub detection_runs: u64,
    pub seed: u64,
    pub threads: NonZeroUsize,
}

impl Default for Plan {
    /// The grid of the README's table; a few minutes in a release build on two cores.
    fn default() -> Self {
        let test = GuardTest::WorseThanStable { margin: 0.01, slower_than: None, confidence: 0.999 };
        Self {
            guards: vec![GuardSpec { metric: Metric::ErrorRate, test }],
            stable_rates: vec![0.001, 0.01, 0.05, 0.2],
            canary_shares: vec![0.01, 0.05, 0.25, 0.5],
            requests_per_second: vec![20.0 / 3600.0, 10.0, 5_000.0],
            null_excesses: vec![0.0],
            defects: vec![0.01, 0.02, 0.05, 0.1, 0.5, 1.0],
            healthy_requests: vec![0, 10_000],
            null_canary_requests: 1_000,
            null_requests_max: 50_000,
            detection_canary_requests: 5_000,
            look_every: Duration::from_millis(10),
            users: 10_000,
            null_runs: 10_000,
            detection_runs: 500,
            seed: 1,
            threads: NonZeroUsize::MIN,
        }
    }
}

/// One row's traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    pub stable_rate: f64,
    pub canary_share: f64,
    pub requests_per_second: f64,
}

/// What one search for a defect came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// Rolled back before there was a defect.
    FalseAlarm,
    NotFound,
    Found(Cost),
}

/// What a defect cost until it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    canary_requests: u64,
    bad_requests: u64,
    users_hit: u64,
}

/// Runs the whole plan; `progress` is told of each row done, as (done, of).
pub fn run(plan: &Plan, mut progress: impl FnMut(usize, usize)) -> Report {
    let traffics = traffics(plan);
    let defects: Vec<(u64, f64)> = plan
        .healthy_requests
        .iter()
        .flat_map(|healthy| plan.defects.iter().map(|defect| (*healthy, *defect)))
        .collect();
    let rows = traffics.len() * (plan.null_excesses.len() + defects.len());
    let mut report = Report::new(plan);
    let mut done = 0;
    for traffic in traffics {
        for excess in &plan.null_excesses {
            report.null.push(null_row(plan, traffic, *excess, done));
            done += 1;
            progress(done, rows);
        }
        for (healthy, defect) in &defects {
            report.detection.push(detection_row(plan, traffic, *healthy, *defect, done));
            done += 1;
            progress(done, rows);
        }
    }
    report
}

fn traffics(plan: &Plan) -> Vec<Traffic> {
    let mut traffics = Vec::new();
    for requests_per_second in &plan.requests_per_second {
        for canary_share in &plan.canary_shares {
            for stable_rate in &plan.stable_rates {
                traffics.push(Traffic {
                    stable_rate: *stable_rate,
                    canary_share: *canary_share,
                    requests_per_second: *requests_per_second,
                });
            }
        }
    }
    traffics
}

fn null_row(plan: &Plan, traffic: Traffic, excess: f64, row: usize) -> NullRow {
    let alarms = repeat(plan, plan.null_runs, row, |random| {
        let mut world = World::new(plan, traffic, random);
        world.canary_rate = (traffic.stable_rate + excess).min(1.0);
        world.run_until(Duration::ZERO, |world| {
            world.canary.judged >= plan.null_canary_requests
                || world.canary.judged + world.stable.judged >= plan.null_requests_max
        }) == Verdict::Breach
    });
    NullRow { traffic, excess, runs: plan.null_runs, alarms: alarms.iter().filter(|alarm| **alarm).count() as u64 }
}

fn detection_row(plan: &Plan, traffic: Traffic, healthy: u64, defect: f64, row: usize) -> DetectionRow {
    let searches = repeat(plan, plan.detection_runs, row, |random| search(plan, traffic, healthy, defect, random));
    let found: Vec<Cost> = searches
        .iter()
        .filter_map(|search| match search {
            Search::Found(cost) => Some(*cost),
            Search::NotFound | Search::FalseAlarm => None,
        })
        .collect();
    let count = |kind| searches.iter().filter(|search| **search == kind).count() as u64;
    DetectionRow {
        traffic,
        healthy_requests: healthy,
        defect,
        runs: plan.detection_runs,
        found: found.len() as u64,
        not_found: count(Search::NotFound),
        false_alarms: count(Search::FalseAlarm),
        canary_requests: Quantiles::of(found.iter().map(|cost| cost.canary_requests)),
        bad_requests: Quantiles::of(found.iter().map(|cost| cost.bad_requests)),
        users_hit: Quantiles::of(found.iter().map(|cost| cost.users_hit)),
    }
}

fn search(plan: &Plan, traffic: Traffic, healthy: u64, defect: f64, random: Random) -> Search {
    let mut world = World::new(plan, traffic, random);
    if world.run_until(plan.look_every, |world| world.canary.judged >= healthy) == Verdict::Breach {
        return Search::FalseAlarm;
    }
    world.canary_rate = (traffic.stable_rate + defect).min(1.0);
    let (requests, bad) = (world.canary.judged, world.canary.errors);
    world.users_hit.clear();
    let give_up = requests + plan.detection_canary_requests;
    if world.run_until(plan.look_every, |world| world.canary.judged >= give_up) != Verdict::Breach {
        return Search::NotFound;
    }
    Search::Found(Cost {
        canary_requests: world.canary.judged - requests,
        bad_requests: world.canary.errors - bad,
        users_hit: world.users_hit.len() as u64,
    })
}

/// Makes `runs` runs on the plan's threads, each with its own generator, and returns them in order.
fn repeat<T: Send>(plan: &Plan, runs: u64, row: usize, run: impl Fn(Random) -> T + Sync) -> Vec<T> {
    let generator = |index: usize| Random::new(plan.seed).fork(row as u64).fork(index as u64);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut mine = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index as u64 >= runs {
                return mine;
            }
            mine.push((index, run(generator(index))));
        }
    };
    let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..plan.threads.get()).map(|_| scope.spawn(work)).collect();
        let mut results = work();
        for other in others {
            // A panic in a worker is a defect of the simulation: it goes on to the caller.
            results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// One run's traffic, versions and judge.
struct World {
    judge: Judge,
    random: Random,
    canary: Counts,
    stable: Counts,
    now: Duration,
    gap: Duration,
    last_look: Duration,
    traffic: Traffic,
    canary_rate: f64,
    canary_users: u64,
    users_hit: HashSet<u64>,
}

impl World {
    fn new(plan: &Plan, traffic: Traffic, random: Random) -> Self {
        let (canary, stable) = (Counts::default(), Counts::default());
        Self {
            judge: Judge::new(&plan.guards, &canary, &stable, Duration::ZERO),
            random,
            canary,
            stable,
            now: Duration::ZERO,
            gap: Duration::from_secs_f64(1.0 / traffic.requests_per_second.clamp(1e-6, 1e9)),
            last_look: Duration::ZERO,
            traffic,
            canary_rate: traffic.stable_rate,
            canary_users: ((plan.users as f64 * traffic.canary_share) as u64).max(1),
            users_hit: HashSet::new(),
        }
    }

    /// Goes on until a breach or `done`, with a look at most every `look_every`.
    fn run_until(&mut self, look_every: Duration, done: impl Fn(&Self) -> bool) -> Verdict {
        while !done(self) {
            self.request();
            if self.now - self.last_look < look_every {
                continue;
            }
            self.last_look = self.now;
            self.judge.observe(self.now, &self.canary, &self.stable);
            if self.judge.has_breached() {
                return Verdict::Breach;
            }
        }
        Verdict::Hold
    }

    fn request(&mut self) {
        self.now += self.gap;
        if self.random.chance(self.traffic.canary_share) {
            self.canary.judged += 1;
            if self.random.chance(self.canary_rate) {
                self.canary.errors += 1;
                self.users_hit.insert(self.random.below(self.canary_users));
            }
        } else {
            self.stable.judged += 1;
            self.stable.errors += u64::from(self.random.chance(self.traffic.stable_rate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Plan {
        Plan {
            stable_rates: vec![0.01],
            canary_shares: vec![0.05],
            requests_per_second: vec![100.0],
            defects: vec![0.02, 0.5],
            healthy_requests: vec![0, 200],
            null_canary_requests: 100,
            detection_canary_requests: 500,
            null_runs: 50,
            detection_runs: 20,
            ..Plan::default()
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_report_on_any_number_of_threads() {
        let one = run(&small(), |_, _| {});
        let three = run(&Plan { threads: NonZeroUsize::new(3).unwrap(), ..small() }, |_, _| {});
        assert_eq!((&one.null, &one.detection), (&three.null, &three.detection));
        let other = run(&Plan { seed: 2, ..small() }, |_, _| {});
        assert_ne!(one.detection, other.detection);
    }

    #[test]
    fn every_row_is_there_and_large_defects_are_found_at_less_cost() {
        let mut last = (0, 0);
        let report = run(&small(), |done, of| last = (done, of));
        assert_eq!(last, (5, 5));
        assert_eq!((report.null.len(), report.detection.len()), (1, 4));
        let large = &report.detection[1];
        assert_eq!((large.healthy_requests, large.defect, large.found), (0, 0.5, 20));
        assert!(large.bad_requests.unwrap().median <= 20, "{large:?}");
        assert!(large.users_hit.unwrap().p99 <= large.bad_requests.unwrap().p99);
        let small = &report.detection[0];
        assert_eq!(small.found + small.not_found + small.false_alarms, small.runs);
        assert!(small.not_found > large.not_found);
    }

    #[test]
    fn a_report_is_two_markdown_tables() {
        let text = run(&small(), |_, _| {}).to_string();
        let widths: Vec<usize> =
            text.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert_eq!(widths, [7, 7, 7, 10, 10, 10, 10, 10, 10], "{text}");
    }
}
