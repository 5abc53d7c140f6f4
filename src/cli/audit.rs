//! `pointsman audit verify`: whether the record of changes is as it was written.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::control::audit::{self, VerifyError};
use crate::control::store::redb::ReadOnly;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Verify that no record was changed, removed, added or cut off; exit 1 if one was
    ///
    /// May be run while an instance is running.
    Verify {
        /// The directory that the configuration names in `state_dir`
        #[arg(long, value_name = "DIR", default_value = "./state")]
        state_dir: PathBuf,
        /// A hash that an earlier run printed: it must still be in the chain
        #[arg(long, value_name = "HASH")]
        holds: Option<String>,
    },
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Verify { state_dir, holds } = command;
    let store = ReadOnly::open(state_dir)?;
    let verified = match audit::verify(&store, holds.as_deref()) {
        Err(VerifyError::Store(unread)) => return Err(unread.into()),
        verified => verified.context("the audit is not as it was written")?,
    };
    if !verified.holds {
        bail!("the audit is not the one that had this hash: it was cut off or written anew");
    }
    let records = super::count(verified.head.sequence as usize, "record");
    let newest = if verified.head.hash.is_empty() { "none" } else { &verified.head.hash };
    Ok(super::say(format_args!("sound: {records}, newest hash {newest}"))?)
}
