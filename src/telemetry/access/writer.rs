//! The access log's writing half: one thread, one batch buffer, one target.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::{AccessRecord, AccessTarget, BATCH_BYTES, Message, QUEUE_RECORDS, Shared};

/// How long the first record of a batch waits for company. While the writer sleeps, a push is a plain store
/// into the queue; if it waited in `recv`, every push would pay for waking it. At this pace the queue takes
/// over a million records a second before it drops one.
const GATHER: Duration = Duration::from_millis(5);

/// An open target.
pub(super) struct Sink {
    out: Box<dyn Write + Send>,
    /// `None` for what cannot be reopened.
    path: Option<PathBuf>,
}

impl Sink {
    pub(super) fn open(target: AccessTarget) -> io::Result<Self> {
        match target {
            AccessTarget::File(path) => Ok(Self { out: Box::new(append(&path)?), path: Some(path) }),
            AccessTarget::Stdout => {
                // The descriptor itself: batches are made here, a second buffer would only blur its errors.
                let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Ok(Self { out: Box::new(out), path: None })
            }
        }
    }

    #[cfg(test)]
    pub(super) fn to(out: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), path: None }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

pub(super) struct Writer {
    sink: Sink,
    shared: Arc<Shared>,
    batch: Vec<u8>,
    /// Records in `batch`.
    records: u64,
    /// The last write ended inside a line: the next begins on a new one.
    torn: bool,
    /// A write error was logged since the target was opened.
    complained: bool,
}

impl Writer {
    pub(super) fn new(sink: Sink, shared: Arc<Shared>) -> Self {
        Self { sink, shared, batch: Vec::with_capacity(BATCH_BYTES), records: 0, torn: false, complained: false }
    }

    /// Ends on a stop, or when all handles are gone.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            // Looked at before the queue is emptied: what was pushed before the stop is then still written.
            let stopping = self.stopping();
            if !stopping {
                let Ok(first) = queue.recv() else { return };
                if matches!(first, Message::Record(_)) && !self.stopping() {
                    std::thread::sleep(GATHER);
                }
                self.take(first);
            }
            // Bounded, so that a stop comes to an end however fast records are pushed.
            for message in queue.try_iter().take(QUEUE_RECORDS) {
                self.take(message);
            }
            self.flush();
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            if stopping {
                return;
            }
        }
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    fn take(&mut self, message: Message) {
        let Message::Record(record) = message else { return };
        self.append(&record);
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn append(&mut self, record: &AccessRecord) {
        let whole = self.batch.len();
        if serde_json::to_writer(&mut self.batch, record).is_err() {
            // Nothing in a record can fail to be written down today; if something ever does, it is counted.
            self.batch.truncate(whole);
            self.shared.counters.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.batch.push(b'\n');
        self.records += 1;
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.torn {
            self.batch.insert(0, b'\n');
        }
        let (written, result) = write_out(&mut *self.sink.out, &self.batch);
        if let Some(last) = self.batch[..written].last() {
            self.torn = *last != b'\n';
        }
        let whole = match result {
            Ok(()) => self.records,
            Err(error) => {
                self.complain(&error);
                let lines = self.batch[..written].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                lines.count() as u64 - u64::from(self.torn && written > 0)
            }
        };
        self.shared.counters.written.fetch_add(whole, Ordering::Relaxed);
        self.shared.counters.failed.fetch_add(self.records - whole, Ordering::Relaxed);
        self.batch.clear();
        self.records = 0;
    }

    fn complain(&mut self, error: &io::Error) {
        if !self.complained {
            self.complained = true;
            tracing::warn!(%error, "the access log cannot be written; its records are lost until it can");
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.sink.path else { return };
        match append(path) {
            Ok(file) => {
                self.sink.out = Box::new(file);
                (self.torn, self.complained) = (false, false);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the access log cannot be reopened; going on in the old file");
            }
        }
    }
}

/// Writes all of `bytes`, or says how many were written before the error.
fn write_out(out: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, out.flush())
}
