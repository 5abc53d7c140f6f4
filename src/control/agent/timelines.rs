//! Whole timelines of an agent, look by look and order by order, beside golden files.
//!
//! `tests/golden/timelines/*.txt`: comments, a deployment, what is seen and ordered when, and below `---` what came
//! of it. `POINTSMAN_BLESS=1 cargo test --lib timelines` writes the lower part anew.
//!
//! A line of the upper part: `KEY VALUE` of the deployment (`strategy`, `step`, `rolling`, `bake`, `cooldown`,
//! `on_breach`, `guarded`, `include`), or `TIME` and what then is: `silent`, `pass`, `breach`, `unhealthy`, `unknown`,
//! `healthy`, `ada VERB…` for an operator's order, or `file …` for a reload.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::control::command::{Command, Order, RollbackTarget};
use crate::control::fixture::{a_breach, an_agent, guard};
use crate::control::model::{OnBreach, Step, Strategy};
use crate::control::request::{DeploymentRequest, Rolling};
use crate::control::rollout::{Health, Judgement};

#[test]
fn timelines_are_as_their_golden_files_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/timelines");
    let mut differing = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the golden files are there") {
        let path = entry.expect("can be listed").path();
        let text = std::fs::read_to_string(&path).expect("can be read");
        let (script, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let actual = Run::of(script);
        if actual == expected {
            continue;
        }
        if std::env::var_os("POINTSMAN_BLESS").is_some() {
            std::fs::write(&path, format!("{script}---\n{actual}")).expect("can be written");
        } else {
            differing.push(format!("{}: the timeline was\n{actual}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

struct Run {
    request: DeploymentRequest,
    rollout: Option<AgentRollout>,
    health: Health,
    start: Moment,
    text: String,
}

impl Run {
    fn of(script: &str) -> String {
        let request = DeploymentRequest::new(VersionId::new("1.5.0"));
        let start = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let mut run = Self { request, rollout: None, health: Health::NotAsked, start, text: String::new() };
        let lines = script.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        for line in lines.filter(|line| !line.is_empty()) {
            run.line(line);
        }
        run.text
    }

    fn line(&mut self, line: &str) {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first.parse_clock() {
            Some(seconds) => {
                let now = self.start.checked_add(Duration::from_secs(seconds)).expect("near");
                self.at(now, rest.trim());
            }
            None => self.setting(first, rest.trim()),
        }
    }

    fn setting(&mut self, key: &str, value: &str) {
        let time = |text: &str| humantime::parse_duration(text).expect("a duration");
        let request = &mut self.request;
        match key {
            "strategy" => {
                let all = [Strategy::Immediate, Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling];
                request.strategy = *all.iter().find(|s| s.as_str() == value).expect("a strategy");
            }
            "step" => {
                let (weight, hold) = value.split_once(' ').map_or((value, None), |(w, h)| (w, Some(time(h))));
                let step = Step { weight: weight.parse().expect("a share"), hold };
                request.steps.get_or_insert_default().push(step);
            }
            "rolling" => {
                let (shares, hold) = value.split_once(' ').expect("shares and hold");
                let shares = Some(shares.parse().expect("a number"));
                request.rolling = Some(Rolling { shares, hold: Some(time(hold)) });
            }
            "bake" => request.bake = Some(time(value)),
            "cooldown" => request.cooldown = time(value),
            "on_breach" => request.on_breach = if value == "pause" { OnBreach::Pause } else { OnBreach::Rollback },
            "include" => request.audience.include = vec![crate::routing::ids::SegmentId::new(value)],
            "guarded" => request.guards = vec![guard()],
            other => panic!("{other} is no setting"),
        }
    }

    fn at(&mut self, now: Moment, what: &str) {
        let said = match what.split(' ').collect::<Vec<_>>()[..] {
            ["ada", ..] => self.order(&what[4..], now),
            ["file", stable, block] => self.reload(stable, block, now),
            [word] => self.look(word, now),
            _ => panic!("{what:?} is nothing that can be"),
        };
        let rollout = self.rollout.as_ref().expect("a file comes first");
        let shown = rollout.deployment().map(|d| {
            let due = rollout::deadline(&d.spec, &d.state).filter(|at| *at > self.start.instant);
            let due = due.map_or("-".to_owned(), |at| show_clock(at - self.start.instant));
            let stage = match d.state.stage() {
                Some(crate::control::model::Stage::Step(step)) => format!(" step {}", step + 1),
                Some(crate::control::model::Stage::Set { step, .. }) => format!(" set, step {}", step + 1),
                Some(crate::control::model::Stage::Bake) if d.state.as_str() == "paused" => " bake".into(),
                _ => String::new(),
            };
            format!("{}{stage} | {} | due {due}", d.state.as_str(), d.weight())
        });
        let desired = rollout.desired();
        let (stable, barred) = (&rollout.spec.stable, if desired.barred.is_empty() { "" } else { " | barred" });
        let clock = show_clock(now.instant - self.start.instant);
        let shown = shown.unwrap_or("no deployment".to_owned());
        writeln!(self.text, "{clock} {what} → {said} | {shown} | stable {stable}{barred}").expect("a String");
    }

    /// One look of the reconciler.
    fn look(&mut self, word: &str, now: Moment) -> String {
        let mut judgement = Judgement::Silent;
        match word {
            "silent" => {}
            "pass" => judgement = Judgement::Pass,
            "breach" => judgement = Judgement::Breach(a_breach()),
            "unhealthy" => self.health = Health::Unhealthy { why: "connection refused".into() },
            "unknown" => self.health = Health::Unknown,
            "healthy" => self.health = Health::Healthy,
            other => panic!("{other} is nothing that can be seen"),
        }
        let seen = Observation { judgement, health: self.health.clone() };
        let rollout = self.rollout.as_mut().expect("a file comes first");
        let actions = rollout.plan(&seen, now);
        for action in &actions {
            rollout.act(action, Cost::default(), now);
        }
        names(&actions)
    }

    fn order(&mut self, words: &str, now: Moment) -> String {
        let rollout = self.rollout.as_mut().expect("a file comes first");
        let command = match words.split(' ').collect::<Vec<_>>()[..] {
            ["pause"] => Command::Pause,
            ["resume"] => Command::Resume,
            ["advance"] => Command::Advance,
            ["abort"] => Command::Abort,
            ["retry"] => Command::Retry,
            ["promote"] => Command::Promote,
            ["rollback"] => Command::Rollback { to: None },
            ["rollback", "to", version] => {
                Command::Rollback { to: Some(RollbackTarget::Version(VersionId::new(version))) }
            }
            ["rollback", "to", "point", id] => Command::Rollback { to: Some(RollbackTarget::Point(id.into())) },
            ["weight", weight] => Command::SetWeight(weight.parse().expect("a share")),
            ["deploy", version] => {
                let version = VersionId::new(version);
                Command::Create(Box::new(DeploymentRequest { version, ..self.request.clone() }))
            }
            _ => panic!("{words:?} is no order"),
        };
        let seen = Observation { judgement: Judgement::Silent, health: self.health.clone() };
        let order = Order::by(Actor::new("ada", "api"));
        match rollout.order(None, &command, &order, (&seen, Cost::default()), now) {
            Ok(outcome) => {
                *rollout = outcome.after;
                names(&outcome.actions)
            }
            Err(error) => format!("refused: {error}"),
        }
    }

    /// `stable` and the name of the block, or `-` for none.
    fn reload(&mut self, stable: &str, block: &str, now: Moment) -> String {
        let mut spec = an_agent();
        spec.stable = VersionId::new(stable);
        let deployment = (block != "-").then(|| self.request.clone().spec(block.into(), 3).expect("a good request"));
        let intent = AgentIntent { health: [].into(), checks: [].into(), spec: Arc::new(spec), deployment };
        let previous = self.rollout.as_ref().map(|rollout| &rollout.state);
        self.rollout = Some(AgentRollout::adopt(previous, &intent, &Actor::file("cafe"), now));
        "adopted".into()
    }
}

fn names(actions: &[Action]) -> String {
    let name = |action: &Action| match action {
        Action::Advance(step) => format!("advance to {}", step + 1),
        Action::Rollback(cause) => format!("rollback by {}", cause.as_str()),
        other => other.name().to_owned(),
    };
    let names: Vec<_> = actions.iter().map(name).collect();
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

trait Clock {
    fn parse_clock(&self) -> Option<u64>;
}

impl Clock for str {
    /// `h:mm` or `h:mm:ss`
    fn parse_clock(&self) -> Option<u64> {
        let parts: Vec<u64> = self.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        match parts[..] {
            [hours, minutes] => Some(hours * 3600 + minutes * 60),
            [hours, minutes, seconds] => Some(hours * 3600 + minutes * 60 + seconds),
            _ => None,
        }
    }
}

fn show_clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
