//! Checks against real sockets and real processes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::*;
use crate::control::errands::Runner;
use crate::control::fixture::an_agent;
use crate::telemetry::outside::OutsideCounters;
use crate::tls::client::Clients;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn http(path: &str) -> CheckKind {
    let (method, status) = ("GET".into(), StatusRange::default());
    CheckKind::Http(HttpCheck { method, path: path.into(), status, host: None, headers: vec![] })
}

fn shell(script: &str) -> CheckKind {
    CheckKind::Command(["sh", "-c", script, "check", "{{endpoint}}", "{{agent}} {{version}}"].map(String::from).into())
}

fn check(kind: CheckKind) -> HealthCheck {
    HealthCheck { kind, interval: Duration::from_millis(20), timeout: 5 * SECOND, retries: 0, successes: 1 }
}

fn endpoint(address: SocketAddr) -> EndpointAddress {
    EndpointAddress::Http { host: address.ip().to_string(), port: address.port() }
}

async fn once(check: &HealthCheck, endpoint: &EndpointAddress) -> Result<(), String> {
    let shown = endpoint.to_string();
    let names: Vec<_> = NAMES.into_iter().zip([&shown, "bot", "2.0.0", "1.0.0", "production"]).collect();
    let (tls, clients) = (Arc::default(), Clients::default());
    let asked = check::once(check, Peer { address: endpoint, tls: &tls, clients: &clients }, &names).await;
    asked.map_err(|trouble| match trouble {
        check::Trouble::Endpoint(what) => what,
        check::Trouble::Ours => "no descriptor".into(),
    })
}

/// Answers each connection, on a thread that ends with the test's process; gives what it was asked.
fn server(answer: &'static [u8]) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (told, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if told.send(head(&mut stream)).is_err() || stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

#[tokio::test]
async fn an_http_check_asks_as_it_is_told() {
    let (address, asked) = server(b"HTTP/1.1 204 No Content\r\n\r\n");
    let CheckKind::Http(plain) = http("/healthz?deep=1") else { unreachable!() };
    let kind = CheckKind::Http(HttpCheck {
        method: "HEAD".into(),
        host: Some("agent.internal".into()),
        headers: vec![("x-probe".into(), "yes".into())],
        ..plain.clone()
    });
    assert_eq!(once(&check(kind), &endpoint(address)).await, Ok(()));
    let request = asked.recv_timeout(PATIENCE).expect("it was asked").to_lowercase();
    assert!(request.starts_with("head /healthz?deep=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: agent.internal\r\n") && request.contains("\r\nx-probe: yes\r\n"), "{request}");

    assert_eq!(once(&check(CheckKind::Http(plain)), &endpoint(address)).await, Ok(()));
    let request = asked.recv_timeout(PATIENCE).expect("it was asked");
    assert!(request.contains(&format!("\r\nhost: {address}\r\n")), "{request}");
}

#[tokio::test]
async fn a_wrong_status_is_shown_with_what_came_with_it() {
    let (address, _asked) = server(b"HTTP/1.1 500 X\r\ncontent-length: 15\r\n\r\nthe db\nis down!");
    let failed = once(&check(http("/")), &endpoint(address)).await;
    assert_eq!(failed, Err("status 500, expected 200-299: the db is down!".into()));
    let CheckKind::Http(plain) = http("/") else { unreachable!() };
    for (low, high, good) in [(500, 500, true), (400, 599, true), (501, 599, false)] {
        let status = StatusRange::new(low, high).expect("a range");
        let kind = CheckKind::Http(HttpCheck { status, ..plain.clone() });
        assert_eq!(once(&check(kind), &endpoint(address)).await.is_ok(), good, "{low}-{high}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_sensible_fails_in_time() {
    // A listener that nobody accepts from takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = endpoint(silent.local_addr().expect("it is bound"));
    let impatient = HealthCheck { timeout: Duration::from_millis(100), ..check(http("/")) };
    assert_eq!(once(&impatient, &address).await, Err("no answer in 100ms".into()));
    assert_eq!(once(&check(CheckKind::Tcp), &address).await, Ok(()), "it does accept");

    // The head arrives, the body never does: the status is enough.
    let (slow, _asked) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
    assert_eq!(once(&check(http("/")), &endpoint(slow)).await, Ok(()));
    let (noise, _asked) = server(b"SSH-2.0-x\r\n\r\n");
    let failed = once(&check(http("/")), &endpoint(noise)).await.expect_err("no HTTP");
    assert!(failed.starts_with("no valid answer: "), "{failed}");
    let (mute, _asked) = server(b"");
    let failed = once(&check(http("/")), &endpoint(mute)).await.expect_err("it closes at once");
    assert!(failed.starts_with("no valid answer: "), "{failed}");
}

#[tokio::test]
async fn a_refused_connection_fails_both_kinds() {
    let address = endpoint(closed_port());
    for kind in [http("/"), CheckKind::Tcp] {
        let failed = once(&check(kind), &address).await.expect_err("nobody listens");
        assert!(failed.starts_with("cannot connect: Connection refused"), "{failed}");
    }
}

#[tokio::test]
async fn a_socket_file_is_asked_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agent.sock");
    let address = EndpointAddress::Unix(path.clone());
    let failed = once(&check(CheckKind::Tcp), &address).await.expect_err("there is none yet");
    assert!(failed.starts_with("cannot connect: No such file"), "{failed}");
    let listener = UnixListener::bind(&path).expect("a new socket");
    assert_eq!(once(&check(CheckKind::Tcp), &address).await, Ok(()));
    let answers = std::thread::spawn(move || {
        // The first in the queue is the one that only knocked.
        let _knock = listener.accept().expect("a connection");
        let (mut stream, _) = listener.accept().expect("a connection");
        let asked = head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("it reads");
        asked
    });
    assert_eq!(once(&check(http("/ready")), &address).await, Ok(()));
    let asked = answers.join().expect("it was asked");
    assert!(asked.contains("\r\nhost: localhost\r\n"), "{asked}");
}

/// Whether a process lives; one that is dead and not yet waited for does not.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).is_some_and(|state| !"ZX".contains(state))
}

async fn dies(pid: &str) {
    let deadline = Instant::now() + PATIENCE;
    while lives(pid) {
        assert!(Instant::now() < deadline, "{pid} outlives its check");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_command_says_by_its_exit_code_how_it_went() {
    let address = endpoint(closed_port());
    assert_eq!(once(&check(shell("exit 0")), &address).await, Ok(()));
    assert_eq!(once(&check(shell("exit 3")), &address).await, Err("exit code 3, without output".into()));
    let said = once(&check(shell("echo out; echo err >&2; exit 1")), &address).await;
    assert_eq!(said, Err("exit code 1: out err".into()));
    assert_eq!(once(&check(shell("kill -9 $$")), &address).await, Err("ended by signal 9, without output".into()));
    let args = once(&check(shell("echo $1 $2; exit 1")), &address).await;
    assert_eq!(args, Err(format!("exit code 1: {address} bot 2.0.0")));
    let none = check(CheckKind::Command(vec!["/nowhere/probe".into()]));
    let failed = once(&none, &address).await.expect_err("there is no such program");
    assert!(failed.starts_with("cannot start /nowhere/probe: No such file"), "{failed}");
}

#[tokio::test]
async fn a_command_sees_no_secret_and_no_shell() {
    let address = endpoint(closed_port());
    // The package manager sets this for every test; a check's command must not see it.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let seen = once(&check(shell("env; exit 1")), &address).await.expect_err("exit 1");
    assert!(seen.contains("PATH=") && !seen.contains("CARGO_MANIFEST_DIR"), "{seen}");
    let plain = check(CheckKind::Command(vec!["echo".into(), "$HOME;".into(), "exit 1".into()]));
    assert_eq!(once(&plain, &address).await, Ok(()));
}

#[tokio::test]
async fn much_output_neither_blocks_a_command_nor_fills_the_message() {
    let address = endpoint(closed_port());
    let loud = shell(
        "i=0; while [ $i -lt 5000 ]; do echo 01234567890123456789012345678901234567890123456789; i=$((i+1)); done; exit 1",
    );
    let said = once(&HealthCheck { timeout: PATIENCE, ..check(loud) }, &address).await.expect_err("exit 1");
    assert!(said.starts_with("exit code 1: 0123") && said.ends_with(" …") && said.len() < 1100, "{}", said.len());
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let address = endpoint(closed_port());
    let hangs = shell("sleep 600 & echo $! $$; wait");
    let failed = once(&HealthCheck { timeout: Duration::from_millis(300), ..check(hangs) }, &address).await;
    let failed = failed.expect_err("it hangs");
    let pids = failed.strip_prefix("not done after 300ms: ").unwrap_or_else(|| panic!("{failed}"));
    assert_eq!(pids.split(' ').count(), 2, "{failed}");
    for pid in pids.split(' ') {
        dies(pid).await;
    }
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_however_it_ends() {
    let address = endpoint(closed_port());
    let failed = once(&check(shell("sleep 600 & echo $!; exit 1")), &address).await.expect_err("exit 1");
    dies(failed.strip_prefix("exit code 1: ").unwrap_or_else(|| panic!("{failed}"))).await;

    // A check that is no longer wanted ends in the middle.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", file.display());
    let waiting = check(shell(&script));
    let pids = tokio::select! {
        result = once(&waiting, &address) => panic!("it does not end: {result:?}"),
        pids = async {
            loop {
                if let Ok(pids) = std::fs::read_to_string(&file) {
                    return pids;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => pids,
    };
    for pid in pids.split_whitespace() {
        dies(pid).await;
    }
}

fn target(endpoints: Vec<EndpointAddress>) -> Target {
    let key = AgentKey::of(&an_agent());
    Target {
        deployment: Some(DeploymentId::new("d")),
        key,
        version: VersionId::new("1.5.0"),
        stable: VersionId::new("1.4.2"),
        endpoints,
        tls: Arc::default(),
    }
}

/// The gate, and the runner that its checks run on.
fn gate(endpoints: Vec<EndpointAddress>, checks: &[HealthCheck]) -> (Gate, Runner, Arc<OutsideCounters>) {
    let mut gate = Gate::new(target(endpoints), checks).expect("there are checks");
    let counters = Arc::new(OutsideCounters::default());
    let mut runner = Runner::new(counters.clone(), Arc::default());
    runner.run(gate.errands());
    (gate, runner, counters)
}

async fn becomes(gate: &Gate, runner: &Runner, wanted: impl Fn(&Health) -> bool) {
    let all = async {
        while !wanted(&gate.health()) {
            runner.news().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("still {:?}", gate.health()));
}

#[tokio::test]
async fn a_version_is_healthy_when_all_endpoints_pass_all_checks() {
    let (one, _asked) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let folder = tempfile::tempdir().expect("a folder");
    let late = folder.path().join("late.sock");
    let endpoints = vec![endpoint(one), EndpointAddress::Unix(late.clone())];
    let (gate, runner, counters) = gate(endpoints, &[check(http("/")), check(CheckKind::Tcp)]);
    assert_eq!(gate.readings().len(), 4);
    becomes(&gate, &runner, |health| matches!(health, Health::Unhealthy { .. })).await;
    let Health::Unhealthy { why } = gate.health() else { panic!("still unhealthy") };
    assert!(why.contains("late.sock: cannot connect"), "{why}");
    let listener = UnixListener::bind(&late).expect("a new socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            head(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    becomes(&gate, &runner, |health| *health == Health::Healthy).await;
    assert!(gate.readings().iter().all(|reading| reading.healthy == Some(true) && reading.failure.is_none()));
    assert!(counters.checks_passed() >= 4 && counters.checks_failed() >= 1);
}

#[tokio::test]
async fn retries_are_failures_that_do_not_count_yet() {
    let patient = HealthCheck { retries: 3, ..check(CheckKind::Tcp) };
    let probe = Probe::new(patient, Arc::new(target(vec![endpoint(closed_port())])), 0);
    let fail = |n: u32| (0..n).map(|_| probe.record(Err("no".into()))).last();
    assert_eq!(fail(3), Some(false));
    assert_eq!(probe.state().verdict, None, "unknown until the tries are used up");
    assert_eq!(fail(1), Some(true));
    assert_eq!(probe.state().verdict, Some(false));
    assert_eq!(
        probe.complaint(&probe.state()).split_once(": ").map(|(_, why)| why.to_owned()),
        Some("no (4 times in a row)".into())
    );
    assert!(probe.record(Ok(())), "one success is enough");
    assert_eq!(fail(3), Some(false));
    assert_eq!((probe.state().verdict, probe.state().failures), (Some(true), 3), "healthy while there are tries left");
    assert_eq!(fail(1), Some(true));
    assert_eq!(probe.state().verdict, Some(false));
}

#[tokio::test]
async fn what_was_unhealthy_must_succeed_so_often_in_a_row() {
    let strict = HealthCheck { successes: 3, ..check(CheckKind::Tcp) };
    let probe = Probe::new(strict, Arc::new(target(vec![endpoint(closed_port())])), 0);
    let succeed = |n: u32| (0..n).map(|_| probe.record(Ok(()))).last();
    assert_eq!(succeed(1), Some(true), "the first try says it all");
    assert!(probe.record(Err("no".into())));
    assert_eq!(succeed(2), Some(false));
    assert!(!probe.record(Err("no".into())), "the count begins anew");
    assert_eq!(succeed(2), Some(false));
    assert_eq!(probe.state().verdict, Some(false));
    assert_eq!(succeed(1), Some(true));
    assert_eq!(probe.state().verdict, Some(true));
}

#[tokio::test]
async fn checks_end_with_their_gate_and_with_the_runner() {
    let (address, asked) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (first, runner, _) = gate(vec![endpoint(address)], &[check(http("/"))]);
    becomes(&first, &runner, |health| *health == Health::Healthy).await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    while asked.try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(asked.try_recv().is_err(), "asked after the gate had gone");

    let (second, runner, counters) = gate(vec![endpoint(address)], &[check(http("/"))]);
    becomes(&second, &runner, |health| *health == Health::Healthy).await;
    drop(runner);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = counters.checks_passed();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(counters.checks_passed(), before, "asked after the runner had gone");
}

#[test]
fn without_endpoints_nothing_is_healthy_and_without_checks_nothing_is_asked() {
    let gate = Gate::new(target(vec![]), &[check(CheckKind::Tcp)]).expect("there is a check");
    assert_eq!(gate.health(), Health::Unhealthy { why: "the version has no endpoint".into() });
    assert!(Gate::new(target(vec![endpoint(closed_port())]), &[]).is_none());
    let waiting = Gate::new(target(vec![endpoint(closed_port())]), &[check(CheckKind::Tcp)]).expect("a check");
    assert_eq!(waiting.health(), Health::Unknown);
}
