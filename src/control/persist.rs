//! Control's state as documents, and back.
//!
//! | key | what it holds |
//! | --- | --- |
//! | `agents/{environment}/{agent}` | all that is remembered of an agent |
//! | `layouts/{environment}/{agent}` | whose the buckets of its standing split are |
//! | `instance` | how often this state was taken up |
//! | `migrations/{environment}/{agent}/{id}` | one migration of conversations |
//!
//! Where conversations stand is [`super::checkpoint`]'s.
//!
//! Names have no `/` in them, so keys say what they are of. Times are wall time ([`super::model::Moment`]).

use std::collections::{BTreeMap, VecDeque};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::agent::{AgentRollout, AgentState};
use super::audit::Entry;
use super::change::Change;
use super::command::Order;
use super::migration::{Migration, MigrationId, Mode};
use super::model::{Actor, AgentKey, Breach, DeploymentId, Moment};
use super::store::{Document, Documents, StoreError};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId};
use crate::routing::layout::{Layout, Layouts};
use crate::routing::pin::PinKey;
use crate::routing::table::RoutingTable;

const AGENTS: &str = "agents/";
const LAYOUTS: &str = "layouts/";
const MIGRATIONS: &str = "migrations/";
const INSTANCE: &str = "instance";

/// How many documents are read at once.
const PAGE: usize = 1_000;

/// A document to write; `None`: to remove.
pub type Written = (String, Option<Vec<u8>>);

/// What earlier processes left.
#[derive(Debug, Default)]
pub struct Kept {
    pub agents: BTreeMap<AgentKey, AgentState>,
    pub layouts: Layouts,
    /// Of each agent, the oldest first.
    pub migrations: BTreeMap<AgentKey, VecDeque<Migration>>,
    /// How often the state was taken up before.
    pub starts: u64,
    /// In which start each current deployment began.
    pub begun_in: BTreeMap<DeploymentId, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentDocument<S> {
    state: S,
    /// The start in which the current deployment began: what is judged anew after a restart has to know.
    begun_in: u64,
}

#[derive(Serialize, Deserialize)]
struct Instance {
    starts: u64,
}

/// Reads everything. A document that cannot be understood is an error that names it: state is never guessed.
pub fn load(store: &dyn Documents) -> Result<Kept, StoreError> {
    let mut kept = Kept::default();
    each(store, AGENTS, |key, document: AgentDocument<AgentState>| {
        if let Some(deployment) = &document.state.deployment {
            kept.begun_in.insert(deployment.id.clone(), document.begun_in);
        }
        kept.agents.insert(key, document.state);
    })?;
    each(store, LAYOUTS, |AgentKey { environment, agent }, layout: Layout| {
        kept.layouts.insert((environment, agent), layout);
    })?;
    each(store, MIGRATIONS, |key, migration: Migration| kept.migrations.entry(key).or_default().push_back(migration))?;
    for migrations in kept.migrations.values_mut() {
        migrations.make_contiguous().sort_by_key(|migration| migration.started.wall);
    }
    if let Some(document) = store.get(INSTANCE)? {
        kept.starts = parse::<Instance>(INSTANCE, &document)?.starts;
    }
    Ok(kept)
}

fn each<T: DeserializeOwned>(
    store: &dyn Documents,
    prefix: &str,
    mut take: impl FnMut(AgentKey, T),
) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let page = store.range(prefix, after.as_deref(), PAGE)?;
        for (key, document) in &page {
            let mut parts = key.strip_prefix(prefix).unwrap_or_default().split('/');
            let named = parts.next().zip(parts.next());
            let (environment, agent) = named.ok_or_else(|| broken(key, "names no agent"))?;
            let (environment, agent) = (EnvironmentId::new(environment), AgentId::new(agent));
            take(AgentKey { environment, agent }, parse(key, document)?);
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}

fn parse<T: DeserializeOwned>(key: &str, document: &Document) -> Result<T, StoreError> {
    serde_json::from_slice(&document.value).map_err(|error| broken(key, error))
}

fn broken(key: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the stored document {key} cannot be read ({why}): is it of another release?"))
}

pub fn instance(starts: u64) -> Written {
    (INSTANCE.to_owned(), Some(json(&Instance { starts })))
}

pub fn agent(rollout: &AgentRollout, begun_in: u64) -> Written {
    let document = AgentDocument { state: &rollout.state, begun_in };
    (name(AGENTS, &rollout.key()), Some(json(&document)))
}

pub fn forgotten(key: &AgentKey) -> Written {
    (name(AGENTS, key), None)
}

pub fn migration(key: &AgentKey, migration: &Migration) -> Written {
    (name_of_migration(key, &migration.id), Some(json(migration)))
}

pub fn forgotten_migration(key: &AgentKey, id: &MigrationId) -> Written {
    (name_of_migration(key, id), None)
}

fn name_of_migration(key: &AgentKey, id: &MigrationId) -> String {
    format!("{}/{id}", name(MIGRATIONS, key))
}

/// What is to be kept of a table: the layouts of its standing splits. Deployments are laid out the same everywhere.
pub fn layouts(table: &RoutingTable) -> Layouts {
    let standing = table.agents.iter().filter(|agent| agent.spec.split.is_some());
    let named = standing
        .filter_map(|agent| Some(((agent.spec.environment.clone(), agent.spec.id.clone()), Layout::of(agent)?)));
    named.collect()
}

/// What makes `before` into `after`.
pub fn changed_layouts(before: &Layouts, after: &Layouts) -> Vec<Written> {
    let key = |(environment, agent): &(EnvironmentId, AgentId)| {
        name(LAYOUTS, &AgentKey { environment: environment.clone(), agent: agent.clone() })
    };
    let new = after.iter().filter(|(name, layout)| before.get(*name) != Some(*layout));
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    new.map(|(name, layout)| (key(name), Some(json(layout)))).chain(gone.map(|name| (key(name), None))).collect()
}

fn name(prefix: &str, AgentKey { environment, agent }: &AgentKey) -> String {
    format!("{prefix}{environment}/{agent}")
}

/// These types are text, numbers, and maps with text keys: nothing in them can fail to be JSON.
fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("is JSON")
}

/// The audit's record of a change.
pub fn record(change: &Change, at: Moment) -> Entry {
    let evidence: Option<&Breach> = change.evidence();
    Entry {
        before: change.before.as_ref().map_or(Value::Null, |before| facts(&before.state)),
        after: facts(&change.after.state),
        evidence: json!(evidence),
        reason: change.reason.clone(),
        ..of(change.by.clone(), Some(&change.key()), change.command, at)
    }
}

/// The record that an agent is no longer in the file.
pub fn record_forgotten(by: Actor, key: &AgentKey, before: &AgentState, at: Moment) -> Entry {
    Entry { before: facts(before), ..of(by, Some(key), "remove", at) }
}

/// The record that the state was taken up.
pub fn record_start(by: Actor, starts: u64, at: Moment) -> Entry {
    Entry { after: json!({ "starts": starts }), ..of(by, None, "start", at) }
}

/// The record that a migration began or ended.
pub fn record_migration(
    key: &AgentKey,
    command: &str,
    order: &Order,
    before: Option<&Migration>,
    after: &Migration,
    at: Moment,
) -> Entry {
    let facts = |migration: &Migration| {
        let Migration { id, from, to, mode, total, progress, state, .. } = migration;
        // Of a list, how many it has is enough.
        let pace = if let Mode::Gradual(pace) = mode { json!(pace) } else { Value::Null };
        json!({
            "id": id,
            "from": from,
            "to": to,
            "mode": mode.as_str(),
            "pace": pace,
            "total": total,
            "progress": progress,
            "state": state,
        })
    };
    Entry {
        before: before.map_or(Value::Null, facts),
        after: facts(after),
        reason: order.reason.clone(),
        ..of(order.by.clone(), Some(key), command, at)
    }
}

/// The record that an operator made the instance forget where a conversation is held. Its id is not told: it may say
/// who somebody is.
pub fn record_unpin(key: &AgentKey, pin: PinKey, version: &VersionId, order: &Order, at: Moment) -> Entry {
    let before = json!({ "conversation": format!("{:032x}", pin.to_u128()), "version": version });
    Entry { before, reason: order.reason.clone(), ..of(order.by.clone(), Some(key), "unpin", at) }
}

fn of(actor: Actor, key: Option<&AgentKey>, command: &str, at: Moment) -> Entry {
    Entry {
        at: at.wall,
        actor,
        environment: key.map(|key| key.environment.to_string()),
        agent: key.map(|key| key.agent.to_string()),
        command: command.to_owned(),
        reason: None,
        before: Value::Null,
        after: Value::Null,
        evidence: Value::Null,
    }
}

/// The record that a change was written, and then overtaken by a more urgent one: it is not in effect.
pub fn record_overtaken(change: &Change, now: &AgentState, at: Moment) -> Entry {
    let before = facts(&change.after.state);
    Entry { before, after: facts(now), ..of(Actor::pointsman(), Some(&change.key()), "overtaken", at) }
}

/// What an auditor wants of an agent's state.
fn facts(state: &AgentState) -> Value {
    let deployment = state.deployment.as_ref().map(|deployment| {
        json!({
            "id": deployment.id,
            "version": deployment.spec.version,
            "strategy": deployment.spec.strategy,
            "weight": deployment.weight().to_string(),
            "state": deployment.state,
        })
    });
    json!({ "stable": state.stable.version, "deployment": deployment })
}
