//! From the answer that breaches the guard to the last request that the canary gets, as clients see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::measured;
use super::process::Proxy;
use crate::harness::{Endpoint, Wire, eventually, ok, status};

/// Together some 2,000 requests a second, of 400 users: each asks five times a second.
const CLIENTS: usize = 8;
const PACE: Duration = Duration::from_millis(4);
const USERS_EACH: usize = 50;

/// The guard, as the file and the clients know it.
const LIMIT: f64 = 0.2;
const WINDOW: Duration = Duration::from_secs(10);
const MIN_REQUESTS: usize = 20;

/// So many answers of the canary before it breaks, and of anyone after the rollback.
const HEALTHY: usize = 80;
const AFTERMATH: usize = 3_000;

/// What a machine that does other things too must keep. The goal is 100 ms; the figure is printed.
const DELAY_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Seen {
    user: usize,
    sent: Instant,
    received: Instant,
    canary: bool,
    failed: bool,
}

/// A canary that answers well until it is broken.
#[derive(Clone, Default)]
struct Canary {
    broken: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Canary {
    fn start(&self) -> Endpoint {
        let canary = self.clone();
        Endpoint::answering(move |_| {
            canary.answered.fetch_add(1, Ordering::SeqCst);
            if canary.broken.load(Ordering::SeqCst) { status(500) } else { ok("new") }
        })
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

#[test]
fn a_breach_ends_the_canary_s_traffic_at_once() {
    for share in [5, 50] {
        breach_at(share);
    }
}

fn breach_at(share: u32) {
    let (stable, canary) = (Endpoint::saying("old"), Canary::default());
    let endpoint = canary.start();
    let proxy = Proxy::with_yaml(&format!(
        "agents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    deployment:\n      version: 2.0.0\n      steps: [{{ weight: {share}%, hold: 1h }}, {{ weight: 100% }}]\n      guards: [{{ metric: error_rate, above: 20%, window: 10s, min_requests: {MIN_REQUESTS} }}]\n",
        stable.url(),
        endpoint.url()
    ));
    let clients = Clients::start(proxy.proxy);
    eventually("the canary serves", || canary.answered() >= HEALTHY);
    canary.broken.store(true, Ordering::SeqCst);
    eventually("the guard trips", || proxy.admin_get("/api/v1/agents/bot/deployment").json()["state"] == "rolled_back");
    let back = clients.answers();
    eventually("traffic goes on", || clients.answers() >= back + AFTERMATH);
    let seen = clients.stop();

    let to_canary = || seen.iter().filter(|seen| seen.canary);
    let breach = breach(&seen).expect("the guard tripped, so the clients must have seen why");
    let last = to_canary().map(|seen| seen.sent).max().expect("the canary served");
    let delay = last.saturating_duration_since(breach);
    report(share, &seen, breach, delay);

    assert!(delay < DELAY_MAX, "the canary got a request {delay:?} after the breach");
    // None of what the assertion above rests on is hidden from the clients, such as a second attempt.
    assert_eq!(to_canary().count(), canary.answered());
    // And the silence means something: its users went on asking, and all is well for them.
    let was_in_canary = |user| to_canary().any(|seen| seen.user == user);
    let later: Vec<_> = seen.iter().filter(|seen| seen.sent > breach + DELAY_MAX).collect();
    assert!(later.iter().all(|seen| !seen.failed), "failures after the rollback");
    assert!(later.iter().any(|seen| was_in_canary(seen.user)), "none of {} was a user of the canary", later.len());
}

/// When the canary's answers of the window, in the order in which they came, first exceed the limit.
fn breach(seen: &[Seen]) -> Option<Instant> {
    let mut answers: Vec<_> = seen.iter().filter(|seen| seen.canary).collect();
    answers.sort_by_key(|seen| seen.received);
    let mut oldest = 0;
    answers.iter().enumerate().find_map(|(newest, answer)| {
        while answer.received - answers[oldest].received > WINDOW {
            oldest += 1;
        }
        let window = &answers[oldest..=newest];
        let errors = window.iter().filter(|seen| seen.failed).count();
        let exceeds = errors as f64 > LIMIT * window.len() as f64;
        (window.len() >= MIN_REQUESTS && exceeds).then_some(answer.received)
    })
}

fn report(share: u32, seen: &[Seen], breach: Instant, delay: Duration) {
    let canary: Vec<_> = seen.iter().filter(|seen| seen.canary).collect();
    let (failed, after) =
        (canary.iter().filter(|seen| seen.failed).count(), canary.iter().filter(|seen| seen.sent > breach).count());
    let began = seen.iter().map(|seen| seen.sent).min().unwrap_or(breach);
    let ended = seen.iter().map(|seen| seen.received).max().unwrap_or(breach);
    let rate = seen.len() as f64 / (ended - began).as_secs_f64();
    measured(format_args!(
        "canary of {share} %, {rate:.0} requests/s: last request to it {:.1} ms after the breaching answer, {after} sent after that; {failed} of its {} answers failed",
        delay.as_secs_f64() * 1000.0,
        canary.len()
    ));
}

/// Clients on kept-alive connections, each at its own pace; they end when dropped.
struct Clients {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<Seen>>>,
}

impl Clients {
    fn start(proxy: SocketAddr) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |index| {
            let (stop, answers) = (stop.clone(), answers.clone());
            std::thread::spawn(move || ask(proxy, index, &stop, &answers))
        };
        let threads = (0..CLIENTS).map(client).collect();
        Self { stop, answers, threads }
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }

    fn stop(mut self) -> Vec<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).flat_map(|thread| thread.join().unwrap()).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn ask(proxy: SocketAddr, client: usize, stop: &AtomicBool, answers: &AtomicUsize) -> Vec<Seen> {
    let mut wire = Wire::connect(proxy);
    let mut seen = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let user = client * USERS_EACH + seen.len() % USERS_EACH;
        let sent = Instant::now();
        let answer = wire.get("/", &format!("user-{user}"));
        let received = Instant::now();
        seen.push(Seen { user, sent, received, canary: answer.version() == "2.0.0", failed: answer.status() != 200 });
        answers.fetch_add(1, Ordering::SeqCst);
        // The pace, not a wait for something. Who is late does not catch up in a burst.
        next = (next + PACE).max(received);
        std::thread::sleep(next - received);
    }
    seen
}
