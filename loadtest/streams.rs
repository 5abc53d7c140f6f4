//! The client of `loadtest/compare --streams`: many streams at once, each held against its digest.
//!
//! It asks for OpenAI-shaped streams that the mock agent sends, and says on its output, in lines of JSON, when all
//! streams are open at the same time and, at the end, how many were whole and when their first tokens came. A stream
//! is whole if its bytes have the SHA-256 that its head promised, it names the model that this very request asked
//! for, and it ends with `[DONE]`.
//!
//! One thread; bounded by its arguments: streams, the time of one stream, and the failures that it quotes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout};

#[path = "streams/exchange.rs"]
mod exchange;

use exchange::{Client, Heard};

/// So many failures are told in words.
const QUOTED_FAILURES: usize = 5;
/// File descriptors beside those of the connections.
const SPARE_DESCRIPTORS: u64 = 32;

/// Many checked streams at once; see loadtest/compare --streams
#[derive(Debug, Parser)]
struct Args {
    /// Whom to ask
    #[arg(long)]
    address: SocketAddr,
    /// Path and query of each request
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// How many streams are open at once
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// For how long each is followed by another; 0: one each
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
    /// The starts of the first streams are spread over this time
    #[arg(long, default_value_t = 0.0)]
    ramp: f64,
    /// A stream that takes longer has failed
    #[arg(long, default_value_t = 300.0)]
    patience: f64,
    /// HTTP/2 with prior knowledge over so many connections; without it, each stream has an HTTP/1.1 connection
    #[arg(long)]
    http2: Option<usize>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What all streams write to; there is one thread.
#[derive(Default)]
struct Tally {
    open: usize,
    most_open: usize,
    whole: u64,
    failed: u64,
    failures: Vec<String>,
    bytes: u64,
    first_tokens: Vec<Duration>,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` alone runs every benchmark: this one needs somebody to ask.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        println!("streams: nobody to ask; see loadtest/compare --streams");
        return Ok(());
    }
    let args = Args::parse();
    ensure!(args.streams > 0 && args.http2 != Some(0), "no streams or no connections");
    let descriptors = args.http2.unwrap_or(args.streams) as u64 + SPARE_DESCRIPTORS;
    allow_descriptors(descriptors)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = LocalSet::new().block_on(&runtime, load(&args))?;
    println!("{}", tally.report());
    Ok(())
}

fn allow_descriptors(needed: u64) -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    ensure!(
        maximum.is_none_or(|most| most >= needed),
        "{needed} file descriptors are needed, and the hard limit is {}: raise it (ulimit -Hn)",
        maximum.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of descriptors")
}

async fn load(args: &Args) -> anyhow::Result<Tally> {
    let shared = match args.http2 {
        Some(connections) => Client::shared(args.address, connections).await?,
        None => Vec::new(),
    };
    let tally = Rc::<RefCell<Tally>>::default();
    let begin = Instant::now();
    let slots = (0..args.streams).map(|number| {
        let slot = Slot {
            number,
            client: if shared.is_empty() { Client::new(args.address) } else { shared[number % shared.len()].clone() },
            path: args.path.clone(),
            slots: args.streams,
            start: begin + Duration::from_secs_f64(args.ramp * number as f64 / args.streams as f64),
            end: begin + Duration::from_secs_f64(args.seconds),
            patience: Duration::from_secs_f64(args.patience),
            tally: tally.clone(),
        };
        tokio::task::spawn_local(slot.run())
    });
    for slot in slots.collect::<Vec<_>>() {
        slot.await.context("a stream's task failed")?;
    }
    Ok(tally.take())
}

/// One of the streams that are open at once: one after the other, until the time is over.
struct Slot {
    number: usize,
    client: Client,
    path: String,
    slots: usize,
    start: Instant,
    end: Instant,
    patience: Duration,
    tally: Rc<RefCell<Tally>>,
}

impl Slot {
    async fn run(mut self) {
        sleep_until(self.start).await;
        let mut turn = 0_u64;
        loop {
            let model = format!("stream-{}-{turn}", self.number);
            let (tally, slots) = (self.tally.clone(), self.slots);
            let mut is_open = false;
            let opened = || {
                is_open = true;
                tally.borrow_mut().opened(slots);
            };
            let heard = timeout(self.patience, self.client.ask(&self.path, &model, opened)).await;
            self.tally.borrow_mut().closed(is_open, heard.unwrap_or_else(|_| Err(anyhow::anyhow!("it took too long"))));
            turn += 1;
            if Instant::now() >= self.end {
                return;
            }
        }
    }
}

impl Tally {
    fn opened(&mut self, all: usize) {
        self.open += 1;
        if self.open > self.most_open {
            self.most_open = self.open;
            if self.open == all {
                println!("{}", json!({ "open": all }));
            }
        }
    }

    fn closed(&mut self, was_open: bool, heard: anyhow::Result<Heard>) {
        self.open -= usize::from(was_open);
        match heard {
            Ok(heard) => {
                self.whole += 1;
                self.bytes += heard.bytes;
                self.first_tokens.push(heard.first_token);
            }
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < QUOTED_FAILURES {
                    self.failures.push(format!("{error:#}"));
                }
            }
        }
    }

    fn report(mut self) -> serde_json::Value {
        self.first_tokens.sort_unstable();
        let first_token = |share: f64| {
            let rank = (self.first_tokens.len() as f64 * share).ceil() as usize;
            self.first_tokens.get(rank.saturating_sub(1)).map(|time| time.as_nanos() as f64 / 1000.0)
        };
        json!({
            "whole": self.whole, "failed": self.failed, "failures": self.failures,
            "most_open": self.most_open, "bytes": self.bytes,
            "first_token_us": { "p50": first_token(0.5), "p99": first_token(0.99), "max": first_token(1.0) },
        })
    }
}
