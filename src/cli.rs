//! The subcommands: arguments in, text out, an exit code.

mod audit;
mod bucket;
mod completions;
mod ctl;
mod demo;
mod explain;
mod mock_agent;
mod overrides;
mod run;
mod simulate;
mod simulate_judge;
mod token;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};
use crate::tls::client::Clients;
use crate::tls::reload::Cells;
use crate::tls::server::HTTP1;

const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 it failed; 2 wrong arguments. `ctl` has its own, see `pointsman ctl --help`.";

/// Routes each request to an agent version, and takes a bad canary out by itself.
#[derive(Parser)]
#[command(name = "pointsman", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy
    Run(run::Args),
    /// Check configuration files: print every error with its place, exit 1 if there is one
    Check {
        /// The files to check
        #[arg(default_value = "pointsman.yaml", env = "POINTSMAN_CONFIG")]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    Ctl(Box<ctl::Args>),
    /// Read keys from standard input and print `key<TAB>bucket[<TAB>index of the arm]`
    Bucket(bucket::Args),
    /// Say which version a request would get, and why
    Explain(explain::Args),
    /// Route random keys and compare the split that they get with the intended one
    Simulate(simulate::Args),
    /// Simulate good and bad canaries: how often is a good one rolled back, and what does a bad one cost
    SimulateJudge(simulate_judge::Args),
    /// Make, list and revoke bearer tokens of the control-plane API
    Token(token::Args),
    /// Send single requests to a version, whatever the table says
    Override {
        #[command(subcommand)]
        command: overrides::Command,
    },
    /// The record of who changed what
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// See it work: two agents, live traffic, a ramp, and a canary that fails
    Demo(demo::Args),
    MockAgent(mock_agent::Args),
    Completions(completions::Args),
}

/// Runs the command line. Errors go to standard error; the exit code is 1, or 2 for wrong arguments (`ctl` has
/// codes of its own).
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return say_usage(&error),
    };
    let result = match command {
        Command::Run(args) => run::run(args),
        Command::Check { files } => match check(&files) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Schema => print_schema(),
        Command::Bucket(args) => bucket::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::SimulateJudge(args) => simulate_judge::run(&args),
        Command::Token(args) => token::run(args),
        Command::Override { command } => overrides::run(command),
        Command::Audit { command } => audit::run(&command),
        Command::Demo(args) => demo::run(args),
        Command::MockAgent(args) => mock_agent::run(args),
        Command::Completions(args) => completions::run::<Cli>(&args).map_err(Into::into),
        Command::Ctl(args) => return ctl::run(*args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What clap has to say: the help that was asked for, or what is wrong with the arguments.
fn say_usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let is_ctl = std::env::args_os().nth(1).is_some_and(|command| command == "ctl");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_ctl => ExitCode::from(ctl::FAILED),
        code => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
    }
}

/// A line on standard output. A reader that is gone is an error here, where `println!` would panic.
fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Lines on standard error. If nobody reads them, the exit code must do.
fn complain(lines: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{lines}");
}

/// Whoever read our output has had enough (`| head`): no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether all of them are sound.
fn check(files: &[PathBuf]) -> anyhow::Result<bool> {
    let mut sound = true;
    for file in files {
        match Config::load(file) {
            Ok(config) => {
                let errors = unusable_certificates(&config);
                if !errors.is_empty() {
                    sound = false;
                    errors.iter().for_each(|error| complain(format_args!("{}: {error}", file.display())));
                    continue;
                }
                let deployments = config.agents.iter().filter(|agent| agent.deployment.is_some()).count();
                let (agents, deployments) = (count(config.agents.len(), "agent"), count(deployments, "deployment"));
                say(format_args!("{}: ok ({agents}, {deployments})", file.display()))?;
            }
            Err(errors) => {
                sound = false;
                complain(errors);
            }
        }
    }
    Ok(sound)
}

/// The files of certificates and keys that could not be served with, or asked with, from here.
fn unusable_certificates(config: &Config) -> Vec<String> {
    let listeners = config.listeners.iter().enumerate();
    let places = listeners.map(|(index, listener)| (format!("listeners[{index}].tls"), &listener.tls));
    let places = places.chain([("admin.tls".to_owned(), &config.admin.tls)]);
    let used = places.filter_map(|(place, spec)| Some((place, spec.clone()?)));
    let refused = used.filter_map(|(place, spec)| {
        let error = spec.serve(&Cells::default(), &place, &[HTTP1]).err()?;
        Some(format!("{place}: {error}"))
    });
    let clients = Clients::default().prepare(config.endpoint_tls());
    refused.chain(clients.err().into_iter().flatten()).collect()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn print_schema() -> anyhow::Result<()> {
    Ok(say(serde_json::to_string_pretty(&config::schema())?)?)
}
