//! Tells when the file has a new content, however it got it: written in place, renamed over, swapped
//! through a symlink (a Kubernetes ConfigMap), or changed under a bind mount.
//!
//! File events say only *when* to look. What counts is the content: a candidate is yielded when it
//! differs from the one before, and never twice. A write that is under way is not taken for good: after
//! the writer closed the file, or another file took its place, one looks at once; otherwise only when
//! there was no event for [`QUIET`]; and what looks broken is looked at again before it is reported.
//!
//! Bounds: events coalesce into two flags; a stream of changes delays a candidate by at most
//! [`PATIENCE`]; without events (or without inotify at all) a look at the metadata every [`POLL`] finds
//! the change. What is not here: what becomes of a candidate.

mod hops;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Config, ConfigErrors, process_env, source};
use crate::stamp::Stamp;
use hops::Hops;

/// How long a file must rest that nobody closed.
pub const QUIET: Duration = Duration::from_millis(15);
/// The same for what cannot be a whole file: a writer may be slow between emptying and filling it.
pub const QUIET_BROKEN: Duration = Duration::from_secs(1);
/// A file that never rests is read as it is after this.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// For file systems without events.
pub const POLL: Duration = Duration::from_secs(2);

/// A content that differs from the one before.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What errors call the file.
    name: String,
    pub text: Result<String, ConfigErrors>,
    /// As [`Config::hash`]; of the error where the file could not be read.
    pub hash: Arc<str>,
}

impl Candidate {
    fn read(path: &Path) -> Self {
        let text = source::read(path);
        let hash = match &text {
            Ok(text) => source::content_hash(text.as_bytes()),
            Err(error) => source::content_hash(error.to_string().as_bytes()),
        };
        Self { name: path.display().to_string(), text, hash }
    }

    /// The configuration that it holds, with the environment of this process.
    pub fn config(&self) -> Result<Config, ConfigErrors> {
        self.text.as_ref().map_err(Clone::clone).and_then(|text| Config::parse(&self.name, text, &process_env))
    }

    /// Whether it looks like a whole file and not like a moment of a write.
    fn is_plausible(&self) -> bool {
        let Ok(text) = &self.text else { return false };
        !text.trim().is_empty() && serde_yaml::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }
}

/// Watches one file. Belongs to the control runtime; dropping it ends the watch.
pub struct ConfigWatch {
    /// As it was given; what is read.
    path: PathBuf,
    /// What is watched: the working directory may be another one later.
    absolute: PathBuf,
    /// `None` where the system has no events for us: then only the poll finds changes.
    watcher: Option<RecommendedWatcher>,
    /// The paths that the watcher watches now.
    armed: Vec<PathBuf>,
    signal: Arc<Signal>,
    /// Hash of the newest content that was yielded.
    yielded: Arc<str>,
    stamp: Option<Stamp>,
    pending: Option<Pending>,
    poll: Duration,
    next_poll: Instant,
    /// How often the file was read.
    reads: u64,
}

/// A look that is due, and since when one wants to look.
#[derive(Clone, Copy)]
struct Pending {
    since: Instant,
    due: Instant,
    /// What the file looked like when it was found broken: it is news if it stays so.
    broken: Option<Option<Stamp>>,
}

impl ConfigWatch {
    /// Watches `path`, whose content of hash `seen` is known already ([`Config::hash`]).
    /// Must be called within a tokio runtime that has time.
    pub fn new(path: &Path, seen: &str) -> std::io::Result<Self> {
        Self::with_poll(path, seen, POLL)
    }

    fn with_poll(path: &Path, seen: &str, poll: Duration) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let hear = {
            let signal = signal.clone();
            move |event| signal.hear(event)
        };
        let watcher = notify::recommended_watcher(hear)
            .inspect_err(
                |error| tracing::warn!(%error, "no file events, changes of the configuration are found every 2 s"),
            )
            .ok();
        let now = Instant::now();
        let mut watch = Self {
            path: path.to_owned(),
            absolute: std::path::absolute(path)?,
            watcher,
            armed: Vec::new(),
            signal,
            yielded: seen.into(),
            stamp: None,
            // What changed since the caller read the file is found by the first look.
            pending: Some(Pending { since: now, due: now, broken: None }),
            poll,
            next_poll: now + poll,
            reads: 0,
        };
        watch.arm();
        Ok(watch)
    }

    /// Waits for a content that differs from the one before. May be dropped and called again at any time.
    pub async fn changed(&mut self) -> Candidate {
        loop {
            if let Some(candidate) = self.look(Instant::now()) {
                return candidate;
            }
            let next = self.pending.map_or(self.next_poll, |pending| pending.due.min(self.next_poll));
            tokio::select! {
                () = self.signal.notify.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// The content as it is now, new or not: for a reload that an operator asks for.
    pub fn reread(&mut self) -> Candidate {
        let candidate = self.read();
        self.yielded = candidate.hash.clone();
        candidate
    }

    /// One step of [`Self::changed`]: takes in what was heard, and reads if it is time.
    fn look(&mut self, now: Instant) -> Option<Candidate> {
        let heard = self.signal.take();
        if now >= self.next_poll {
            self.next_poll = now + self.poll;
            if Stamp::of(&self.path) != self.stamp {
                self.postpone(now);
            }
        }
        if heard.is_some() {
            self.postpone(now);
        }
        if heard == Some(Heard::Settled) {
            let candidate = self.read();
            if !candidate.is_plausible() {
                // It is looked at again when the file has rested.
                return None;
            }
            // A write that is under way now will be heard of when it goes on.
            self.pending = None;
            return self.yield_new(candidate);
        }
        let pending = self.pending.take_if(|pending| pending.due <= now)?;
        let candidate = self.read();
        if !candidate.is_plausible() && pending.broken != Some(self.stamp) {
            // Most likely the middle of a write. Half a file is no news, and a broken one can wait.
            self.pending = Some(Pending { since: now, due: now + QUIET_BROKEN, broken: Some(self.stamp) });
            return None;
        }
        self.yield_new(candidate)
    }

    fn postpone(&mut self, now: Instant) {
        let since = self.pending.map_or(now, |pending| pending.since);
        let broken = self.pending.and_then(|pending| pending.broken);
        self.pending = Some(Pending { since, due: (now + QUIET).min(since + PATIENCE), broken });
    }

    fn read(&mut self) -> Candidate {
        // Armed and stamped before reading, so that no change after the reading goes unseen.
        self.arm();
        self.stamp = Stamp::of(&self.path);
        self.reads += 1;
        Candidate::read(&self.path)
    }

    fn yield_new(&mut self, candidate: Candidate) -> Option<Candidate> {
        if candidate.hash == self.yielded {
            return None;
        }
        self.yielded = candidate.hash.clone();
        Some(candidate)
    }

    /// Watches what the path leads through now. From scratch each time: a watch belongs to an inode, and
    /// any of these may have been replaced.
    fn arm(&mut self) {
        const TRIES: usize = 3;
        let Some(watcher) = &mut self.watcher else { return };
        for _ in 0..TRIES {
            let hops = Hops::of(&self.absolute);
            for path in self.armed.drain(..) {
                // It is gone already where the file was deleted.
                let _ = watcher.unwatch(&path);
            }
            self.signal.listen_to(hops.names.clone());
            for path in &hops.watched {
                match watcher.watch(path, RecursiveMode::NonRecursive) {
                    Ok(()) => self.armed.push(path.clone()),
                    Err(error) => tracing::debug!(%error, path = %path.display(), "cannot watch"),
                }
            }
            // A link that was swapped meanwhile leads through other directories.
            if Hops::of(&self.absolute) == hops {
                return;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Something is going on.
    Stirred,
    /// A writer has closed the file, or another file is in its place.
    Settled,
}

/// From the event thread to the watch: two flags and a wake-up.
#[derive(Default)]
struct Signal {
    stirred: AtomicBool,
    settled: AtomicBool,
    notify: Notify,
    /// Events of other paths, such as a log file in the same directory, are none of ours.
    names: Mutex<BTreeSet<PathBuf>>,
}

impl Signal {
    fn listen_to(&self, names: BTreeSet<PathBuf>) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn hear(&self, event: notify::Result<notify::Event>) {
        let heard = match event {
            Ok(event) if event.need_rescan() => Some(Heard::Stirred),
            Ok(event) => meaning(&event.kind).filter(|_| {
                let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                event.paths.iter().any(|path| names.contains(path))
            }),
            // Events may have been lost.
            Err(_) => Some(Heard::Stirred),
        };
        match heard {
            None => return,
            Some(Heard::Stirred) => self.stirred.store(true, Ordering::Release),
            Some(Heard::Settled) => self.settled.store(true, Ordering::Release),
        }
        self.notify.notify_one();
    }

    fn take(&self) -> Option<Heard> {
        let stirred = self.stirred.swap(false, Ordering::AcqRel);
        let settled = self.settled.swap(false, Ordering::AcqRel);
        if settled { Some(Heard::Settled) } else { stirred.then_some(Heard::Stirred) }
    }
}

fn meaning(kind: &EventKind) -> Option<Heard> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Heard::Settled),
        // Our own reading is among these.
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Some(Heard::Settled),
        EventKind::Any | EventKind::Other | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => {
            Some(Heard::Stirred)
        }
    }
}

#[cfg(test)]
mod tests;
