//! What a look-up of a conversation costs, and what a million of them weigh: `cargo bench --bench pins`.
//!
//! Goals: a look-up under 100 ns, a million pins in under 200 MiB.
//!
//! What is asked for of a million conversations makes the difference: one alone is in the processor's caches, any of
//! them is not. `bare` is what the machine takes for one look at any place in as much memory, without a table:
//! each place says where the next one is, so that no two looks overlap. A look-up needs two such, one after the other.
//! The mix is of 64 clients that each take some turns of one conversation, then of another, the popular ones often.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use pointsman::config::Config;
use pointsman::routing::compile::compile;
use pointsman::routing::pin::{PinSecret, Pins, SharedPins};
use pointsman::routing::seal::KeyRing;
use pointsman::routing::spec::{Desired, DesiredAgent, Notes};
use pointsman::routing::table::Agent;
use pointsman::routing::token;
use pointsman::telemetry::stats::StatsRegistry;

const CONVERSATIONS: usize = 1_000_000;
const CLIENTS: usize = 64;
const TURNS: usize = 8;
const NOW: u32 = 1_800_000_000;

fn agent() -> Arc<Agent> {
    let text = "agents:\n  bot:\n    versions:\n      1.0.0: { endpoints: ['http://127.0.0.1:7001'] }\n      2.0.0: { endpoints: ['http://127.0.0.1:7002'] }\n    stable: 1.0.0\n    conversations: { id: ['header:x-conversation-id'] }\n";
    let config = Config::parse("bench.yaml", text, &|_| None).expect("a sound file");
    let spec = config.agents[0].spec.clone();
    let agents = vec![DesiredAgent { spec, barred: vec![], left: vec![], canary: None, notes: Notes::default() }];
    let desired = Desired { config_hash: "bench".into(), agents };
    compile(&desired, None, &StatsRegistry::new(1), 1).expect("a table").agents[0].clone()
}

/// As long as a UUID, which is what most ids are.
fn id(number: usize) -> String {
    format!("5f1d7e84-1b0a-4a38-9a5e-{number:012}")
}

fn fill(pins: &SharedPins, agent: &Agent, conversations: usize) {
    let (_, seat) = agent.conversations(pins).expect("has conversations");
    for number in 0..conversations {
        let key = seat.key(id(number).as_bytes()).expect("a sound id");
        pins.make(seat, key, number % 2, NOW).expect("there is room").0.end(NOW);
    }
}

/// Random numbers, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// By Zipf's law: the second one half as often as the first, the third a third as often.
    fn zipf(&mut self, end: usize) -> usize {
        let share = self.next() as f64 / u64::MAX as f64;
        ((end as f64).powf(share) as usize - 1).min(end - 1)
    }
}

/// Cache lines of which each names the next, one circle through all of them.
fn circle(bytes: usize) -> Vec<[u64; 8]> {
    let (mut lines, mut random) = (vec![[0; 8]; bytes / 64], Random(4711));
    (0..lines.len()).for_each(|line| lines[line][0] = line as u64);
    for line in (1..lines.len()).rev() {
        lines.swap(line, random.below(line));
    }
    lines
}

/// The conversations of requests as they come: of each client in turn.
fn mix() -> Vec<usize> {
    let mut random = Random(4711);
    let mut clients = [0; CLIENTS];
    let of_client = |request: usize| {
        let conversation = &mut clients[request % CLIENTS];
        if request / CLIENTS % TURNS == request % CLIENTS % TURNS {
            *conversation = random.zipf(CONVERSATIONS) * 7919 % CONVERSATIONS;
        }
        *conversation
    };
    (0..CONVERSATIONS).map(of_client).collect()
}

/// Of this process, in bytes; zero where the system does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok()).map_or(0, |kib| kib << 10)
}

fn pins(c: &mut Criterion) {
    let agent = agent();
    let before = resident();
    let table = Pins::new(PinSecret([7; 32]), CONVERSATIONS);
    fill(&table, &agent, CONVERSATIONS);
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let (counted, grown) = (table.stats().bytes, resident().saturating_sub(before));
    println!("{CONVERSATIONS} pins: {:.1} MiB counted, {:.1} MiB of resident memory", mib(counted), mib(grown));

    let (_, seat) = agent.conversations(&table).expect("has conversations");
    let ids = |numbers: Vec<usize>| {
        let ids: Vec<String> = numbers.into_iter().map(id).collect();
        let mut at = 0;
        move || {
            at = (at + 1) % ids.len();
            ids[at].as_bytes().to_vec()
        }
    };
    let mut group = c.benchmark_group("pins");
    group.measurement_time(Duration::from_secs(3));
    group.bench_function("key", |b| b.iter(|| seat.key(black_box(b"5f1d7e84-1b0a-4a38-9a5e-0c2a4d9f6e11"))));
    let hot = seat.key(id(4711).as_bytes()).expect("a sound id");
    group.bench_function("find and end, one conversation", |b| {
        b.iter(|| table.find(seat, black_box(hot), NOW).expect("is there").0.end(NOW));
    });
    let even = (0..CONVERSATIONS).map(|number| number * 7919 % CONVERSATIONS).collect();
    for (name, conversations) in [("any of a million", even), ("the mix", mix())] {
        let mut next = ids(conversations);
        group.bench_function(format!("key, find and end, {name}"), |b| {
            let turn = |id: Vec<u8>| {
                let key = seat.key(&id).expect("a sound id");
                table.find(seat, key, NOW).expect("is there").0.end(NOW);
            };
            b.iter_batched(&mut next, turn, criterion::BatchSize::SmallInput);
        });
    }
    let lines = circle(counted);
    let mut line = 0;
    group.bench_function("bare", |b| {
        b.iter(|| line = lines[line][0] as usize);
        black_box(line);
    });
    drop(lines);
    let mut new = CONVERSATIONS;
    group.bench_function("make in a full table", |b| {
        b.iter(|| {
            new += 1;
            let key = seat.key(id(new).as_bytes()).expect("a sound id");
            table.make(seat, key, 0, NOW + 1).expect("evicts").0.end(NOW + 1);
        });
    });
    let ring = KeyRing::new([("2026-01", "a secret of at least thirty-two bytes")]).expect("a key");
    let signed = token::sign(&ring, &agent, seat, 1, 1, NOW).expect("a version");
    group.bench_function("read a token", |b| {
        b.iter(|| token::read(&ring, &agent, seat, black_box(signed.as_bytes()), NOW).expect("is good"));
    });
    group.finish();
}

criterion_group!(benches, pins);
criterion_main!(benches);
