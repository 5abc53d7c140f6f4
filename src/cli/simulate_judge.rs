//! `pointsman simulate-judge`: how often the judge blames a good canary, and what a bad one costs until it is found.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;

use super::{complain, say};
use crate::judge::simulate::{self, Plan};

/// Threads at most: more only help where there are as many cores.
const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not 0");

#[derive(clap::Args)]
pub struct Args {
    /// How many good canaries to judge in each cell of the grid
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    runs: u64,
    /// How many bad canaries to look for in each cell
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    searches: u64,
    /// The guard's confidence
    #[arg(long, default_value = "99.9%", value_parser = confidence)]
    confidence: f64,
    /// The guard's `worse_than_stable_by`
    #[arg(long, default_value = "0.5%", value_parser = share)]
    margin: f64,
    /// Stable's shares of errors [default: 0.1%,1%,5%,20%]
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', value_parser = share)]
    rates: Vec<f64>,
    /// Requests of both versions together, such as 20/h or 5000/s [default: 20/h,10/s,5000/s]
    #[arg(long, value_name = "PACE,…", value_delimiter = ',', value_parser = pace)]
    traffic: Vec<f64>,
    /// The canary's shares of the traffic [default: 1%,5%,25%,50%]
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', value_parser = share)]
    shares: Vec<f64>,
    /// By how much a bad canary's errors exceed stable's [default: 1%,2%,5%,10%,50%,100%]
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', value_parser = share)]
    defects: Vec<f64>,
    /// The same seed gives the same report, on any number of threads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads [default: one for each core]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print everything as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the tables as Markdown
    #[arg(long)]
    markdown: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let shows_progress = io::stderr().is_terminal();
    let report = simulate::run(&plan(args), |done, of| {
        if shows_progress {
            // If nobody reads it, the report still comes.
            let _ = write!(io::stderr(), "\r{done} of {of} cells{}", if done == of { "\n" } else { "" });
        }
    });
    if args.json {
        say(serde_json::to_string_pretty(&report)?)?;
    } else if args.markdown {
        say(&report)?;
    } else {
        say(report.summary().trim_end())?;
    }
    if !report.keeps_promise() {
        complain("the promise is not kept: see the cells above it with --markdown");
        anyhow::bail!("more false rollbacks than 1 − confidence allows");
    }
    Ok(())
}

/// The published grid, where nothing else is asked for.
fn plan(args: &Args) -> Plan {
    let or = |given: &[f64], default: &[f64]| if given.is_empty() { default.to_vec() } else { given.to_vec() };
    let (paces, shares) = (or(&args.traffic, &Plan::PACES), or(&args.shares, &Plan::SHARES));
    let mut plan = Plan::grid((args.margin, args.confidence), &paces, &shares, &or(&args.rates, &Plan::RATES));
    if args.rates.is_empty() && args.traffic.is_empty() && args.shares.is_empty() {
        plan.detection.traffic = Plan::default().detection.traffic;
    }
    plan.detection.defects = or(&args.defects, &plan.detection.defects);
    (plan.false_alarms.runs, plan.detection.runs) = (args.runs, args.searches);
    plan.seed = args.seed;
    plan.threads = threads(args.threads);
    plan
}

fn threads(wanted: Option<NonZeroUsize>) -> NonZeroUsize {
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    wanted.unwrap_or_else(cores).min(THREADS_MAX)
}

/// `5%`, within 0 % and 100 %.
fn share(text: &str) -> Result<f64, String> {
    // By the exponent and not by division: 99.9% is then the number nearest to 0.999.
    let share = text.strip_suffix('%').and_then(|number| format!("{number}e-2").parse::<f64>().ok());
    match share {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share from 0% to 100%, such as 0.5%".to_owned()),
    }
}

/// Below 100 %, which no evidence reaches.
fn confidence(text: &str) -> Result<f64, String> {
    let sound = |confidence: &f64| (0.5..1.0).contains(confidence);
    share(text).ok().filter(sound).ok_or_else(|| "expected at least 50% and less than 100%, such as 99.9%".to_owned())
}

/// Requests per second, from `20/h` or `5000/s`.
fn pace(text: &str) -> Result<f64, String> {
    let parse = |number: &str| number.parse::<f64>().ok().filter(|pace| *pace > 0.0 && *pace <= 3.6e9);
    let per_hour = text.strip_suffix("/h").and_then(parse).map(|pace| pace / 3_600.0);
    let per_second = || text.strip_suffix("/s").and_then(parse);
    per_hour
        .or_else(per_second)
        .ok_or_else(|| "expected requests per hour or second, such as 20/h or 5000/s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_paces_read_as_people_write_them() {
        assert_eq!((share("0.5%"), share("99.9%")), (Ok(0.005), Ok(0.999)));
        assert!(confidence("100%").is_err());
        assert_eq!(pace("36/h"), Ok(0.01));
        assert_eq!(pace("5000/s"), Ok(5_000.0));
        for wrong in ["5", "101%", "-1%", "NaN%", "%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0/s", "20", "x/h", "inf/s", "-3/s"] {
            assert!(pace(wrong).is_err(), "{wrong}");
        }
    }
}
