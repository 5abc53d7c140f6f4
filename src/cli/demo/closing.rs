//! How the demo ends: what the bad version cost, and where to look on.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::traffic::USERS;
use super::{CANARY, STABLE};
use crate::control::model::{Rollback, RollbackCause};

/// Why the canary left, in one sentence.
pub fn verdict(rollback: &Rollback) -> String {
    let why = match &rollback.cause {
        RollbackCause::Guard(breach) => breach.explanation().to_owned(),
        RollbackCause::Operator { by, .. } => format!("{by} asked for it"),
    };
    format!("ROLLED BACK: {why}")
}

pub fn cost(out: &mut impl Write, ledger: &Ledger, rollback: &Rollback, broken: Instant) -> io::Result<()> {
    writeln!(out, "\nWhat the bad version cost, as the users saw it:")?;
    let mut fact = |name: &str, text: String| writeln!(out, "  {name:<26} {text}");
    fact("failed answers", format!("{} of all {}", ledger.failed, ledger.answers))?;
    fact("users who saw one", format!("{} of {USERS}", ledger.hurt.len()))?;
    if let Some(first) = ledger.first_failure {
        let after = |moment: Instant| millis(moment.saturating_duration_since(first));
        fact(
            "first failed answer",
            format!("{} after {CANARY} broke", millis(first.saturating_duration_since(broken))),
        )?;
        fact("guard tripped", format!("{} after the first failed answer", after(rollback.at.instant)))?;
        if let Some(last) = ledger.last_sent_to_canary {
            fact("last request to the canary", format!("{} after the first failed answer", after(last)))?;
        }
    }
    fact("other failures", format!("{} (of {STABLE}, or of the proxy)", ledger.other_failures))?;
    fact("moved back by the ramp", format!("{} users, while all was well", ledger.moved_back))
}

pub fn addresses(out: &mut impl Write, proxy: SocketAddr, admin: SocketAddr, canary: SocketAddr) -> io::Result<()> {
    let body = r#"{"messages": [{"role": "user", "content": "hello"}]}"#;
    let healthy = r#"{"error_rate": "0%"}"#;
    writeln!(
        out,
        "
Proxy, agents and users go on until Ctrl-C. Try:

  a request     curl -i -H 'x-user-id: user-7' -d '{body}' http://{proxy}/v1/chat/completions
  what is live  curl http://{admin}/api/v1/table
  the rollback  curl http://{admin}/api/v1/agents/support-bot/deployment
  why, for one  curl 'http://{admin}/api/v1/agents/support-bot/explain?key=user-7'
  metrics       curl http://{admin}/metrics
  the bad one   curl -X PATCH -d '{healthy}' http://{canary}/behaviour

The proxy listens on {proxy}, the admin side on {admin}.
The configuration: pointsman demo --print-config"
    )
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
