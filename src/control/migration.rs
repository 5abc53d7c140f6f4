//! Conversations that go from one version to another: what was ordered, how far it has come, and how many may go
//! now. Pure; who moves them is [`super::keeper`].
//!
//! - A migration is for the conversations that were at `from` when it began. What the split sends there afterwards is
//!   not its business, or it would never end.
//! - A conversation with a response in flight is passed over, and taken once the response has ended.
//! - Time alone sets the pace, and goes on while the process is down. What had to wait is caught up with.
//! - Who has moved stays moved, however a migration ends.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::model::{Actor, AgentKey, Moment};
use crate::routing::ids::{VersionId, Weight};

mod check;
mod words;

pub use check::{MigrationRequest, RequestedMode, overdue};

/// How many ended migrations an agent remembers; the oldest goes first.
pub const MIGRATIONS_REMEMBERED: usize = 32;
/// The most conversations that one order may list.
pub const LISTED_MAX: usize = 1_000;
/// The shortest and the longest time between two shares of a gradual migration.
pub const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// The fastest pace; more is `immediate`.
pub const PER_SECOND_MAX: u32 = 100_000;

/// How long one that can go on waits at least until it does: for responses to end, for the next at its pace.
const PAUSE: Duration = Duration::from_millis(100);

/// Names one migration. Opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MigrationId(String);

impl MigrationId {
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Two of one agent between the same versions do not begin in one nanosecond: one runs at a time.
    pub fn make(key: &AgentKey, from: &VersionId, to: &VersionId, at: Moment) -> Self {
        let digest = Sha1::digest(serde_json::json!(["migration", key, from, to, at]).to_string());
        Self(digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was ordered, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    pub id: MigrationId,
    pub from: VersionId,
    pub to: VersionId,
    pub mode: Mode,
    pub by: Actor,
    pub reason: Option<String>,
    pub started: Moment,
    /// How many conversations it was for when it began.
    pub total: u64,
    pub progress: Progress,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// All that can go, now.
    Immediate,
    Gradual(Pace),
    /// These conversations only, by the hashes of their ids: the ids themselves are nobody's to keep.
    Manual {
        listed: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pace {
    PerSecond(u32),
    /// This share of all there were, at once and then after each `every`.
    Share {
        share: Weight,
        every: Duration,
    },
}

/// As the newest run has found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub moved: u64,
    /// Still to go, the busy ones among them.
    pub remaining: u64,
    /// With a response in flight.
    pub busy: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    Running,
    Completed { at: Moment },
    Cancelled { at: Moment, by: Actor, why: Option<String> },
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At most so many may go; `u64::MAX`: all.
    pub moves: u64,
    /// When to plan again, if it is not over then.
    pub again: Duration,
}

impl Mode {
    /// For the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Gradual(_) => "gradual",
            Self::Manual { .. } => "manual",
        }
    }

    /// How long all take at this pace; `None` where nothing but responses in flight is waited for.
    pub fn takes(&self, total: u64) -> Option<Duration> {
        match self {
            Self::Immediate | Self::Manual { .. } => None,
            Self::Gradual(pace) => Some(pace.takes(total)),
        }
    }
}

impl Pace {
    /// How many may have gone so long after the start.
    fn due(self, total: u64, elapsed: Duration) -> u64 {
        match self {
            // A float of this size is exact to far below one conversation.
            Self::PerSecond(rate) => (elapsed.as_secs_f64() * f64::from(rate)) as u64,
            Self::Share { share, every } => {
                let shares = 1 + elapsed.as_nanos() / every.as_nanos().max(1);
                let parts = u128::from(total) * u128::from(share.get()) * shares;
                u64::try_from(parts.div_ceil(u128::from(Weight::FULL.get()))).unwrap_or(u64::MAX)
            }
        }
    }

    fn takes(self, total: u64) -> Duration {
        match self {
            Self::PerSecond(rate) => Duration::from_secs_f64(total as f64 / f64::from(rate.max(1))),
            Self::Share { share, every } => {
                let shares = Weight::FULL.get().div_ceil(share.get().max(1));
                every.saturating_mul(shares.saturating_sub(1))
            }
        }
    }

    /// Until more may go.
    fn next(self, elapsed: Duration) -> Duration {
        match self {
            Self::PerSecond(rate) => Duration::from_secs(1) / rate.max(1),
            Self::Share { every, .. } => {
                let into = elapsed.as_nanos() % every.as_nanos().max(1);
                every.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)))
            }
        }
    }
}

impl Migration {
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// How many may go now, and when to ask again.
    pub fn plan(&self, now: Moment) -> Plan {
        let Mode::Gradual(pace) = self.mode else { return Plan { moves: u64::MAX, again: PAUSE } };
        let elapsed = now.since(self.started);
        let due = pace.due(self.total, elapsed);
        // All that it was for are due: whoever is left goes as well.
        let moves = if due >= self.total { u64::MAX } else { due.saturating_sub(self.progress.moved) };
        Plan { moves, again: pace.next(elapsed).max(PAUSE) }
    }

    /// Takes in what a run came to. True: it was the last one.
    pub fn ran(&mut self, moved: u64, remaining: u64, busy: u64, now: Moment) -> bool {
        self.progress = Progress { moved: self.progress.moved + moved, remaining, busy };
        if self.is_running() && remaining == 0 {
            self.state = State::Completed { at: now };
        }
        !self.is_running()
    }

    pub fn cancel(&mut self, by: Actor, why: Option<String>, now: Moment) {
        if self.is_running() {
            self.state = State::Cancelled { at: now, by, why };
        }
    }

    /// When the last one will have gone; `None` where that is not for time to say, or it is over.
    pub fn estimated_end(&self) -> Option<Moment> {
        self.is_running().then(|| self.started.checked_add(self.mode.takes(self.total)?)).flatten()
    }

    /// Of a list: those that were not at `from`.
    pub fn elsewhere(&self) -> Option<u64> {
        match &self.mode {
            Mode::Manual { listed } => Some((listed.len() as u64).saturating_sub(self.total)),
            _ => None,
        }
    }
}

impl State {
    /// For the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed { .. } => "completed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    pub fn ended(&self) -> Option<Moment> {
        match self {
            Self::Running => None,
            Self::Completed { at } | Self::Cancelled { at, .. } => Some(*at),
        }
    }
}

#[cfg(test)]
mod tests;
