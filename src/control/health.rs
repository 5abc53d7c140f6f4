//! Health checks. Those that gate a deployment ([`Gate`]): each check against each endpoint of its version, before the
//! first request goes there and until the deployment ends. And standing ones ([`Standing`]), for as long as a version
//! serves, which take single endpoints out of service.
//!
//! - An endpoint is unknown until its first success, or until 1 + `retries` tries in a row have failed. From then
//!   on it is healthy or, after as many failures in a row, unhealthy; `successes` in a row make it healthy again.
//! - A version is healthy when every endpoint passes every check. One without endpoints never is.
//! - Commands come from the configuration file alone: no request over the network can make one run.
//!
//! Bounds: the configuration's on checks and endpoints, and [`super::errands`]'s on how many are asked at a time.

mod check;
mod command;
mod spec;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use check::Trouble;
pub use spec::{CheckKind, HealthCheck, HttpCheck, StatusRange};
use standing::Ward;
pub use standing::{Standing, StandingReading};

use super::client::Peer;
use super::errands::{Desk, Errand, Errands, Work};
use super::model::{AgentKey, DeploymentId};
use super::rollout::Health;
use crate::routing::ids::VersionId;
use crate::routing::spec::{EndpointAddress, EndpointTls};

/// The names that may stand as `{{name}}` in the arguments of a command.
pub const NAMES: [&str; 5] = ["endpoint", "agent", "version", "stable", "environment"];

/// Which version is checked, and for which deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// `None`: the version serves, whatever becomes of deployments.
    pub deployment: Option<DeploymentId>,
    pub key: AgentKey,
    pub version: VersionId,
    pub stable: VersionId,
    pub endpoints: Vec<EndpointAddress>,
    /// With those that are `https`.
    pub tls: Arc<EndpointTls>,
}

/// The checks of one deployment. They end when it is dropped.
pub struct Gate {
    target: Arc<Target>,
    probes: Vec<Arc<Probe>>,
    errands: Errands,
}

impl Gate {
    /// `None` without checks.
    pub fn new(target: Target, checks: &[HealthCheck]) -> Option<Self> {
        (!checks.is_empty()).then(|| Self::telling(target, checks, &[]))
    }

    /// Whose probes tell the wards what they find; there is one for each endpoint, or none.
    fn telling(target: Target, checks: &[HealthCheck], wards: &[Arc<Ward>]) -> Self {
        let target = Arc::new(target);
        let endpoints = 0..target.endpoints.len();
        let pairs =
            checks.iter().enumerate().flat_map(|check| endpoints.clone().map(move |endpoint| (check, endpoint)));
        let probe = |((place, check), endpoint): ((usize, &HealthCheck), usize)| {
            let ward = wards.get(endpoint).map(|ward| (ward.clone(), place));
            Arc::new(Probe { ward, ..Probe::new(check.clone(), target.clone(), endpoint) })
        };
        let probes: Vec<_> = pairs.map(probe).collect();
        let errands = Errands::new(probes.iter().cloned().map(Work::Check));
        Self { target, probes, errands }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Checks that have not begun.
    pub fn errands(&mut self) -> impl Iterator<Item = Errand> {
        self.errands.take()
    }

    pub fn health(&self) -> Health {
        if self.probes.is_empty() {
            return Health::Unhealthy { why: "the version has no endpoint".into() };
        }
        let mut health = Health::Healthy;
        for probe in &self.probes {
            let state = probe.state();
            match state.verdict {
                Some(true) => {}
                Some(false) => return Health::Unhealthy { why: probe.complaint(&state).into() },
                None => health = Health::Unknown,
            }
        }
        health
    }

    pub fn readings(&self) -> Vec<CheckReading> {
        self.probes.iter().map(|probe| probe.reading()).collect()
    }
}

/// What one check says of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckReading {
    pub check: String,
    pub endpoint: String,
    /// `None` while nobody knows.
    pub healthy: Option<bool>,
    pub failures_in_a_row: u32,
    /// What was wrong with the newest try, if anything was.
    pub failure: Option<String>,
    /// When the newest try ended.
    #[serde(skip)]
    pub checked_at: Option<SystemTime>,
}

/// One check of one endpoint.
pub struct Probe {
    check: HealthCheck,
    target: Arc<Target>,
    /// Index into the target's.
    endpoint: usize,
    state: Mutex<State>,
    /// Of a standing check: whom it tells, and which of the endpoint's checks it is.
    ward: Option<(Arc<Ward>, usize)>,
}

#[derive(Clone, Default)]
struct State {
    verdict: Option<bool>,
    failures: u32,
    successes: u32,
    why: Option<Arc<str>>,
    at: Option<SystemTime>,
}

impl Probe {
    fn new(check: HealthCheck, target: Arc<Target>, endpoint: usize) -> Self {
        Self { check, target, endpoint, state: Mutex::default(), ward: None }
    }

    fn endpoint(&self) -> &EndpointAddress {
        &self.target.endpoints[self.endpoint]
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each use replaces whole values, so a panic cannot leave it half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> State {
        self.lock().clone()
    }

    /// Asks again and again.
    pub(super) async fn run(&self, desk: &Desk) {
        let turns = if matches!(self.check.kind, CheckKind::Command(_)) { &desk.commands } else { &desk.checks };
        let Target { key, version, stable, .. } = &*self.target;
        let endpoint = self.endpoint().to_string();
        let values =
            [endpoint.as_str(), key.agent.as_str(), version.as_str(), stable.as_str(), key.environment.as_str()];
        let names: Vec<_> = NAMES.into_iter().zip(values).collect();
        loop {
            let turn = turns.acquire().await;
            let peer = Peer { address: self.endpoint(), tls: &self.target.tls, clients: &desk.clients };
            let result = check::once(&self.check, peer, &names).await;
            drop(turn);
            let result = match result {
                Ok(()) => Ok(()),
                Err(Trouble::Endpoint(why)) => Err(why),
                Err(Trouble::Ours) => {
                    tokio::time::sleep(self.check.interval).await;
                    continue;
                }
            };
            desk.counters.checked(result.is_ok());
            let changed = self.record(result);
            match &self.ward {
                Some((ward, place)) => ward.hear(*place, self.state().verdict),
                None if changed => desk.news.notify_one(),
                None => {}
            }
            tokio::time::sleep(self.check.interval).await;
        }
    }

    /// Whether that changes what is thought of the endpoint.
    fn record(&self, result: Result<(), String>) -> bool {
        let mut state = self.lock();
        let before = state.verdict;
        state.at = Some(SystemTime::now());
        match result {
            Ok(()) => {
                (state.failures, state.why) = (0, None);
                state.successes = state.successes.saturating_add(1);
                if state.verdict.is_none() || state.successes >= self.check.successes {
                    state.verdict = Some(true);
                }
            }
            Err(why) => {
                state.successes = 0;
                state.failures = state.failures.saturating_add(1);
                state.why = Some(why.into());
                if state.failures > self.check.retries {
                    state.verdict = Some(false);
                }
            }
        }
        let state = state.clone();
        let changed = state.verdict != before;
        if changed {
            self.log(&state);
        }
        changed
    }

    fn log(&self, state: &State) {
        let Target { key, version, .. } = &*self.target;
        let (check, endpoint) = (&self.check.kind, self.endpoint());
        if state.verdict == Some(true) {
            tracing::info!(
                environment = %key.environment, agent = %key.agent, %version, %check, %endpoint, "health check passes"
            );
        } else {
            tracing::warn!(
                environment = %key.environment, agent = %key.agent, %version, %check, %endpoint,
                why = state.why.as_deref(), failures = state.failures, "health check fails"
            );
        }
    }

    fn complaint(&self, state: &State) -> String {
        let why = state.why.as_deref().unwrap_or_default();
        let times = if state.failures > 1 { format!(" ({} times in a row)", state.failures) } else { String::new() };
        format!("{} at {}: {why}{times}", self.check.kind, self.endpoint())
    }

    fn reading(&self) -> CheckReading {
        let state = self.state();
        CheckReading {
            check: self.check.kind.to_string(),
            endpoint: self.endpoint().to_string(),
            healthy: state.verdict,
            failures_in_a_row: state.failures,
            failure: state.why.map(|why| why.to_string()),
            checked_at: state.at,
        }
    }
}

/// A text from outside as a part of a message: control characters and line ends become spaces.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
