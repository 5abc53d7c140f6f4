//! Rate limits for people.

use crate::cli::ctl::text::{Cell, NONE, Style, Table};
use crate::cli::ctl::wire::RateLimit;

/// Empty where there is none.
pub fn limits(limits: &[RateLimit], style: Style) -> String {
    if limits.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["LIMIT", "OF", "KEY", "SEGMENT", "REQUESTS/MIN", "TOKENS/MIN", "AT A TIME"]);
    for limit in limits {
        let key = if limit.key.is_empty() { "all together".to_owned() } else { limit.key.join(", ") };
        table.row([
            Cell::from(&limit.name),
            Cell::from(if limit.of_environment { "environment" } else { "agent" }),
            key.into(),
            limit.segment.as_deref().unwrap_or(NONE).into(),
            rate(limit.requests_per_minute, limit.request_burst).into(),
            rate(limit.tokens_per_minute, limit.token_burst).into(),
            limit.concurrent.map_or_else(|| NONE.to_owned(), |most| most.to_string()).into(),
        ]);
    }
    table.render(style)
}

fn rate(per_minute: Option<u64>, burst: Option<u64>) -> String {
    match (per_minute, burst) {
        (Some(rate), Some(burst)) => format!("{rate} ({burst} at once)"),
        _ => NONE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_one_line() {
        let limit = RateLimit {
            name: "free-plan".into(),
            key: vec!["jwt:sub".into(), "client_ip".into()],
            requests_per_minute: Some(20),
            request_burst: Some(3),
            concurrent: Some(2),
            ..RateLimit::default()
        };
        let shown = limits(&[limit], Style::of_stdout());
        let line: Vec<&str> =
            shown.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
        assert_eq!(line, ["free-plan", "agent", "jwt:sub, client_ip", NONE, "20 (3 at once)", NONE, "2"]);
        assert_eq!(limits(&[], Style::of_stdout()), "");
    }
}
