//! The one place that writes the store: each change with its audit records, in one transaction, in order.
//!
//! A disk may stall, so commits run on a thread of their own and nobody but who asked waits for one. An engine
//! that cannot stall ([`Writer::in_place`]) is written where one stands.
//!
//! - [`Writer::ask`]: a change that is not in effect yet. It is tried once; what failed never happened.
//! - [`Writer::insist`]: a change that is in effect already, such as a rollback. It is tried until it is written;
//!   meanwhile nothing that was asked later is, so nothing can reopen what it closed.
//! - [`Writer::spare`]: what may be lost, such as where conversations stand. It is tried once, when nothing else
//!   waits; so what comes meanwhile waits for one such commit at most, and whoever sends them keeps them small.
//!
//! Bounds: whoever asks waits for the answer before asking again, so one change at most is asked for. What is insisted
//! on always finds room: it closes what a written change alone can open again, or it is an author's new file, and so
//! there are few. Between two tries: [`PAUSES`]. Of what is spare one at most waits; the next takes its place.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::audit::{Chain, Entry};
use super::store::{Revision, Store, StoreError, Transaction};
use crate::telemetry::commits::CommitFigures;

/// From one try to the next: the first, and the longest after doubling.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Documents by key (`None`: removed), and who changed them why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Write {
    pub documents: Vec<(String, Option<Vec<u8>>)>,
    pub records: Vec<Entry>,
    /// No news to those who follow the store.
    pub aside: Vec<(String, Option<Vec<u8>>)>,
}

/// Comes true when the change is on the disk.
pub type Receipt = oneshot::Receiver<Result<Revision, StoreError>>;

/// The handle on the writer. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Writer(Arc<Way>);

enum Way {
    InPlace(Mutex<Committer>),
    Thread { jobs: mpsc::Sender<Message>, figures: CommitFigures },
}

enum Message {
    Job(Job),
    Stop,
}

struct Job {
    change: Write,
    urgency: Urgency,
    receipt: oneshot::Sender<Result<Revision, StoreError>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Spare,
    Asked,
    Insisted,
}

/// The writing thread. Stop it, so that what is in effect is written too.
pub struct WriterThread {
    jobs: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl WriterThread {
    /// Writes what waits, trying each change once more, and ends.
    pub fn stop(self) {
        // Gone already only if it panicked, which its join tells as well.
        let _ = self.jobs.send(Message::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the store's writer ended by a panic; the newest changes may not be written");
        }
    }
}

impl Writer {
    /// Writes on a thread of its own.
    pub fn start(store: Arc<dyn Store>, figures: CommitFigures) -> Result<(Self, WriterThread), StoreError> {
        let (jobs, todo) = mpsc::channel();
        let committer = Committer { chain: Chain::load(&*store)?, store, figures: figures.clone() };
        let work = Work { committer, todo, kept: VecDeque::new(), spare: None, stopping: false };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || work.run());
        let thread = thread.map_err(|error| StoreError::Failed(format!("cannot start the store's writer: {error}")))?;
        let way = Way::Thread { jobs: jobs.clone(), figures };
        Ok((Self(Arc::new(way)), WriterThread { jobs, thread }))
    }

    /// For an engine that cannot stall.
    pub fn in_place(store: Arc<dyn Store>, figures: CommitFigures) -> Result<Self, StoreError> {
        let chain = Chain::load(&*store)?;
        Ok(Self(Arc::new(Way::InPlace(Mutex::new(Committer { store, chain, figures })))))
    }

    /// Tries once.
    pub fn ask(&self, change: Write) -> Receipt {
        self.send(change, Urgency::Asked)
    }

    /// Tries until it is written.
    pub fn insist(&self, change: Write) -> Receipt {
        self.send(change, Urgency::Insisted)
    }

    /// Tries once, after all that waits.
    pub fn spare(&self, change: Write) -> Receipt {
        self.send(change, Urgency::Spare)
    }

    fn send(&self, change: Write, urgency: Urgency) -> Receipt {
        let (receipt, promised) = oneshot::channel();
        match &*self.0 {
            Way::InPlace(committer) => {
                let mut committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = receipt.send(committer.commit(&change, urgency));
            }
            Way::Thread { jobs, figures } => {
                if urgency != Urgency::Spare {
                    figures.queued();
                }
                // Where the thread is gone the receipt is dropped with the job, which its holder sees.
                let _ = jobs.send(Message::Job(Job { change, urgency, receipt }));
            }
        }
        promised
    }
}

/// What a receipt says once it says something.
pub async fn written(receipt: Receipt) -> Result<Revision, StoreError> {
    receipt.await.unwrap_or_else(|_| Err(ended()))
}

/// What a receipt says by now; `None`: nothing yet.
pub fn ready(receipt: &mut Receipt) -> Option<Result<Revision, StoreError>> {
    match receipt.try_recv() {
        Ok(result) => Some(result),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Closed) => Some(Err(ended())),
    }
}

fn ended() -> StoreError {
    StoreError::Failed("the store's writer has ended".into())
}

struct Committer {
    store: Arc<dyn Store>,
    chain: Chain,
    figures: CommitFigures,
}

impl Committer {
    /// What is spare has figures of its own, where it is sent from.
    fn commit(&mut self, change: &Write, urgency: Urgency) -> Result<Revision, StoreError> {
        let begun = Instant::now();
        let result = self.attempt(change);
        if urgency != Urgency::Spare {
            self.figures.committed(begun.elapsed(), result.is_ok());
        }
        result
    }

    fn attempt(&mut self, change: &Write) -> Result<Revision, StoreError> {
        let mut transaction = Transaction::default();
        for (key, document) in &change.documents {
            match document {
                Some(value) => transaction.put(key.as_str(), value.clone()),
                None => transaction.delete(key.as_str()),
            }
        }
        for (key, document) in &change.aside {
            transaction.put_aside(key.as_str(), document.clone());
        }
        let mut chain = self.chain.clone();
        if !change.records.is_empty() {
            chain.append(&mut transaction, change.records.iter().cloned());
        }
        match self.store.commit(&transaction) {
            Ok(revision) => {
                if !change.records.is_empty() {
                    chain.committed(revision);
                    self.chain = chain;
                }
                Ok(revision)
            }
            Err(error) => {
                // Whether a commit that was called a failure is in the file all the same is seen by reading: then
                // the chain ends with our own record. Where it cannot be read, the next start will know.
                let Ok(there) = Chain::load(&*self.store) else { return Err(error) };
                let ours = !change.records.is_empty() && there.head() == chain.head();
                self.chain = there;
                if ours { Ok(*self.store.revision().borrow()) } else { Err(error) }
            }
        }
    }
}

/// The thread's side.
struct Work {
    committer: Committer,
    todo: mpsc::Receiver<Message>,
    /// Insisted on, and come while an earlier one was being tried.
    kept: VecDeque<Job>,
    spare: Option<Job>,
    stopping: bool,
}

impl Work {
    fn run(mut self) {
        while let Some(job) = self.next() {
            self.write(job);
        }
    }

    /// `None`: stopped, and nothing is left.
    fn next(&mut self) -> Option<Job> {
        if let Some(job) = self.kept.pop_front() {
            return Some(job);
        }
        loop {
            let message = match self.todo.try_recv() {
                Ok(message) => message,
                Err(_) if self.spare.is_some() || self.stopping => return self.spare.take(),
                Err(_) => self.todo.recv().ok()?,
            };
            match message {
                Message::Job(job) if job.urgency == Urgency::Spare => self.put_by(job),
                Message::Job(job) => return Some(job),
                Message::Stop => self.stopping = true,
            }
        }
    }

    fn put_by(&mut self, job: Job) {
        if let Some(before) = self.spare.replace(job) {
            self.answer(before, Err(StoreError::Failed("a newer one took its place".into())));
        }
    }

    fn write(&mut self, job: Job) {
        let mut pause = PAUSES.0;
        let result = loop {
            let result = self.committer.commit(&job.change, job.urgency);
            let Err(why) = &result else { break result };
            if job.urgency != Urgency::Insisted {
                break result;
            }
            if self.stopping {
                tracing::error!(%why, "a change that is in effect could not be written; the next start does not know it");
                break result;
            }
            tracing::error!(%why, retry_in = ?pause, "a change is in effect and not written yet; commands are refused until it is");
            self.hold(why, pause);
            pause = (pause * 2).min(PAUSES.1);
        };
        self.answer(job, result);
    }

    /// Until the next try: refuses what is asked, keeps what is insisted on.
    fn hold(&mut self, why: &StoreError, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            match self.todo.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Job(job)) if job.urgency == Urgency::Insisted => self.kept.push_back(job),
                Ok(Message::Job(job)) => self.answer(job, Err(why.clone())),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.stopping = true;
                    return;
                }
                Err(RecvTimeoutError::Timeout) => return,
            }
        }
    }

    fn answer(&self, job: Job, result: Result<Revision, StoreError>) {
        if job.urgency != Urgency::Spare {
            self.committer.figures.answered();
        }
        // Whoever asked may have gone.
        let _ = job.receipt.send(result);
    }
}

#[cfg(test)]
mod tests;
