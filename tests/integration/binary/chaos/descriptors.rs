//! More connections than there are descriptors, or places.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Holdings, after, agent, good, is_well, measured, while_others_are_served};
use crate::binary::process::{File, Process, Proxy, command, logged};
use crate::harness::{PATIENCE, PORTS, Wire, eventually};

const SH: [&str; 1] = ["sh"];

fn run_with(limit: &str, yaml: &str) -> (File, Proxy) {
    let file = File::new(&format!("{PORTS}{yaml}"));
    let run = command(&["run", "--log-format", "json", "--config", file.path()]);
    let proxy = Proxy::of(&mut after(&format!("ulimit -n {limit}"), &SH, &run));
    (file, proxy)
}

#[test]
fn with_256_descriptors_a_crowd_is_survived() {
    const CROWD: usize = 500;
    let endpoint = good();
    let (_file, proxy) = run_with("256", &format!("agents:\n{}", agent("good", &endpoint, "")));
    is_well(&proxy);
    let before = Holdings::of(&proxy.process);
    while_others_are_served(proxy.proxy, || {
        // The kernel takes them all; half of them say something.
        let mut crowd: Vec<_> = (0..CROWD).map(|_| TcpStream::connect(proxy.proxy).unwrap()).collect();
        for stream in crowd.iter_mut().step_by(2) {
            std::io::Write::write_all(stream, b"GET / HTTP/1.1\r\n").unwrap();
        }
        let most = || Holdings::of(&proxy.process).descriptors;
        eventually("it takes as many as it can", || most() > 100);
        std::thread::sleep(Duration::from_millis(500));
        assert!(most() < 256, "a reserve is left");
        for path in ["/livez", "/readyz", "/metrics", "/api/v1/table"] {
            assert_eq!(proxy.admin_get(path).status(), 200, "{path}");
        }
        assert!(proxy.metric("pointsman_client_connections_held_total") > 0.0, "the metrics name the cause");
        drop(crowd);
        eventually("they are gone", || most() < 80);
    });
    is_well(&proxy);
    before.are_back(&proxy, 8, 32);
    let complaints = logged(&proxy.process, "accept failed; trying again shortly").len();
    assert!(complaints < 100, "it pauses, rather than to fill the log: {complaints}");
    proxy.stop();
}

/// What each process of the crowd opens, from an address of its own.
const EACH: usize = 12_000;
/// `ADDRESS OWN-ADDRESS`: what a process of the crowd is told.
const CROWD: &str = "POINTSMAN_TEST_CROWD";

/// Not a test of its own: what the processes of the crowd run. One process could not have the descriptors.
#[test]
#[ignore = "it is run by the test below, in processes of its own"]
fn crowd() {
    let Ok(told) = std::env::var(CROWD) else { return };
    let (target, own) = told.split_once(' ').unwrap();
    let (target, own): (SocketAddr, SocketAddr) = (target.parse().unwrap(), own.parse().unwrap());
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.bind(&SockAddr::from(own)).ok()?;
        // On its way: whether it is accepted is the other side's affair.
        let _ = socket.connect(&SockAddr::from(target));
        Some(socket)
    };
    let sockets: Vec<_> = (0..EACH).map_while(|_| open()).collect();
    eprintln!("opened {}", sockets.len());
    // Until the test has seen enough.
    let _ = std::io::stdin().read(&mut [0]);
}

struct Crowd {
    child: Child,
    opened: usize,
}

impl Crowd {
    fn start(target: SocketAddr, own: &str) -> Self {
        let mut again = Command::new("sh");
        again.args(["-c", "ulimit -n $(ulimit -H -n); exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
        again.args(["--ignored", "--exact", "--nocapture", "binary::chaos::descriptors::crowd"]);
        again.env(CROWD, format!("{target} {own}:0"));
        let mut child = again.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let opened = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("opened ")?.parse().ok());
        Self { child, opened: opened.expect("it opens some") }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn connections_opened_24_000_at_once_cost_a_bounded_place_each() {
    // What is over the limit waits in the kernel's queue, and what is over that, on the way there.
    const LIMIT: usize = 5_000;
    const MIB: u64 = 96;
    let endpoint = good();
    let (_file, proxy) = run_with(
        "$(ulimit -H -n)",
        &format!("limits: {{ connections: {LIMIT} }}\nagents:\n{}", agent("good", &endpoint, "")),
    );
    is_well(&proxy);
    let before = Holdings::of(&proxy.process);
    let open = || proxy.metric("pointsman_client_connections_open");
    let mut opened = 0;
    while_others_are_served(proxy.proxy, || {
        let address = proxy.proxy;
        let started = ["127.0.0.2", "127.0.0.3"].map(|own| std::thread::spawn(move || Crowd::start(address, own)));
        let crowds = started.map(|crowd| crowd.join().unwrap());
        opened = crowds.iter().map(|crowd| crowd.opened).sum();
        // Two good clients have places of their own.
        let expected = opened.min(LIMIT) as f64;
        eventually("as many as may are in", || open() >= expected);
        assert!(open() <= LIMIT as f64 + 2.0, "a listener may be over by one: {}", open());
        assert!(proxy.metric("pointsman_client_connections_held_total") > 0.0, "the metrics name the cause");
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(proxy.admin_get(path).status(), 200, "{path}");
        }
        let crowded = Holdings::of(&proxy.process);
        let grown = crowded.resident_kib.saturating_sub(before.resident_kib);
        measured(format_args!(
            "{opened} connections opened at once, {} taken in: {} KiB more, {:.1} KiB each",
            open(),
            grown,
            grown as f64 / open()
        ));
        assert!(grown < MIB << 10, "{grown} KiB");
        drop(crowds);
        eventually("they are gone", || open() < 100.0);
    });
    if opened < 2 * EACH {
        measured(format_args!("the limit on open files allows {opened} connections of {}", 2 * EACH));
    }
    is_well(&proxy);
    // Memory that was needed at once is given back, or used again: a second crowd would find it.
    before.are_back(&proxy, 8, MIB);
    proxy.stop();
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let endpoint = good();
    let (_file, proxy) = run_with("1024", &format!("agents:\n{}", agent("good", &endpoint, "")));
    is_well(&proxy);
    // Warm: what is kept for good is there.
    let churn = |count: usize| {
        for number in 0..count {
            let mut wire = Wire::connect(proxy.proxy);
            match number % 4 {
                0 => {}
                1 => wire.write("GET /good HTT").unwrap(),
                2 => wire.write("GET /good HTTP/1.1\r\nhost: a\r\n\r\n").unwrap(),
                _ => drop(wire.get("/good", "u")),
            }
        }
    };
    churn(300);
    let before = Holdings::of(&proxy.process);
    while_others_are_served(proxy.proxy, || churn(3000));
    eventually("all are gone", || proxy.metric("pointsman_client_connections_open") <= 2.0);
    is_well(&proxy);
    before.are_back(&proxy, 8, 16);
    let mut process: Process = proxy.process;
    process.signal("TERM");
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
}
