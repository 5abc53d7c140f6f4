//! `pointsman simulate`: the split that random keys really get, against the intended one.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::run::{did_you_mean, offline_table};
use crate::config::Config;
use crate::random::Random;
use crate::routing::ids::BUCKETS;
use crate::routing::table::Agent;

#[derive(clap::Args)]
pub struct Args {
    /// The YAML file
    #[arg(long, short, value_name = "FILE", default_value = "pointsman.yaml", env = "POINTSMAN_CONFIG")]
    config: PathBuf,
    /// How many random keys
    #[arg(long, short = 'n', default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    /// Only this agent
    #[arg(long)]
    agent: Option<String>,
    /// The same seed makes the same keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let table = offline_table(&Config::load(&args.config)?)?;
    let wanted = |agent: &&Arc<Agent>| args.agent.as_ref().is_none_or(|name| agent.id().as_str() == name);
    let agents: Vec<_> = table.agents.iter().filter(wanted).collect();
    if agents.is_empty() {
        let name = args.agent.as_deref().unwrap_or_default();
        anyhow::bail!("--agent: no agent {name:?} in {}{}", args.config.display(), did_you_mean(name, &table));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{:<24} {:<16} {:>10} {:>10} {:>12}  within", "AGENT", "VERSION", "INTENDED", "GOT", "KEYS")?;
    for agent in agents {
        report(&mut out, agent, args)?;
    }
    Ok(())
}

fn report(out: &mut impl Write, agent: &Agent, args: &Args) -> io::Result<()> {
    let mut counts = vec![0_u64; agent.versions.len()];
    let mut random = Random::new(args.seed);
    for _ in 0..args.keys {
        let key = format!("user-{:016x}", random.draw());
        counts[agent.split.pick(agent.bucketer.bucket(key.as_bytes()))] += 1;
    }
    for (index, version) in agent.versions.iter().enumerate() {
        let weight = agent.split.weight(index);
        let got = counts[index] as f64 / args.keys as f64;
        // Of a fair draw, 99.99 % lie within four standard deviations.
        let p = weight.as_fraction();
        let tolerance = 4.0 * (p * (1.0 - p) / args.keys as f64).sqrt() + 0.5 / f64::from(BUCKETS);
        let verdict = if (got - p).abs() <= tolerance { "4 sigma" } else { "OUTSIDE 4 sigma" };
        writeln!(
            out,
            "{:<24} {:<16} {:>10} {:>9.3}% {:>12}  {verdict}",
            agent.id().as_str(),
            version.id.as_str(),
            weight.to_string(),
            got * 100.0,
            counts[index]
        )?;
    }
    Ok(())
}
