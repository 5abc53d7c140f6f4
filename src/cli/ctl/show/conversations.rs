//! Conversations and migrations for people.

use std::fmt::Write as _;

use super::or_none;
use crate::cli::ctl::text::{Cell, NONE, Style, Table, age, pairs, percent, plain, seconds};
use crate::cli::ctl::wire::{Conversation, Conversations, Draining, Migration, MigrationDone};

pub fn migrations(migrations: &[Migration], style: Style) -> String {
    let mut table = Table::new(["ID", "FROM", "TO", "PACE", "STATE", "MOVED", "REMAINING", "STARTED", "BY"]);
    for migration in migrations {
        table.row([
            Cell::from(&migration.id),
            Cell::from(&migration.from),
            Cell::from(&migration.to),
            pace(migration).into(),
            Cell::state(&migration.state),
            migration.moved.to_string().into(),
            migration.remaining.to_string().into(),
            age(&migration.started_at).into(),
            Cell::from(&migration.by),
        ]);
    }
    or_none(&table, style, "no migrations")
}

pub fn migration(migration: &Migration) -> String {
    let mut lines = vec![
        ("migration", migration.id.clone()),
        ("agent", format!("{} ({})", migration.agent, migration.environment)),
        ("conversations", format!("{} → {}, {}", migration.from, migration.to, pace(migration))),
        ("state", migration.state.clone()),
        ("moved", format!("{} of {}", migration.moved, migration.total)),
        ("remaining", format!("{}, {} of them with a response in flight", migration.remaining, migration.busy)),
        ("started", format!("{}, {}", migration.started_at, age(&migration.started_at))),
    ];
    lines.extend(migration.estimated_end.as_ref().map(|end| ("ends about", end.clone())));
    lines.extend(migration.ended_at.as_ref().map(|end| ("ended", end.clone())));
    if !migration.by.is_empty() {
        lines.push(("by", migration.by.clone()));
    }
    lines.extend(migration.because.as_ref().map(|because| ("because", because.clone())));
    pairs(&lines)
}

fn pace(migration: &Migration) -> String {
    match (migration.per_second, migration.share_percent, migration.every_seconds) {
        (Some(rate), _, _) => format!("{rate} per second"),
        (_, Some(share), Some(every)) => format!("{} each {}", percent(share), seconds(every)),
        _ => migration.mode.clone(),
    }
}

pub fn done(done: &MigrationDone, dry_run: bool) -> String {
    let lead = if dry_run { "would: " } else { "" };
    let mut out: String = done.changes.iter().map(|change| format!("{lead}{}\n", plain(change))).collect();
    if !dry_run {
        let _ = writeln!(out, "migration {}: {}", plain(&done.migration.id), plain(&done.migration.state));
    } else if let Some(end) = &done.migration.estimated_end {
        let _ = writeln!(out, "would end about {}", plain(end));
    }
    out
}

pub fn conversations(all: &Conversations, style: Style) -> String {
    let mut table = Table::new(["VERSION", "CONVERSATIONS", "IN FLIGHT"]);
    for version in &all.versions {
        let figures = [version.conversations, version.in_flight].map(|figure| Cell::from(figure.to_string()));
        let [conversations, in_flight] = figures;
        table.row([Cell::from(&version.version), conversations, in_flight]);
    }
    let mut out = or_none(&table, style, "no conversations");
    let draining = draining(&all.draining, style);
    if !draining.is_empty() {
        let _ = write!(out, "\n{draining}");
    }
    let _ = write!(out, "\n{} of {} places are taken, by all agents together\n", all.pins, all.capacity);
    out
}

/// Empty where nothing drains.
pub fn draining(all: &[Draining], style: Style) -> String {
    let mut table = Table::new(["DRAINING", "CONVERSATIONS", "IN FLIGHT", "SINCE"]);
    for version in all {
        table.row([
            Cell::from(&version.version),
            version.conversations.to_string().into(),
            version.in_flight.to_string().into(),
            age(&version.since).into(),
        ]);
    }
    if table.is_empty() { String::new() } else { table.render(style) }
}

pub fn conversation(one: &Conversation, forgotten: bool) -> String {
    let version = if forgotten { format!("{}, until now", one.version) } else { one.version.clone() };
    let in_flight = if one.in_flight == 0 { NONE.to_owned() } else { one.in_flight.to_string() };
    pairs(&[
        ("agent", format!("{} ({})", one.agent, one.environment)),
        ("version", version),
        ("began", age(&one.created_at)),
        ("last used", age(&one.last_used_at)),
        ("in flight", in_flight),
    ])
}
