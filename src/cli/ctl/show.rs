//! Answers of the API for people.

mod breakers;
pub mod conversations;
mod endpoints;
mod rates;
mod readings;

use std::fmt::Write as _;

use super::text::{Cell, Colour, NONE, Style, Table, age, elapsed, pairs, percent, plain, seconds};
use super::wire;
use super::wire::{Agent, Deployment, Done, Event, Explanation, Record, RollbackPoint, Version};

pub use readings::readings;
use readings::tables;

pub fn agents(agents: &[Agent], style: Style) -> String {
    let mut table = Table::new(["AGENT", "ENVIRONMENT", "STABLE", "DEPLOYMENT", "STATE", "SHARE", "SINCE"]);
    for agent in agents {
        let place = [&agent.agent, &agent.environment, &agent.stable].map(Cell::from);
        let [name, environment, stable] = place;
        let [version, state, share, since] = match &agent.deployment {
            None => [NONE; 4].map(Cell::from),
            Some(deployment) => [
                Cell::from(&deployment.version),
                Cell::state(&deployment.state),
                percent(deployment.weight_percent).into(),
                age(&deployment.since).into(),
            ],
        };
        table.row([name, environment, stable, version, state, share, since]);
    }
    or_none(&table, style, "no agents")
}

pub fn agent(agent: &Agent, style: Style) -> String {
    let by = agent.stable_by.as_ref().filter(|by| !by.by.is_empty());
    let stable = by.map_or_else(|| agent.stable.clone(), |by| format!("{}, by {}", agent.stable, by.by));
    let mut out = pairs(&[
        ("agent", format!("{} ({})", agent.agent, agent.environment)),
        ("stable", stable),
        ("revision", agent.revision.to_string()),
    ]);
    out.push('\n');
    out.push_str(&versions(&agent.versions, style));
    let limits = rates::limits(&agent.rate_limits, style);
    if !limits.is_empty() {
        out.push('\n');
        out.push_str(&limits);
    }
    let troubled = endpoints::troubled(agent, style);
    if !troubled.is_empty() {
        out.push('\n');
        out.push_str(&troubled);
    }
    let tripped = breakers::tripped(agent, style);
    if !tripped.is_empty() {
        out.push('\n');
        out.push_str(&tripped);
    }
    let draining = conversations::draining(&agent.draining, style);
    if !draining.is_empty() {
        out.push('\n');
        out.push_str(&draining);
    }
    if let Some(shown) = &agent.deployment {
        out.push('\n');
        out.push_str(&deployment(shown, style));
    }
    out
}

pub fn versions(versions: &[Version], style: Style) -> String {
    let mut table = Table::new(["VERSION", "SHARE", "BUCKETS", "ENDPOINTS"]);
    for version in versions {
        let endpoints = version.endpoints.join(" ");
        table.row([
            Cell::from(&version.version),
            percent(version.weight_percent).into(),
            ranges(version).into(),
            endpoints.into(),
        ]);
    }
    table.render(style)
}

pub fn deployment(deployment: &Deployment, style: Style) -> String {
    let mut lines = vec![
        ("deployment", deployment.id.clone()),
        ("version", format!("{} ({})", deployment.version, deployment.strategy)),
        ("state", state(deployment)),
    ];
    if !deployment.by.is_empty() {
        lines.push(("by", deployment.by.clone()));
    }
    lines.push(("started", format!("{}, {}", deployment.started_at, age(&deployment.started_at))));
    lines.push(("steps", steps(deployment)));
    lines.push(("requests", cost(deployment.requests, deployment.errors)));
    if deployment.streams > 0 {
        lines.push(("streams", cost(deployment.streams, deployment.stream_errors)));
    }
    if deployment.input_tokens + deployment.output_tokens > 0 {
        lines.push(("tokens", tokens(deployment)));
    }
    if let Some(rollback) = &deployment.rollback {
        lines.push(("rolled back", format!("{} from {}", rollback.at, percent(rollback.weight_percent))));
    }
    if let Some(why) = why(deployment) {
        lines.push(("because", why));
    }
    let mut out = pairs(&lines);
    let readings = tables(&deployment.readings, style);
    if !readings.is_empty() {
        out.push('\n');
        out.push_str(&readings);
    }
    out
}

/// What ended or stopped it.
pub fn why(deployment: &Deployment) -> Option<String> {
    let rollback = deployment.rollback.as_ref().map(|rollback| &rollback.cause);
    let cause = rollback.or(deployment.pause.as_ref()).or(deployment.ended.as_ref())?;
    let who = if cause.by.is_empty() { &cause.cause } else { &cause.by };
    let parts = [Some(who.as_str()), cause.reason.as_deref()];
    let said: Vec<_> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    (!said.is_empty()).then(|| said.join(": "))
}

/// `running, step 2 of 4, 5%`.
fn stage(deployment: &Deployment) -> String {
    let step = deployment.step.map(|step| format!(", step {step} of {}", deployment.steps.len()));
    format!("{}{}, {}", deployment.state, step.unwrap_or_default(), percent(deployment.weight_percent))
}

/// `running, step 2 of 4, 5%, for 3m`.
fn state(deployment: &Deployment) -> String {
    let elapsed = elapsed(&deployment.since).map(|elapsed| format!(", for {elapsed}"));
    let until = deployment.until.as_ref().map(|until| format!(", until {until}"));
    format!("{}{}{}", stage(deployment), elapsed.unwrap_or_default(), until.unwrap_or_default())
}

/// `1%:10m,5%:30m,100%, bake 1h`, as `ctl deploy --steps` takes them.
fn steps(deployment: &Deployment) -> String {
    let step = |step: &super::wire::Step| {
        let share = percent(step.weight_percent);
        step.hold_seconds.map_or(share.clone(), |hold| format!("{share}:{}", seconds(hold).replace(' ', "")))
    };
    let steps: Vec<_> = deployment.steps.iter().map(step).collect();
    let bake = if deployment.bake_seconds > 0.0 {
        format!(", bake {}", seconds(deployment.bake_seconds))
    } else {
        String::new()
    };
    format!("{}{bake}", steps.join(","))
}

/// What is known of no price costs nothing, and says so by saying nothing.
fn tokens(deployment: &Deployment) -> String {
    let cost = if deployment.cost > 0.0 { format!(", for {:.4}", deployment.cost) } else { String::new() };
    format!("{} in, {} out{cost}", deployment.input_tokens, deployment.output_tokens)
}

pub fn cost(requests: u64, errors: u64) -> String {
    if requests == 0 {
        return "none".to_owned();
    }
    let share = errors as f64 / requests as f64 * 100.0;
    format!("{requests}, {errors} of them errors ({})", percent(share))
}

pub fn deployments(deployments: &[Deployment], style: Style) -> String {
    let mut table = Table::new(["ID", "VERSION", "STRATEGY", "STATE", "SHARE", "STARTED", "BY", "BECAUSE"]);
    for deployment in deployments {
        table.row([
            Cell::from(&deployment.id),
            Cell::from(&deployment.version),
            Cell::from(&deployment.strategy),
            Cell::state(&deployment.state),
            percent(deployment.weight_percent).into(),
            age(&deployment.started_at).into(),
            Cell::from(&deployment.by),
            why(deployment).unwrap_or_default().into(),
        ]);
    }
    or_none(&table, style, "no deployments")
}

fn or_none(table: &Table, style: Style, none: &str) -> String {
    if table.is_empty() { format!("{none}\n") } else { table.render(style) }
}

/// What a command came to.
pub fn done(done: &Done, dry_run: bool, style: Style) -> String {
    let mut out = changes(&done.changes, dry_run);
    if let Some(deployment) = &done.deployment {
        let _ = writeln!(
            out,
            "{} {} in {}: {}",
            plain(&deployment.agent),
            plain(&deployment.version),
            plain(&deployment.environment),
            style.paint(Colour::of(&deployment.state), &plain(&state(deployment)))
        );
    }
    out
}

pub fn emergency(done: &[Done], dry_run: bool, style: Style) -> String {
    let agents = done.iter().map(|agent| self::done(agent, dry_run, style));
    let text: String = agents.collect();
    if text.is_empty() { "no agent had anything to roll back\n".to_owned() } else { text }
}

fn changes(changes: &[String], dry_run: bool) -> String {
    let lead = if dry_run { "would: " } else { "" };
    let lines: String = changes.iter().map(|change| format!("{lead}{}\n", plain(change))).collect();
    if lines.is_empty() { format!("nothing {}changed\n", if dry_run { "would be " } else { "" }) } else { lines }
}

/// What changes only when something happened.
pub fn progress(deployment: &Deployment) -> String {
    let why = why(deployment).map(|why| format!(": {why}"));
    format!("{}{}", stage(deployment), why.unwrap_or_default())
}

pub fn table(table: &wire::Table, environment: Option<&str>, style: Style) -> String {
    let mut rows = Table::new(["ENVIRONMENT", "AGENT", "VERSION", "SHARE", "BUCKETS", "ENDPOINTS"]);
    let wanted = |agent: &&Agent| environment.is_none_or(|environment| agent.environment == environment);
    for agent in table.agents.iter().filter(wanted) {
        for version in &agent.versions {
            rows.row([
                Cell::from(&agent.environment),
                Cell::from(&agent.agent),
                Cell::from(&version.version),
                percent(version.weight_percent).into(),
                ranges(version).into(),
                version.endpoints.join(" ").into(),
            ]);
        }
    }
    format!(
        "epoch {}, configuration {}\n\n{}",
        table.epoch,
        plain(&table.config_hash),
        or_none(&rows, style, "no agents")
    )
}

fn ranges(version: &Version) -> String {
    let ranges = version.bucket_ranges.iter().map(|range| format!("{}..={}", range.start, range.end));
    ranges.collect::<Vec<_>>().join(" ")
}

/// As `pointsman explain` shows it of a file.
pub fn explanation(explanation: &Explanation) -> String {
    let key = match (&explanation.key, &explanation.key_source) {
        (Some(key), Some(source)) => format!("{key} ({source})"),
        _ => "none".to_owned(),
    };
    let mut lines = vec![("agent", format!("{} ({})", explanation.agent, explanation.environment)), ("key", key)];
    lines.extend(explanation.bucket.map(|bucket| ("bucket", format!("{bucket} of 100000"))));
    lines.push(("version", explanation.version.clone()));
    lines.push(("reason", format!("{}: {}", explanation.reason, explanation.because)));
    let notes = [&explanation.stable_by, &explanation.deployment].into_iter().flatten();
    lines.extend(notes.map(|note| ("note", note.clone())));
    let range = |range: &wire::Range| ("split", format!("{:>6}..={:<6} {}", range.start, range.end, range.version));
    lines.extend(explanation.ranges.iter().map(range));
    pairs(&lines)
}

pub fn rollback_points(points: &[RollbackPoint], style: Style) -> String {
    let mut table = Table::new(["POINT", "VERSION", "STABLE SINCE", "UNTIL", "BY"]);
    for point in points {
        table.row([
            Cell::from(&point.id),
            Cell::from(&point.version),
            age(&point.at).into(),
            age(&point.until).into(),
            Cell::from(&point.by),
        ]);
    }
    or_none(&table, style, "nothing to roll back to")
}

pub fn audit(records: &[Record], style: Style) -> String {
    let mut table = Table::new(["SEQUENCE", "AT", "WHO", "ENVIRONMENT", "AGENT", "COMMAND", "REASON"]);
    for record in records {
        table.row([
            record.sequence.to_string().into(),
            Cell::from(&record.at),
            Cell::from(&record.actor),
            Cell::from(&record.environment),
            Cell::from(&record.agent),
            Cell::from(&record.command),
            Cell::from(record.reason.as_deref().unwrap_or_default()),
        ]);
    }
    or_none(&table, style, "no records")
}

/// One line.
pub fn event(event: &Event, style: Style) -> String {
    let what = style.paint(Colour::of(&event.what), &plain(&event.what));
    if let Some(detail) = &event.detail {
        return format!("{what}: {}", plain(detail));
    }
    let place = format!("{}/{}", event.environment, event.agent);
    let why = event.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
    let told = format!("{} at {}, by {}{why}", event.version, percent(event.weight_percent), event.by);
    format!("{}  {}  {what}  {}", plain(&event.at), plain(&place), plain(&told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_says_who_made_stable_what_it_is_and_whose_the_deployment_is() {
        let json = serde_json::json!({ "agent": "bot", "version": "1.0.0", "reason": "bucket",
            "stableBy": "1.0.0 is stable by ada", "deployment": "2.0.0 has 5% by bob" });
        let shown = explanation(&serde_json::from_value(json).unwrap());
        for note in ["note     1.0.0 is stable by ada\n", "note     2.0.0 has 5% by bob\n"] {
            assert!(shown.contains(note), "{note}: {shown}");
        }
    }
}
