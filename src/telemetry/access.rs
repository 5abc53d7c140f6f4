//! The access log: one JSON line per exchange, written off the request path.
//!
//! Workers put records into a bounded queue and never wait: a full queue drops the record and counts it.
//! One thread writes them in batches. A write error is logged once, its records are counted as failed,
//! and the log goes on trying; nothing here can hold up or end the proxy.
//!
//! | field | meaning |
//! | --- | --- |
//! | `time` | when the request's head came, RFC 3339 in UTC with milliseconds |
//! | `client` | the peer's IP address |
//! | `protocol` | what the client spoke: HTTP/1.0, HTTP/1.1 or HTTP/2 |
//! | `method`, `host`, `path` | as sent; the path is **without its query**, which may hold secrets |
//! | `environment`, `agent`, `version` | who answered; agent and version are absent where none was found |
//! | `bucket`, `reason`, `epoch` | how the decision fell, and by which routing table |
//! | `status` | the answer's status, absent where the client got none |
//! | `outcome` | as the label of `pointsman_requests_total`; absent where no version was asked |
//! | `error` | the code, where Pointsman itself answered with an error |
//! | `duration_us`, `ttfb_us` | to the last byte, and to the head of the answer, in microseconds |
//! | `stream` | how the stream ended, as the label of `pointsman_streams_total`; absent where the answer was none |
//! | `ttft_us` | to the first event with content, in microseconds |
//! | `input_tokens`, `output_tokens`, `model` | as the answer itself says |
//! | `request_bytes`, `response_bytes` | of the bodies, as passed on |
//! | `endpoint`, `retries` | where the last attempt went, and how many there were before it |
//! | `request_id`, `user_agent` | the request's own headers |
//!
//! Left out on purpose: the query, other headers, bodies, and the bucketing key, which often names a person.
//!
//! Bounds: [`QUEUE_RECORDS`] records, whose texts are cut at [`PATH_BYTES`] and [`TEXT_BYTES`], so the queue
//! holds at most some 18 MiB; a batch is [`BATCH_BYTES`] and one record; a stop waits [`STOP_WAIT`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::counters::ErrorCode;
use super::stats::{Outcome, StreamEnd};

mod writer;

/// How many records may wait for the writer.
pub const QUEUE_RECORDS: usize = 8_192;
/// Longer paths are cut.
pub const PATH_BYTES: usize = 1_024;
/// Longer hosts, request ids, user agents and endpoints are cut.
pub const TEXT_BYTES: usize = 256;
/// A batch is written when it is this large, or when the queue is empty.
pub const BATCH_BYTES: usize = 64 << 10;
/// How long [`AccessLog::stop`] waits for a writer whose target does not take anything.
pub const STOP_WAIT: Duration = Duration::from_secs(2);

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    Stdout,
    /// Made if missing, with mode 0640; always appended to.
    File(PathBuf),
}

/// One exchange. The module's page says what each field means.
#[derive(Clone, Debug, Serialize)]
pub struct AccessRecord {
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    pub client: IpAddr,
    pub protocol: &'static str,
    #[serde(serialize_with = "method")]
    pub method: http::Method,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Without the query.
    pub path: String,
    #[serde(serialize_with = "name")]
    pub environment: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_name")]
    pub agent: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_name")]
    pub version: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    pub epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "outcome")]
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "error_code")]
    pub error: Option<ErrorCode>,
    pub duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "stream_end")]
    pub stream: Option<StreamEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl AccessRecord {
    /// Cuts what a client can make long, and gives the memory back.
    fn cut(&mut self) {
        cut(&mut self.path, PATH_BYTES);
        let texts = [&mut self.host, &mut self.endpoint, &mut self.request_id, &mut self.user_agent];
        for text in texts.into_iter().flatten() {
            cut(text, TEXT_BYTES);
        }
    }
}

fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.shrink_to_fit();
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    // A clock set before 1970 or after 9999 has no such form; a wrong clock must not cost the log.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    s.collect_str(&humantime::format_rfc3339_millis((*time).clamp(SystemTime::UNIX_EPOCH, last)))
}

fn name<S: Serializer>(name: &Arc<str>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(name)
}

fn optional_name<S: Serializer>(name: &Option<Arc<str>>, s: S) -> Result<S::Ok, S::Error> {
    name.as_deref().serialize(s)
}

fn method<S: Serializer>(method: &http::Method, s: S) -> Result<S::Ok, S::Error> {
    let name = method.as_str();
    s.serialize_str(name.get(..TEXT_BYTES).unwrap_or(name))
}

fn outcome<S: Serializer>(outcome: &Option<Outcome>, s: S) -> Result<S::Ok, S::Error> {
    outcome.map(Outcome::as_str).serialize(s)
}

fn stream_end<S: Serializer>(end: &Option<StreamEnd>, s: S) -> Result<S::Ok, S::Error> {
    end.map(StreamEnd::as_str).serialize(s)
}

fn error_code<S: Serializer>(code: &Option<ErrorCode>, s: S) -> Result<S::Ok, S::Error> {
    code.map(ErrorCode::as_str).serialize(s)
}

/// What became of the records.
#[derive(Debug, Default)]
pub struct AccessCounters {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl AccessCounters {
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
    /// The queue was full, or the log had stopped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
    /// The target did not take them.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// A handle to the log; clones share the queue and the writer, which ends when the last is gone.
#[derive(Clone)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    sample: Sample,
    shared: Arc<Shared>,
}

/// What handles and writer share beside the queue.
#[derive(Default)]
struct Shared {
    counters: Arc<AccessCounters>,
    /// Asked for, and not yet done. Flags, because a full queue would take no message.
    reopen: AtomicBool,
    stop: AtomicBool,
    /// Closed by the writer when it is done.
    done: Done,
}

type Done = Mutex<Option<Receiver<std::convert::Infallible>>>;

enum Message {
    Record(Box<AccessRecord>),
    /// Look at the flags.
    Wake,
}

impl AccessLog {
    /// Opens the target and starts the writer. `sample` (0..=1) is the share of sound requests that is logged.
    pub fn start(target: AccessTarget, sample: f64) -> std::io::Result<Self> {
        let sink = writer::Sink::open(target)?;
        Self::start_with(sink, sample)
    }

    fn start_with(sink: writer::Sink, sample: f64) -> std::io::Result<Self> {
        let (queue, records) = sync_channel(QUEUE_RECORDS);
        let (alive, done) = sync_channel(0);
        let shared = Arc::new(Shared { done: Mutex::new(Some(done)), ..Shared::default() });
        let writer = writer::Writer::new(sink, shared.clone());
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            writer.run(&records);
            drop(alive);
        })?;
        Ok(Self { queue, sample: Sample::new(sample), shared })
    }

    /// Whether to make a record at all: always of an error, else of the sampled share. `random` is the caller's.
    pub fn wants(&self, error: bool, random: u64) -> bool {
        error || self.sample.takes(random)
    }

    /// Never blocks; a full queue drops the record and counts it.
    pub fn push(&self, mut record: AccessRecord) {
        record.cut();
        if self.queue.try_send(Message::Record(Box::new(record))).is_err() {
            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, after a rotation moved it. If that fails, the log goes on in the old one.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.wake();
    }

    pub fn counters(&self) -> Arc<AccessCounters> {
        self.shared.counters.clone()
    }

    /// Writes what is queued and ends the writer; waits for it, but not longer than [`STOP_WAIT`].
    /// Records that come later are dropped. Answers whether all was written out in time.
    pub fn stop(&self) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        let done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The writer never sends: it closes its end when it is done.
        done.is_none_or(|done| done.recv_timeout(STOP_WAIT) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected))
    }

    fn wake(&self) {
        // A full queue needs no waking: its writer is at work and looks at the flags after the batch.
        let _ = self.queue.try_send(Message::Wake);
    }
}

/// The share of requests that is logged.
#[derive(Clone, Copy, Debug)]
enum Sample {
    All,
    /// Random numbers below it.
    Below(u64),
}

impl Sample {
    fn new(share: f64) -> Self {
        if share >= 1.0 {
            return Self::All;
        }
        // The cast saturates: a negative share, or none at all (NaN), is 0.
        Self::Below((share * 2f64.powi(64)) as u64)
    }

    fn takes(self, random: u64) -> bool {
        match self {
            Self::All => true,
            Self::Below(limit) => random < limit,
        }
    }
}

#[cfg(test)]
mod tests;
