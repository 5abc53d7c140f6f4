//! The users: real requests over kept-alive connections through the proxy's listener.
//!
//! Each of [`CLIENTS`] connections sends a request every [`PERIOD`], as the next user in turn; so a user
//! never has two requests under way. The HTTP client is as small as it can be: it trusts our own
//! proxy, and every read is bounded all the same.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::ledger::{Arm, Seen, SharedLedger};
use super::{CANARY, STABLE};

pub const USERS: usize = 300;
pub const REQUESTS_PER_SECOND: u32 = CLIENTS * 1000 / PERIOD.as_millis() as u32;
const CLIENTS: u32 = 40;
const PERIOD: Duration = Duration::from_millis(100);
/// An answer that takes longer counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A longer line in an answer is no answer of ours.
const MAX_LINE_BYTES: u64 = 8 << 10;
const MAX_BODY_BYTES: u64 = 1 << 20;
const MAX_FIELDS: usize = 100;

/// Starts the users; dropping the set ends them.
pub fn start(proxy: SocketAddr, ledger: SharedLedger) -> JoinSet<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let client = |index| {
        let offset = PERIOD * index / CLIENTS;
        client(proxy, offset, next.clone(), ledger.clone())
    };
    (0..CLIENTS).map(client).collect()
}

async fn client(proxy: SocketAddr, offset: Duration, next: Arc<AtomicUsize>, ledger: SharedLedger) {
    // Spread over the period, so that the requests come evenly.
    tokio::time::sleep(offset).await;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    loop {
        ticks.tick().await;
        let number = next.fetch_add(1, Ordering::Relaxed);
        let seen = request(&mut connection, proxy, number).await;
        ledger.lock().record(seen);
    }
}

async fn request(connection: &mut Option<Connection>, proxy: SocketAddr, number: usize) -> Seen {
    let user = number % USERS;
    // Every fourth wants its answer as a stream.
    let message = chat(user, number.is_multiple_of(4));
    let mut sent = Instant::now();
    let exchange = async {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(proxy).await?,
        };
        sent = Instant::now();
        let answer = open.exchange(&message).await?;
        *connection = Some(open);
        Ok::<_, io::Error>(answer)
    };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
    let ended = Instant::now();
    match answer {
        Ok(Ok(Answer { status, arm })) => Seen { user, sent, ended, arm, failed: status >= 500 },
        _ => Seen { user, sent, ended, arm: None, failed: true },
    }
}

fn chat(user: usize, stream: bool) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"support","stream":{stream},"messages":[{{"role":"user","content":"Where is my parcel?"}}]}}"#
    );
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: support-bot\r\nx-user-id: user-{user}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

struct Answer {
    status: u16,
    arm: Option<Arm>,
}

/// A kept-alive connection to the proxy.
struct Connection(BufReader<TcpStream>);

/// Where an answer's body ends.
enum Body {
    Length(u64),
    Chunked,
}

impl Connection {
    async fn open(proxy: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(proxy).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    async fn exchange(&mut self, message: &[u8]) -> io::Result<Answer> {
        self.0.write_all(message).await?;
        let (answer, body) = self.head().await?;
        match body {
            Body::Length(length) => self.skip(length).await?,
            Body::Chunked => self.skip_chunks().await?,
        }
        Ok(answer)
    }

    async fn head(&mut self) -> io::Result<(Answer, Body)> {
        let status_line = self.line().await?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut answer = Answer { status: status.ok_or(ErrorKind::InvalidData)?, arm: None };
        let mut body = Body::Length(0);
        for _ in 0..MAX_FIELDS {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else {
                return if line.is_empty() { Ok((answer, body)) } else { Err(ErrorKind::InvalidData.into()) };
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-pointsman-version" => answer.arm = arm(value),
                "content-length" => body = Body::Length(value.parse().map_err(|_| ErrorKind::InvalidData)?),
                "transfer-encoding" => body = Body::Chunked,
                _ => {}
            }
        }
        Err(ErrorKind::InvalidData.into())
    }

    async fn skip_chunks(&mut self) -> io::Result<()> {
        let mut total = 0;
        loop {
            let size = u64::from_str_radix(self.line().await?.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
            total += size;
            if total > MAX_BODY_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
            self.skip(size).await?;
            // The line end after the chunk, or, after the last one, that of the empty trailer.
            self.line().await?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    async fn skip(&mut self, length: u64) -> io::Result<()> {
        if length > MAX_BODY_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        let skipped = tokio::io::copy(&mut (&mut self.0).take(length), &mut tokio::io::sink()).await?;
        if skipped == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.0).take(MAX_LINE_BYTES).read_line(&mut line).await?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

fn arm(version: &str) -> Option<Arm> {
    match version {
        STABLE => Some(Arm::Stable),
        CANARY => Some(Arm::Canary),
        _ => None,
    }
}
