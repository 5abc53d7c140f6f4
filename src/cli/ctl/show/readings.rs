//! What guards, queries and health checks say, each kind in a table of its own.

use super::{Cell, Style, Table, percent, seconds};
use crate::cli::ctl::wire::{CheckReading, Figures, QueryReading, Reading, Readings};

/// Never empty: where nothing is looking, it says so.
pub fn readings(readings: &Readings, style: Style) -> String {
    let tables = tables(readings, style);
    if readings.guards.is_empty() && readings.queries.is_empty() {
        let none = "no guard is looking: nothing is on trial, or the deployment has none\n";
        let gap = if tables.is_empty() { "" } else { "\n" };
        return format!("{none}{gap}{tables}");
    }
    tables
}

/// Those that have rows.
pub fn tables(readings: &Readings, style: Style) -> String {
    let tables = [guards(&readings.guards), queries(&readings.queries), checks(&readings.health)];
    let shown: Vec<_> = tables.iter().filter(|table| !table.is_empty()).map(|table| table.render(style)).collect();
    shown.join("\n")
}

fn guards(readings: &[Reading]) -> Table {
    let mut table = Table::new(["VERDICT", "EVIDENCE", "CANARY", "STABLE", "LIMIT", "BAD TO BREACH", "GUARD"]);
    for reading in readings {
        let figures = |figures: &Figures| self::figures(figures, &reading.unit);
        table.row([
            Cell::state(&reading.verdict),
            format!("{:.3}", reading.evidence).into(),
            figures(&reading.canary).into(),
            reading.stable.as_ref().map(figures).unwrap_or_default().into(),
            reading.limit.map(|limit| amount(limit, &reading.unit)).unwrap_or_default().into(),
            reading.bad_to_breach.map(|bad| bad.to_string()).unwrap_or_default().into(),
            Cell::from(&reading.explanation),
        ]);
    }
    table
}

fn queries(readings: &[QueryReading]) -> Table {
    let mut table = Table::new(["VERDICT", "EVIDENCE", "VALUE", "BAD IN A ROW", "PROMETHEUS GUARD"]);
    for reading in readings {
        table.row([
            Cell::state(&reading.verdict),
            format!("{:.3}", reading.evidence).into(),
            reading.value.map(|value| value.to_string()).unwrap_or_default().into(),
            reading.bad_in_a_row.to_string().into(),
            Cell::from(&reading.explanation),
        ]);
    }
    table
}

fn checks(readings: &[CheckReading]) -> Table {
    let mut table = Table::new(["HEALTH", "CHECK", "ENDPOINT", "FAILURES IN A ROW", "FAILURE"]);
    for reading in readings {
        table.row([
            Cell::state(reading.healthy.map_or("unknown", |healthy| if healthy { "healthy" } else { "unhealthy" })),
            Cell::from(&reading.check),
            Cell::from(&reading.endpoint),
            reading.failures_in_a_row.to_string().into(),
            Cell::from(reading.failure.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

/// `0.5% of 400 (0.1% to 2%)`.
fn figures(figures: &Figures, unit: &str) -> String {
    let Some(estimate) = figures.estimate else { return String::new() };
    let interval = figures.interval.map(|(low, high)| format!(" ({} to {})", amount(low, unit), amount(high, unit)));
    format!("{} of {}{}", amount(estimate, unit), figures.requests, interval.unwrap_or_default())
}

fn amount(figure: f64, unit: &str) -> String {
    match unit {
        "duration" => seconds(figure),
        "share" => percent(figure * 100.0),
        "tokens" => format!("{figure:.0} tokens"),
        _ => format!("{figure:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: serde_json::Value) -> String {
        readings(&serde_json::from_value(json).unwrap(), Style::of_stdout())
    }

    #[test]
    fn figures_stand_in_their_unit() {
        for (figure, unit, text) in [
            (0.05, "share", "5%"),
            (1.5, "duration", "1s 500ms"),
            (1_213.4, "tokens", "1213 tokens"),
            (0.05, "cost", "0.0500"),
        ] {
            assert_eq!(amount(figure, unit), text);
        }
    }

    #[test]
    fn every_kind_of_look_is_shown_and_none_is_said() {
        let queries = serde_json::json!([{ "verdict": "hold", "value": 0.25, "badInARow": 2, "evidence": 0.667,
            "explanation": "quality is 0.25, below 0.5" }]);
        let health = serde_json::json!([{ "check": "http /healthz", "endpoint": "10.0.0.1:80", "healthy": false,
            "failuresInARow": 3, "failure": "answered 503" }]);
        let both = shown(serde_json::json!({ "queries": queries, "health": health }));
        for words in ["0.667", "0.25", "quality is 0.25", "unhealthy", "http /healthz", "10.0.0.1:80", "answered 503"] {
            assert!(both.contains(words), "{words}: {both}");
        }
        assert!(!both.contains("no guard is looking"), "{both}");
        let checked = shown(serde_json::json!({ "health": health }));
        assert!(checked.starts_with("no guard is looking") && checked.contains("answered 503"), "{checked}");
        assert!(shown(serde_json::json!({})).starts_with("no guard is looking"));
    }
}
