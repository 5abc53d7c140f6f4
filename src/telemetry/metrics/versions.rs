//! The versions' figures, and the keyless requests per agent.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily};

use super::bound::{Bounded, Growing, OTHER};
use super::family::Family;
use super::lock;
use super::streams::{StreamFamilies, StreamSamples};
use crate::telemetry::stats::{
    AgentStats, Distribution, Outcome, RetryResult, StatsRegistry, StatusClass, Totals, VersionLabels, VersionStats,
};

const VERSION: [&str; 3] = ["environment", "agent", "version"];

pub(super) struct VersionCollector {
    stats: Arc<StatsRegistry>,
    /// Held for one scrape, so that two at once do not count growth twice.
    state: Mutex<State>,
    requests: Family,
    duration: Family,
    first_byte: Family,
    in_flight: Family,
    retries: Family,
    streams: StreamFamilies,
    keyless: Family,
}

struct State {
    versions: Bounded<VersionLabels, Totals>,
    agents: Bounded<(Arc<str>, Arc<str>), u64>,
}

impl VersionCollector {
    pub(super) fn new(stats: Arc<StatsRegistry>, limit: usize) -> Self {
        let bound =
            format!("At most {limit} versions have series of their own; the others add to agent and version _other.");
        let with_bound = |help: &str| format!("{help} {bound}");
        let state = State { versions: Bounded::new(limit), agents: Bounded::new(limit) };
        Self {
            stats,
            state: Mutex::new(state),
            requests: Family::counter(
                "pointsman_requests_total",
                &with_bound(
                    "Exchanges that ended, by the version that answered, how they ended, and the status class.",
                ),
                &["environment", "agent", "version", "outcome", "status_class"],
            ),
            duration: Family::histogram(
                "pointsman_request_duration_seconds",
                &with_bound(
                    "From the request's head to the last byte of the answer; what the client broke is left out.",
                ),
                &VERSION,
            ),
            first_byte: Family::histogram(
                "pointsman_time_to_first_byte_seconds",
                &with_bound("From the request's head to the head of the answer; what the client broke is left out."),
                &VERSION,
            ),
            in_flight: Family::gauge(
                "pointsman_requests_in_flight",
                &with_bound("Exchanges that began and have not ended."),
                &VERSION,
            ),
            retries: Family::counter(
                "pointsman_retries_total",
                &with_bound(
                    "Failures of attempts that may be tried again: sent again, or passed on with no attempt or no \
                     budget left.",
                ),
                &["environment", "agent", "version", "result"],
            ),
            streams: StreamFamilies::new(with_bound),
            keyless: Family::counter(
                "pointsman_bucketing_key_missing_total",
                "Requests in which no source of the agent's bucketing key was present; they went to stable. \
                 Bounded like the versions.",
                &["environment", "agent"],
            ),
        }
    }

    fn versions(&self, state: &mut State) -> Vec<MetricFamily> {
        let all = self.stats.versions();
        let live = all.iter().map(|v| &v.labels).collect::<HashSet<_>>();
        state.versions.retain(&live, &environments(all.iter().map(|v| &v.labels.environment)));
        let mut samples = Samples::default();
        let mut rest_in_flight = BTreeMap::<Arc<str>, u64>::new();
        for version in &all {
            self.version(version, &mut state.versions, &mut samples, &mut rest_in_flight);
        }
        for (environment, totals) in state.versions.other() {
            let in_flight = rest_in_flight.get(environment).copied().unwrap_or_default();
            self.sample([environment, OTHER, OTHER], totals, in_flight, &mut samples);
        }
        let mut families = vec![
            self.requests.with(samples.requests),
            self.duration.with(samples.duration),
            self.first_byte.with(samples.first_byte),
            self.in_flight.with(samples.in_flight),
            self.retries.with(samples.retries),
        ];
        families.extend(self.streams.with(samples.streams));
        families
    }

    fn version(
        &self,
        version: &VersionStats,
        bounded: &mut Bounded<VersionLabels, Totals>,
        samples: &mut Samples,
        rest_in_flight: &mut BTreeMap<Arc<str>, u64>,
    ) {
        let (labels, totals) = (&version.labels, version.totals());
        if totals.started == 0 {
            // Idle versions cost no series, and take no place from those that serve.
            return;
        }
        if bounded.admit(labels, &labels.environment, &totals) {
            let names = [&*labels.environment, &labels.agent, &labels.version];
            self.sample(names, &totals, totals.in_flight(), samples);
        } else {
            *rest_in_flight.entry(labels.environment.clone()).or_default() += totals.in_flight();
        }
    }

    fn sample(&self, names: [&str; 3], totals: &Totals, in_flight: u64, samples: &mut Samples) {
        let [environment, agent, version] = names;
        for outcome in Outcome::ALL {
            for class in StatusClass::ALL {
                let count = totals.outcomes[outcome as usize][class as usize];
                if count > 0 {
                    let values = [environment, agent, version, outcome.as_str(), class.as_str()];
                    samples.requests.push(self.requests.sample(&values, count as f64));
                }
            }
        }
        samples.duration.push(self.duration.histogram_sample(&names, &totals.latency));
        samples.first_byte.push(self.first_byte.histogram_sample(&names, &totals.first_byte));
        samples.in_flight.push(self.in_flight.sample(&names, in_flight as f64));
        for result in RetryResult::ALL.into_iter().filter(|result| totals.retries[*result as usize] > 0) {
            let values = [environment, agent, version, result.as_str()];
            samples.retries.push(self.retries.sample(&values, totals.retries[result as usize] as f64));
        }
        self.streams.sample(names, &totals.streams, &mut samples.streams);
    }

    fn keyless(&self, state: &mut State) -> MetricFamily {
        let all: Vec<_> = self.stats.agents();
        let key = |agent: &AgentStats| (agent.environment.clone(), agent.agent.clone());
        let keys: Vec<_> = all.iter().map(|agent| key(agent)).collect();
        state.agents.retain(&keys.iter().collect(), &environments(all.iter().map(|a| &a.environment)));
        let mut samples = Vec::new();
        for (agent, key) in all.iter().zip(&keys) {
            let count = agent.keyless();
            if count > 0 && state.agents.admit(key, &agent.environment, &count) {
                samples.push(self.keyless.sample(&[&agent.environment, &agent.agent], count as f64));
            }
        }
        for (environment, count) in state.agents.other() {
            samples.push(self.keyless.sample(&[environment, OTHER], *count as f64));
        }
        self.keyless.with(samples)
    }
}

#[derive(Default)]
struct Samples {
    requests: Vec<Metric>,
    duration: Vec<Metric>,
    first_byte: Vec<Metric>,
    in_flight: Vec<Metric>,
    retries: Vec<Metric>,
    streams: StreamSamples,
}

impl Collector for VersionCollector {
    fn desc(&self) -> Vec<&Desc> {
        let families =
            [&self.requests, &self.duration, &self.first_byte, &self.in_flight, &self.retries, &self.keyless];
        families.map(Family::desc).into_iter().chain(self.streams.descs()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut state = lock(&self.state);
        let mut families = self.versions(&mut state);
        families.push(self.keyless(&mut state));
        families
    }
}

fn environments<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> HashSet<&'a str> {
    names.map(|name| &**name).collect()
}

impl Growing for Totals {
    fn add_growth(&mut self, now: &Self, earlier: &Self) {
        self.started.add_growth(&now.started, &earlier.started);
        self.ended.add_growth(&now.ended, &earlier.ended);
        let (now_counts, earlier_counts) = (now.outcomes.iter().flatten(), earlier.outcomes.iter().flatten());
        for ((sum, now), earlier) in self.outcomes.iter_mut().flatten().zip(now_counts).zip(earlier_counts) {
            sum.add_growth(now, earlier);
        }
        for ((sum, now), earlier) in self.retries.iter_mut().zip(&now.retries).zip(&earlier.retries) {
            sum.add_growth(now, earlier);
        }
        self.latency.add_growth(&now.latency, &earlier.latency);
        self.first_byte.add_growth(&now.first_byte, &earlier.first_byte);
        self.streams.add_growth(&now.streams, &earlier.streams);
    }
}

impl Growing for Distribution {
    fn add_growth(&mut self, now: &Self, earlier: &Self) {
        Distribution::add_growth(self, now, earlier);
    }
}
