//! Moving conversations to another version: what is taken, and what is answered.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::command::FromBody;
use super::{ActorView, percent, time};
use crate::admin::body::Body;
use crate::admin::error::FieldError;
use crate::control::migration::{LISTED_MAX, Migration, MigrationRequest, Mode, Pace, RequestedMode, State};
use crate::control::model::AgentKey;
use crate::control::service;
use crate::routing::ids::{VersionId, Weight};

/// Which conversations go where, and how fast. With `perSecond`, or with `share` and `every`, they go gradually; with
/// `conversations` only those go; with none of these, all go at once.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MigrationBody {
    #[schemars(with = "String", required)]
    pub from: Option<String>,
    #[schemars(with = "String", required)]
    pub to: Option<String>,
    /// How many conversations go in a second.
    #[schemars(range(min = 1, max = 100_000))]
    pub per_second: Option<u32>,
    /// This share of them goes at once, and as much again after each `every`: such as `10%`.
    #[schemars(with = "Option<String>", regex(pattern = r"^(100|[0-9]{1,2})(\.[0-9]{1,3})?%$"))]
    pub share: Option<Weight>,
    /// From `1s` to `24h`.
    #[schemars(with = "Option<String>")]
    pub every: Option<Duration>,
    /// The ids of the conversations that go, as clients send them.
    #[schemars(length(min = 1, max = 1000))]
    pub conversations: Option<Vec<String>>,
    /// For the audit trail: at most 1,000 bytes.
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
}

impl FromBody for MigrationBody {
    fn read(body: &mut Body) -> Self {
        let read = Self {
            from: body.needed("from", "a version of the agent"),
            to: body.needed("to", "a version of the agent"),
            per_second: per_second(body),
            share: body.parsed("share", "a share such as `10%`"),
            every: body.parsed("every", "a time such as `1m`").map(|every: humantime::Duration| every.into()),
            conversations: conversations(body),
            reason: body.reason(),
        };
        let modes = [read.per_second.is_some(), read.share.is_some(), read.conversations.is_some()];
        if modes.iter().filter(|given| **given).count() > 1 {
            let message = "expected at most one of perSecond, share and conversations: each is another pace";
            body.also([FieldError::body("", message)]);
        }
        if read.share.is_some() != read.every.is_some() {
            let missing = if read.share.is_some() { "every" } else { "share" };
            body.refuse(missing, "is missing; `share` of the conversations goes after each `every`");
        }
        read
    }
}

fn per_second(body: &mut Body) -> Option<u32> {
    let rate = body.value("perSecond")?;
    let read = rate.as_u64().and_then(|rate| u32::try_from(rate).ok());
    if read.is_none() {
        body.refuse("perSecond", "expected a whole number");
    }
    read
}

fn conversations(body: &mut Body) -> Option<Vec<String>> {
    let texts = |value| match value {
        Value::Array(items) if items.len() <= LISTED_MAX => {
            let text = |item: Value| item.as_str().map(str::to_owned);
            items.into_iter().map(text).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    let read = texts(body.value("conversations")?);
    if read.is_none() {
        body.refuse("conversations", format!("expected a list of at most {LISTED_MAX} ids, which are texts"));
    }
    read
}

impl MigrationBody {
    /// `None`: the body was refused for it.
    pub fn request(self) -> Option<MigrationRequest> {
        let mode = match (self.per_second, self.share.zip(self.every), self.conversations) {
            (Some(rate), _, _) => RequestedMode::Gradual(Pace::PerSecond(rate)),
            (_, Some((share, every)), _) => RequestedMode::Gradual(Pace::Share { share, every }),
            (_, _, Some(ids)) => RequestedMode::Manual(ids),
            _ => RequestedMode::Immediate,
        };
        Some(MigrationRequest { from: VersionId::new(self.from?), to: VersionId::new(self.to?), mode })
    }
}

/// Conversations on their way from one version to another.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationView {
    pub id: String,
    pub agent: String,
    pub environment: String,
    pub from: String,
    pub to: String,
    /// `immediate`, `gradual` or `manual`.
    pub mode: &'static str,
    pub per_second: Option<u32>,
    pub share_percent: Option<f64>,
    pub every_seconds: Option<f64>,
    /// Of a list: how many of it were not at `from`.
    pub elsewhere: Option<u64>,
    /// `running`, `completed` or `cancelled`.
    pub state: &'static str,
    pub by: ActorView,
    pub reason: Option<String>,
    /// How many conversations there were to move when it began. Those that begin later are not moved.
    pub total: u64,
    pub moved: u64,
    /// Still to go; the busy ones among them. Conversations that end of themselves are in none of these.
    pub remaining: u64,
    /// With a response in flight: they go once it has ended.
    pub busy: u64,
    pub started_at: String,
    /// Of a gradual one that runs: when the last ones will have gone, unless responses in flight hold them.
    pub estimated_end: Option<String>,
    pub ended_at: Option<String>,
    /// Of one that was cancelled.
    pub cancelled_by: Option<ActorView>,
    /// Why it was cancelled.
    pub because: Option<String>,
}

impl MigrationView {
    pub fn new(key: &AgentKey, migration: &Migration) -> Self {
        let (per_second, share) = match &migration.mode {
            Mode::Gradual(Pace::PerSecond(rate)) => (Some(*rate), None),
            Mode::Gradual(Pace::Share { share, every }) => (None, Some((*share, *every))),
            Mode::Immediate | Mode::Manual { .. } => (None, None),
        };
        let cancelled = match &migration.state {
            State::Cancelled { by, why, .. } => Some((by, why)),
            State::Running | State::Completed { .. } => None,
        };
        Self {
            id: migration.id.to_string(),
            agent: key.agent.to_string(),
            environment: key.environment.to_string(),
            from: migration.from.to_string(),
            to: migration.to.to_string(),
            mode: migration.mode.as_str(),
            per_second,
            share_percent: share.map(|(share, _)| percent(share)),
            every_seconds: share.map(|(_, every)| every.as_secs_f64()),
            elsewhere: migration.elsewhere(),
            state: migration.state.as_str(),
            by: (&migration.by).into(),
            reason: migration.reason.clone(),
            total: migration.total,
            moved: migration.progress.moved,
            remaining: migration.progress.remaining,
            busy: migration.progress.busy,
            started_at: time(&migration.started),
            estimated_end: migration.estimated_end().as_ref().map(time),
            ended_at: migration.state.ended().as_ref().map(time),
            cancelled_by: cancelled.map(|(by, _)| by.into()),
            because: cancelled.and_then(|(_, why)| why.clone()),
        }
    }
}

/// What a command on a migration came to; or, with `dryRun`, would come to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationDone {
    /// Nothing was changed.
    pub dry_run: bool,
    /// For people: one line per thing that follows.
    pub changes: Vec<String>,
    pub migration: MigrationView,
}

impl MigrationDone {
    pub fn new(key: &AgentKey, done: &service::MigrationDone, dry_run: bool) -> Self {
        Self { dry_run, changes: done.changes.clone(), migration: MigrationView::new(key, &done.migration) }
    }
}
