//! Guards that ask a Prometheus server: a query, a limit, an interval.
//!
//! - The answer must be one number: a scalar, or a vector of one series. Anything else is *no data*, as is a
//!   server that cannot be reached: shown, counted and logged once, but never a breach and never a pass.
//! - A guard breaks on `failures` bad values in a row; what is no data neither counts nor interrupts. A breach is
//!   kept until the deployment goes on after it, so that no look can miss it.
//! - A step passes on an answer to a query that was sent after the step began.
//!
//! Bounds: one query at a time per guard, [`BODY_LIMIT`] of an answer, the server's time-out for each.

mod answer;
mod spec;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

pub use answer::NoData;
pub use spec::{FAILURES, INTERVALS, NAMES, PrometheusServer, QueryGuard, QueryLimit};

use super::errands::{Desk, Errand, Errands, Work};
use super::model::{AgentKey, Moment};
use super::template;
use crate::judge::Verdict;
use crate::routing::ids::VersionId;
use crate::telemetry::outside::QueryResult;
use crate::tls::client::Clients;

/// A longer answer is no data.
pub const BODY_LIMIT: usize = 1 << 20;

/// The server that is asked now; a reload may put another in its place.
pub type SharedServer = Arc<ArcSwapOption<PrometheusServer>>;

/// The query guards of one deployment on trial. The queries end when it is dropped.
pub struct Queries {
    queries: Vec<Arc<Query>>,
    errands: Errands,
}

impl Queries {
    pub fn new(
        guards: &[QueryGuard],
        key: &AgentKey,
        version: &VersionId,
        stable: &VersionId,
        server: &SharedServer,
        now: Moment,
    ) -> Self {
        let query = |guard: &QueryGuard| {
            let interval = humantime::format_duration(guard.interval).to_string().replace(' ', "");
            let values = [key.agent.as_str(), version.as_str(), stable.as_str(), key.environment.as_str(), &interval];
            let names: Vec<_> = NAMES.into_iter().zip(values).collect();
            Arc::new(Query {
                guard: guard.clone(),
                text: template::fill(&guard.query, &names),
                server: server.clone(),
                of: (key.clone(), version.clone()),
                state: Mutex::new(State { judged_from: now.instant, newest: None, bad_in_a_row: 0, breach: None }),
            })
        };
        let queries: Vec<_> = guards.iter().map(query).collect();
        let errands = Errands::new(queries.iter().cloned().map(Work::Query));
        Self { queries, errands }
    }

    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Queries that have not begun.
    pub fn errands(&mut self) -> impl Iterator<Item = Errand> {
        self.errands.take()
    }

    /// One per guard, in the guards' order.
    pub fn readings(&self) -> Vec<QueryReading> {
        self.queries.iter().map(|query| query.reading()).collect()
    }

    pub fn verdict(&self) -> Verdict {
        Verdict::all(self.queries.iter().map(|query| query.lock().verdict(&query.guard)))
    }

    /// The reading that broke a guard, as it was then.
    pub fn breach(&self) -> Option<Arc<QueryReading>> {
        self.queries.iter().find_map(|query| query.lock().breach.clone())
    }

    /// A step begins: what was asked before says nothing of it.
    pub fn step_started(&self, now: Moment) {
        self.queries.iter().for_each(|query| query.lock().judged_from = now.instant);
    }

    /// The breach has had its effect: whether to go on is for later answers to say.
    pub fn start_anew(&self, now: Moment) {
        for query in &self.queries {
            let mut state = query.lock();
            (state.judged_from, state.bad_in_a_row, state.breach) = (now.instant, 0, None);
        }
    }
}

/// What the server says of one guard, and what follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryReading {
    pub guard: QueryGuard,
    /// As it is sent.
    pub query: String,
    pub verdict: Verdict,
    /// The newest; `None` when the newest answer was no data. JSON has no infinity and shows `null` for it.
    pub value: Option<f64>,
    /// Why there is none.
    pub no_data: Option<String>,
    pub bad_in_a_row: u32,
    /// Grows towards 1; a breach at 1.
    pub evidence: f64,
    /// One sentence for people.
    pub explanation: String,
    #[serde(skip)]
    pub answered_at: Option<SystemTime>,
}

/// One guard's query.
pub struct Query {
    guard: QueryGuard,
    /// With its names filled in.
    text: String,
    server: SharedServer,
    of: (AgentKey, VersionId),
    state: Mutex<State>,
}

struct State {
    /// Answers to what was asked before this say nothing.
    judged_from: Instant,
    newest: Option<Answered>,
    bad_in_a_row: u32,
    breach: Option<Arc<QueryReading>>,
}

struct Answered {
    asked: Instant,
    at: SystemTime,
    answer: Result<f64, NoData>,
}

impl State {
    fn verdict(&self, guard: &QueryGuard) -> Verdict {
        if self.breach.is_some() {
            return Verdict::Breach;
        }
        match &self.newest {
            Some(Answered { asked, answer: Ok(value), .. })
                if *asked >= self.judged_from && !guard.limit.is_broken_by(*value) =>
            {
                Verdict::Pass
            }
            _ => Verdict::Hold,
        }
    }
}

impl Query {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is done under it cannot panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again and again.
    pub(super) async fn run(&self, desk: &Desk) {
        loop {
            let turn = desk.queries.acquire().await;
            let asked = Moment::now();
            let answer = self.ask(&desk.clients).await;
            drop(turn);
            desk.counters.queried(answer.as_ref().map_or_else(NoData::result, |_| QueryResult::Value));
            self.record(asked.instant, answer);
            desk.news.notify_one();
            tokio::time::sleep(self.guard.interval).await;
        }
    }

    async fn ask(&self, clients: &Clients) -> Result<f64, NoData> {
        // By clone and not by guard: a reload must not wait for an answer.
        let Some(server) = self.server.load_full() else { return Err(NoData::NoServer) };
        answer::ask(&server, clients, &self.text).await
    }

    fn record(&self, asked: Instant, answer: Result<f64, NoData>) {
        let mut state = self.lock();
        let before = state.newest.as_ref().and_then(|newest| newest.answer.as_ref().err()).map(NoData::result);
        self.log(before, &answer);
        if let (Ok(value), true) = (&answer, asked >= state.judged_from) {
            let bad = self.guard.limit.is_broken_by(*value);
            state.bad_in_a_row = if bad { state.bad_in_a_row.saturating_add(1) } else { 0 };
        }
        state.newest = Some(Answered { asked, at: SystemTime::now(), answer });
        if state.breach.is_none() && state.bad_in_a_row >= self.guard.failures {
            let reading = QueryReading { verdict: Verdict::Breach, ..self.reading_of(&state) };
            state.breach = Some(Arc::new(self.explained(reading)));
        }
    }

    /// Once when data ends or its lack has another reason, and once when it comes back.
    fn log(&self, before: Option<QueryResult>, answer: &Result<f64, NoData>) {
        let (AgentKey { environment, agent }, version) = &self.of;
        let guard = self.guard.label();
        match answer {
            Err(why) if before != Some(why.result()) => tracing::warn!(
                %environment, %agent, %version, guard, query = self.text, %why,
                "Prometheus guard has no data: it neither breaks nor passes"
            ),
            Ok(value) if before.is_some() => {
                tracing::info!(%environment, %agent, %version, guard, value, "Prometheus guard has data again");
            }
            _ => {}
        }
    }

    fn reading(&self) -> QueryReading {
        let reading = self.reading_of(&self.lock());
        self.explained(reading)
    }

    fn reading_of(&self, state: &State) -> QueryReading {
        let newest = state.newest.as_ref().map(|newest| &newest.answer);
        QueryReading {
            guard: self.guard.clone(),
            query: self.text.clone(),
            verdict: state.verdict(&self.guard),
            value: newest.and_then(|answer| answer.as_ref().ok()).copied(),
            no_data: match newest {
                None => Some("there is no answer yet".into()),
                Some(Err(why)) => Some(why.to_string()),
                Some(Ok(_)) => None,
            },
            bad_in_a_row: state.bad_in_a_row,
            evidence: f64::from(state.bad_in_a_row) / f64::from(self.guard.failures.max(1)),
            explanation: String::new(),
            answered_at: state.newest.as_ref().map(|newest| newest.at),
        }
    }

    fn explained(&self, mut reading: QueryReading) -> QueryReading {
        let figure = match (&reading.value, &reading.no_data) {
            (Some(value), _) => value.to_string(),
            (None, why) => format!("no data, for {}", why.as_deref().unwrap_or_default()),
        };
        let streak = format!("{} of {} bad answers in a row", reading.bad_in_a_row, self.guard.failures);
        let follows = match reading.verdict {
            Verdict::Breach => format!("{streak}; breach"),
            Verdict::Pass => "holds".to_owned(),
            Verdict::Hold if reading.bad_in_a_row > 0 => streak,
            Verdict::Hold if reading.value.is_some() => "asked before this step began".to_owned(),
            Verdict::Hold => "neither breaks nor passes".to_owned(),
        };
        reading.explanation = format!("{}: {figure}; {follows}", self.guard);
        reading
    }
}

/// How long a server may take to answer by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
