//! `pointsman completions`: what a shell needs to complete our subcommands and options.

use std::io::{self, Write};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Command, CommandFactory};
use clap_complete::Shell;

/// Print the completions of a shell
///
///   bash   pointsman completions bash > ~/.local/share/bash-completion/completions/pointsman
///   zsh    pointsman completions zsh > "${fpath[1]}/_pointsman"
///   fish   pointsman completions fish > ~/.config/fish/completions/pointsman.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[arg(value_parser = shells())]
    shell: Shell,
}

/// Those that a test feeds its script to.
fn shells() -> impl TypedValueParser<Value = Shell> {
    PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>())
}

pub fn run<C: CommandFactory>(args: &Args) -> io::Result<()> {
    let mut command: Command = C::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "pointsman", &mut script);
    io::stdout().lock().write_all(&script)
}
