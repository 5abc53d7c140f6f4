//! Exit codes: what a pipeline goes by.

use std::process::ExitCode;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; what was waited for is complete.
    Done,
    /// What was waited for was rolled back, aborted or superseded.
    NotComplete,
    TimedOut,
    Interrupted,
}

/// Refused by the server, not reached, or wrong arguments.
pub const FAILED: u8 = 1;

pub const HELP: &str = "\
Exit codes:
  0    done; with --wait: the deployment is complete
  1    refused, not reached, or wrong arguments
  2    with --wait: the deployment was rolled back, aborted or superseded
  3    with --wait: the time-out came first
  130  with --wait: Ctrl-C; the deployment goes on";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::NotComplete => 2,
            Exit::TimedOut => 3,
            Exit::Interrupted => 130,
        })
    }
}
