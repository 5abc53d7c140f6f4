//! The other process in a change of binaries: the one that is started to take over, and the one that is taken over
//! from.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::events::Events;
use crate::app::{Handover, Running};
use crate::systemd;
use crate::takeover::{Predecessor, Session, TakeoverError};

const FLAG: &str = "--takeover";

impl Handover for Predecessor {
    fn state(&mut self) -> anyhow::Result<()> {
        self.take_state().context("taking the state over")
    }

    fn serving(&mut self) -> anyhow::Result<()> {
        self.say_serving().context("taking over")
    }
}

/// How this process was started, so that another can be.
pub(super) struct Itself {
    /// Where the binary was then: by now another one may be there.
    binary: PathBuf,
    arguments: Vec<OsString>,
}

impl Itself {
    pub fn remembered() -> std::io::Result<Self> {
        Ok(Self { binary: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Starts what is there now with the same arguments, to take over.
    pub fn start_successor(&self) {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).stdin(Stdio::null());
        if !self.arguments.iter().any(|argument| argument == FLAG) {
            command.arg(FLAG);
        }
        match command.spawn() {
            Ok(mut child) => {
                tracing::info!(pid = child.id(), "started a process to take over");
                // It outlives this one, or it fails and is to be collected.
                std::thread::spawn(move || match child.wait() {
                    Ok(status) => tracing::error!(%status, "the process that was to take over has ended"),
                    Err(error) => tracing::error!(%error, "the process that was to take over is lost"),
                });
            }
            Err(error) => {
                tracing::error!(%error, binary = %self.binary.display(), "cannot start a process to take over")
            }
        }
    }
}

/// Gives this process's place away; answers what is left of it: all, where the other one fails, else nothing once
/// what was in flight has ended.
pub(super) fn hand_over(
    running: Running,
    mut session: Session,
    events: &mut Events,
) -> anyhow::Result<Option<Running>> {
    let pid = session.pid();
    tracing::info!(pid, "a process asks to take over");
    let sockets = running.sockets();
    let shown = sockets.and_then(|sockets| Ok(session.hand_on(&sockets, &mut || events.stopped())?));
    if let Err(error) = shown {
        tracing::warn!(pid, "the take-over failed; serving on: {error:#}");
        return Ok(Some(running));
    }
    let released = running.release();
    match session.give_state(&mut || events.stopped()) {
        Ok(()) => {
            tracing::info!(pid, "the process that has taken over serves; finishing what is in flight");
            systemd::notify(&format!("MAINPID={pid}"));
            // It is ending already: the first signal asks for no more than that.
            let mut signals = 0;
            // The session is held to the end: as long as it is open, there are two processes.
            released.drain(&mut |wait| {
                signals += u32::from(events.stops_within(wait));
                signals > 1
            });
            Ok(None)
        }
        Err(TakeoverError::Stopped) => {
            systemd::notify("STOPPING=1");
            tracing::info!(pid, "stopping before the process that asked has taken over, which ends, too");
            session.say_no("the old process is asked to stop");
            released.drain(&mut |wait| events.stops_within(wait));
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(pid, %error, "the take-over failed; taking the state up again");
            // Said and closed first, so that the other one lets go of the state.
            session.say_no("too late; the old process has taken its state up again");
            drop(session);
            released.resume(&mut |wait| events.stops_within(wait))
        }
    }
}
