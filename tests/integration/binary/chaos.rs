//! Faults from outside, met by the real binary. Each test says what must hold while the fault lasts and after it:
//! the process lives, the admin side answers, good clients on other connections are served, memory stays bounded, no
//! descriptor is lost, and the metrics name the cause.
//!
//! `durability` has the kill while agents are rolled back, and the store that cannot be used; `drain` has the stop.

mod clock;
mod descriptors;
mod disk;
mod endpoints;
mod file;
mod kill;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use pointsman::random::Random;

use super::measured;
use super::process::{Process, Proxy};
use crate::harness::{Endpoint, Wire, eventually};

/// An agent that every path below `/<name>` goes to.
fn agent(name: &str, endpoint: &Endpoint, settings: &str) -> String {
    let url = endpoint.url();
    format!(
        "  {name}:\n    match: [{{ path_prefix: /{name} }}]\n    versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}\n    stable: 1.0.0\n{settings}"
    )
}

/// What the good clients ask.
fn good() -> Endpoint {
    Endpoint::saying("good")
}

/// Runs `work` while two good clients ask `/good` on connections of their own. Every answer must be the right one, and
/// there must be some before, during and after.
fn while_others_are_served<T>(proxy: SocketAddr, work: impl FnOnce() -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Also when the work panics, or the scope would wait for ever.
        let ending = Stop(&stop);
        for client in 0..2 {
            let (stop, served) = (&stop, &served);
            scope.spawn(move || {
                let mut wire = Wire::connect(proxy);
                while !stop.load(Ordering::SeqCst) {
                    let answer = wire.get("/good", &format!("u{client}"));
                    assert_eq!((answer.status(), answer.text()), (200, "good"), "a good client on its own connection");
                    served.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let more = || {
            let before = served.load(Ordering::SeqCst);
            eventually("good clients are served", || served.load(Ordering::SeqCst) > before + 10);
        };
        more();
        let result = work();
        more();
        drop(ending);
        result
    })
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    descriptors: usize,
    resident_kib: u64,
}

impl Holdings {
    fn of(process: &Process) -> Self {
        let folder = format!("/proc/{}", process.id());
        let status = std::fs::read_to_string(format!("{folder}/status")).expect("it lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let resident_kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Self { descriptors: std::fs::read_dir(format!("{folder}/fd")).expect("it lives").count(), resident_kib }
    }

    /// Fails unless descriptors come back to what they were then, but for `spare`, and memory has grown by no more
    /// than `mib`.
    fn are_back(self, proxy: &Proxy, spare: usize, mib: u64) {
        let mut now = self;
        eventually(&format!("no descriptor is lost of {self:?}"), || {
            now = Self::of(&proxy.process);
            now.descriptors <= self.descriptors + spare
        });
        let grown = now.resident_kib.saturating_sub(self.resident_kib);
        assert!(grown < mib << 10, "{grown} KiB more than {self:?}");
        assert_eq!(proxy.metric("pointsman_requests_in_flight"), 0.0);
    }
}

/// The admin side answers, and a client that comes only now is served.
fn is_well(proxy: &Proxy) {
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/table"] {
        assert_eq!(proxy.admin_get(path).status(), 200, "{path}");
    }
    let answer = proxy.client().get("/good", "late");
    assert_eq!((answer.status(), answer.text()), (200, "good"));
}

/// A generator whose seed is told: `POINTSMAN_CHAOS_SEED` repeats a run.
fn random(what: &str) -> (Random, u64) {
    let given = std::env::var("POINTSMAN_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = given.unwrap_or_else(clock);
    measured(format_args!("{what}: POINTSMAN_CHAOS_SEED={seed}"));
    (Random::new(seed), seed)
}

/// `command`, started by a shell that does `first` before: limits and mounts are inherited.
fn after(first: &str, shell: &[&str], command: &Command) -> Command {
    let mut started = Command::new(shell[0]);
    started.args(&shell[1..]).args(["-c", &format!("{first}; exec \"$@\""), "sh"]);
    started.arg(command.get_program()).args(command.get_args());
    started.current_dir(env!("CARGO_MANIFEST_DIR"));
    started.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    started
}
