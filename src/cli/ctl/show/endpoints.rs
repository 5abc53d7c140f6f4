//! Endpoints that are not as they should be, for people.

use crate::cli::ctl::text::{Cell, NONE, Style, Table, seconds};
use crate::cli::ctl::wire::{Agent, Endpoint, StandingCheck};

/// Empty where every endpoint is in service.
pub fn troubled(agent: &Agent, style: Style) -> String {
    let mut table = Table::new(["VERSION", "ENDPOINT", "STATE", "FOR", "FAILURES", "EJECTIONS", "BECAUSE"]);
    for version in &agent.versions {
        let troubled = version.endpoint_states.iter().filter(|endpoint| !is_well(endpoint));
        for endpoint in troubled {
            table.row([
                Cell::from(&version.version),
                Cell::from(&endpoint.endpoint),
                Cell::state(&endpoint.state),
                endpoint.ejected_for_seconds.map_or(NONE.to_owned(), left).into(),
                endpoint.failures_in_a_row.to_string().into(),
                endpoint.ejections_in_a_row.to_string().into(),
                because(endpoint, &version.version, &agent.checks).into(),
            ]);
        }
    }
    if table.is_empty() { String::new() } else { table.render(style) }
}

/// Also of a server that tells no states.
fn is_well(endpoint: &Endpoint) -> bool {
    matches!(endpoint.state.as_str(), "" | "in_service")
}

fn left(left: f64) -> String {
    if left > 0.0 { seconds(left.ceil()) } else { "probe due".to_owned() }
}

/// What failed last: the requests that ejected it, or a check.
fn because(endpoint: &Endpoint, version: &str, checks: &[StandingCheck]) -> String {
    let failing = checks.iter().filter(|check| check.version == version && check.reading.endpoint == endpoint.endpoint);
    let failures = failing.filter(|check| check.reading.healthy == Some(false)).map(|check| {
        let failure = check.reading.failure.as_deref().unwrap_or("fails");
        format!("{}: {failure}", check.reading.check)
    });
    endpoint.reason.clone().into_iter().chain(failures).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_in_service_is_shown_with_what_is_wrong() {
        let states = json!([
            { "endpoint": "http://a:1", "state": "in_service" },
            { "endpoint": "http://b:1", "state": "ejected", "ejectedForSeconds": 11.2, "reason": "reset",
              "ejectionsInARow": 2 },
            { "endpoint": "http://c:1", "state": "ejected", "ejectedForSeconds": 0.0, "reason": "status" },
            { "endpoint": "http://d:1", "state": "unhealthy" },
        ]);
        let checks = json!([
            { "version": "1.0.0", "check": "GET /healthz", "endpoint": "http://d:1", "healthy": false,
              "failure": "status 500" },
            { "version": "1.0.0", "check": "tcp", "endpoint": "http://a:1", "healthy": true },
        ]);
        let versions = json!([{ "version": "1.0.0", "endpointStates": states }]);
        let agent: Agent = serde_json::from_value(json!({ "versions": versions, "checks": checks })).unwrap();
        let shown = troubled(&agent, Style::of_stdout());
        let lines: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines[1..],
            [
                "1.0.0 http://b:1 ejected 12s 0 2 reset",
                "1.0.0 http://c:1 ejected probe due 0 0 status",
                "1.0.0 http://d:1 unhealthy - 0 0 GET /healthz: status 500",
            ]
        );
        let older = json!({ "versions": [{ "version": "1.0.0", "endpoints": ["http://a:1"] }] });
        assert_eq!(troubled(&serde_json::from_value(older).unwrap(), Style::of_stdout()), "");
    }
}
