//! `pointsman bucket`: the arithmetic alone, to compare with an SDK's.

use std::io::{BufRead, Write};

use anyhow::Context;

use crate::routing::bucket::Bucketer;
use crate::routing::ids::Weight;
use crate::routing::spec::Scheme;
use crate::routing::split::{Arm, Split};

#[derive(clap::Args)]
pub struct Args {
    /// sha1, sha1-js, launchdarkly, murmur3 or md5
    #[arg(long, default_value = "sha1")]
    scheme: Scheme,
    /// The agent's name, or the flag key of the SDK to compare with
    #[arg(long)]
    flag: String,
    #[arg(long, default_value = "")]
    salt: String,
    /// LaunchDarkly's seed, which replaces flag and salt
    #[arg(long, value_name = "NUMBER")]
    seed: Option<i64>,
    /// Shares of the arms in order, such as 5%,20%,75%; prints each key's arm too
    #[arg(long, value_delimiter = ',', value_name = "SHARES")]
    weights: Vec<Weight>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.seed.is_none() || args.scheme == Scheme::LaunchDarkly,
        "--seed: only the launchdarkly scheme has a seed"
    );
    let bucketer = Bucketer::new(args.scheme, &args.flag, &args.salt, args.seed);
    let arms: Vec<Arm> = args.weights.iter().copied().enumerate().collect();
    let split = if arms.is_empty() { None } else { Some(Split::canonical(args.scheme, &arms).context("--weights")?) };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().split(b'\n') {
        let mut key = line.context("reading keys from standard input")?;
        if key.last() == Some(&b'\r') {
            key.pop();
        }
        let bucketed = bucketer.bucket(&key);
        out.write_all(&key)?;
        write!(out, "\t{}", bucketed.bucket)?;
        if let Some(split) = &split {
            write!(out, "\t{}", split.pick(bucketed))?;
        }
        writeln!(out)?;
    }
    Ok(out.flush()?)
}
