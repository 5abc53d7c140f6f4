//! Circuit breakers that are not closed, for people.

use crate::cli::ctl::text::{Cell, Style, Table};
use crate::cli::ctl::wire::Agent;

/// Empty where each lets its version have requests, or there is none.
pub fn tripped(agent: &Agent, style: Style) -> String {
    let mut table = Table::new(["VERSION", "CIRCUIT BREAKER", "OPENED", "IN FLIGHT"]);
    for version in &agent.versions {
        let Some(breaker) = version.circuit_breaker.as_ref().filter(|breaker| breaker.state != "closed") else {
            continue;
        };
        table.row([
            Cell::from(&version.version),
            Cell::state(&breaker.state),
            format!("{} times", breaker.opened).into(),
            breaker.concurrent.to_string().into(),
        ]);
    }
    if table.is_empty() { String::new() } else { table.render(style) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_closed_is_shown() {
        let versions = json!([
            { "version": "1.0.0", "circuitBreaker": { "state": "closed", "opened": 4, "concurrent": 9, "pending": 0 } },
            { "version": "1.1.0", "circuitBreaker": { "state": "half_open", "opened": 2, "concurrent": 1, "pending": 0 } },
            { "version": "1.2.0", "circuitBreaker": null },
            { "version": "1.3.0" },
        ]);
        let agent: Agent = serde_json::from_value(json!({ "versions": versions })).unwrap();
        let shown = tripped(&agent, Style::of_stdout());
        let lines: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1..], ["1.1.0 half_open 2 times 1"]);
    }
}
