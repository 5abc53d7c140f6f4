//! `ctl deploy`: from flags and a block of YAML to a request, and to the end of it with `--wait`.

use std::io::{self, Read};

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};

use super::client::Call;
use super::exit::Exit;
use super::failure::Failure;
use super::order::Terms;
use super::session::Session;
use super::wait::{self, Patience};
use super::wire::Done;
use super::{block, guard, show};

/// More than the server takes; it says so.
const FILE_LIMIT: u64 = 1 << 20;

#[derive(clap::Args)]
pub struct Args {
    agent: String,
    /// The version to bring in: one of the agent's versions
    version: String,
    /// immediate, canary, blue-green or rolling. Default: canary
    #[arg(long, value_name = "STRATEGY")]
    strategy: Option<String>,
    /// Shares, and how long each is held, such as 1%:10m,5%:30m,100%
    #[arg(long, value_delimiter = ',', value_name = "STEPS", value_parser = step)]
    steps: Vec<Value>,
    /// How long the guards must hold at 100 %
    #[arg(long, value_name = "DURATION")]
    bake: Option<String>,
    /// A condition that must hold; may be repeated
    #[arg(long = "guard", value_name = "GUARD", value_parser = guard::parse, long_help = GUARD_HELP)]
    guards: Vec<Value>,
    /// rollback or pause. Default: rollback
    #[arg(long, value_name = "WHAT")]
    on_breach: Option<String>,
    /// How long after a rollback no deployment of the agent starts
    #[arg(long, value_name = "DURATION")]
    cooldown: Option<String>,
    /// How long the version that it replaces keeps its conversations. Default: until they end
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// A `deployment` block as the configuration file has it; `-` is standard input. What is also given by
    /// an option is the option's
    #[arg(long, short, value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    terms: Terms,
    /// Follow it to its end: exit 0 when it is complete, 2 when it was rolled back, 3 on a time-out
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    #[command(flatten)]
    patience: Patience,
}

const GUARD_HELP: &str = "\
A condition that must hold; may be repeated. One of
  'error_rate > 5% window=5m min=50'
  'latency_p95 > 3s confidence=99%'
  'error_rate > stable + 1% confidence=99.9%'
  'ttfb_p95 > stable + 2% slower_than=800ms confidence=99%'
  'output_tokens_mean > 1500 cap=8000 confidence=99.9%'
  '{metric: error_rate, above: 5%}'       as the configuration file has it";

fn step(text: &str) -> Result<Value, String> {
    let (weight, hold) = match text.split_once(':') {
        Some((weight, hold)) => (weight.trim(), Some(hold.trim())),
        None => (text.trim(), None),
    };
    if weight.is_empty() || hold.is_some_and(str::is_empty) {
        return Err("expected a share and how long it is held, such as 5%:30m; the last needs no time".into());
    }
    Ok(match hold {
        Some(hold) => json!({ "weight": weight, "hold": hold }),
        None => json!({ "weight": weight }),
    })
}

pub async fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let path = Session::agent(&args.agent, "/deployments");
    let call = Call::post(path, args.terms.body(args.request()?.into()));
    let call = args.terms.on(call).query("environment", session.environment.as_ref());
    let (done, document): (Done, _) = session.client.ask(&call).await?;
    if !args.wait {
        session.show(&document, || show::done(&done, args.terms.dry_run, session.style))?;
        return Ok(Exit::Done);
    }
    let Some(deployment) = done.deployment else {
        return Err(anyhow!("the server did not say which deployment it began").into());
    };
    wait::follow(session, &args.agent, &deployment.id, &args.patience).await
}

impl Args {
    /// What the file says, and over it what the options say.
    fn request(&self) -> anyhow::Result<Map<String, Value>> {
        let mut request = match &self.file {
            None => Map::new(),
            Some(path) => block::deployment(&read(path)?).map_err(|why| anyhow!("--file: {path}: {why}"))?,
        };
        let said = request.get("version").and_then(Value::as_str).filter(|said| *said != self.version);
        if let Some(said) = said {
            anyhow::bail!("--file: the block is for version {said}, not {}", self.version);
        }
        let texts = [
            ("version", Some(&self.version)),
            ("strategy", self.strategy.as_ref()),
            ("bake", self.bake.as_ref()),
            ("onBreach", self.on_breach.as_ref()),
            ("cooldown", self.cooldown.as_ref()),
            ("drainTimeout", self.drain_timeout.as_ref()),
        ];
        request.extend(texts.into_iter().filter_map(|(field, text)| Some((field.to_owned(), json!(text?)))));
        let lists = [("steps", &self.steps), ("guards", &self.guards)];
        let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
        request.extend(given.map(|(field, list)| (field.to_owned(), json!(list))));
        Ok(request)
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if path == "-" {
        io::stdin().take(FILE_LIMIT).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_string(&mut text))
    };
    read.with_context(|| format!("--file: {path} cannot be read"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    impl std::fmt::Debug for Args {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Args").finish_non_exhaustive()
        }
    }

    fn request(arguments: &[&str]) -> anyhow::Result<Value> {
        Ok(Alone::try_parse_from([&["deploy"], arguments].concat())?.args.request()?.into())
    }

    #[test]
    fn options_become_the_request() {
        let plain = request(&["bot", "2.0.0"]).unwrap();
        assert_eq!(plain, json!({ "version": "2.0.0" }));
        let full = request(&[
            "bot",
            "2.0.0",
            "--strategy",
            "canary",
            "--steps",
            "1%:10m, 5% : 30m,100%",
            "--bake",
            "1h",
            "--guard",
            "error_rate > 5% window=5m min=50",
            "--guard",
            "{metric: latency_p95, above: 3s}",
            "--on-breach",
            "pause",
            "--cooldown",
            "10m",
            "--drain-timeout",
            "2h",
        ]);
        let expected = json!({
            "version": "2.0.0",
            "strategy": "canary",
            "steps": [{ "weight": "1%", "hold": "10m" }, { "weight": "5%", "hold": "30m" }, { "weight": "100%" }],
            "bake": "1h",
            "guards": [
                { "metric": "error_rate", "above": "5%", "window": "5m", "minRequests": 50 },
                { "metric": "latency_p95", "above": "3s" },
            ],
            "onBreach": "pause",
            "cooldown": "10m",
            "drainTimeout": "2h",
        });
        assert_eq!(full.unwrap(), expected);
    }

    #[test]
    fn options_win_over_the_file_and_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("block.yaml");
        std::fs::write(&path, "version: 2.0.0\nbake: 1h\non_breach: pause\n").unwrap();
        let path = path.to_str().unwrap();
        let request = |version: &str| request(&["bot", version, "--file", path, "--bake", "5m"]);
        assert_eq!(request("2.0.0").unwrap(), json!({ "version": "2.0.0", "bake": "5m", "onBreach": "pause" }));
        let refusal = request("3.0.0").unwrap_err().to_string();
        assert!(refusal.contains("2.0.0, not 3.0.0"), "{refusal}");
    }

    #[test]
    fn what_is_no_step_no_guard_or_no_file_is_refused() {
        for arguments in [
            &["bot", "2.0.0", "--steps", ":10m"][..],
            &["bot", "2.0.0", "--steps", "5%:,100%"],
            &["bot", "2.0.0", "--guard", "error_rate"],
            &["bot", "2.0.0", "--file", "/nonexistent/block.yaml"],
            &["bot", "2.0.0", "--wait", "--dry-run"],
        ] {
            assert!(request(arguments).is_err(), "{arguments:?}");
        }
    }
}
