//! The real binary, for what only it shows: exit codes, output, signals, memory.

mod breach;
mod commands;
mod completions;
mod conversations;
mod ctl;
mod descriptors;
mod drain;
mod durability;
mod overrides;
pub mod process;
mod run;
mod signals;
mod slow;
mod takeover;
mod tokens;

/// A figure for whoever reads the test's output, also where the test passes: the print macros are captured.
pub fn measured(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let _ = writeln!(std::io::stderr().lock(), "measured ({profile} build): {text}");
}
