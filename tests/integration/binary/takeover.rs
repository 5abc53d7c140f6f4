//! One process takes another's place: nobody is refused or cut, the state goes over, and a failure changes nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::measured;
use super::process::{Ended, File, Process, Proxy, command, logged, pointsman};
use crate::harness::{Endpoint, PATIENCE, PORTS, Wire, admin, eventually, ok};

/// `POINTSMAN_TAKEOVERS` asks for more.
const ROUNDS: usize = 5;
/// A stream's chunks, one each [`BEAT`]: longer than a take-over.
const CHUNKS: usize = 60;
const BEAT: Duration = Duration::from_millis(20);

/// Answers at once, or with a stream of numbers.
fn endpoint() -> Endpoint {
    Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            if !request.start.contains("/stream") {
                if wire.write(ok("here")).is_err() {
                    return;
                }
                continue;
            }
            let begun = wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let mut sent = begun;
            for number in 0..CHUNKS {
                sent = sent.and_then(|()| wire.write(format!("4\r\n{number:04}\r\n")));
                std::thread::sleep(BEAT);
            }
            if sent.and_then(|()| wire.write("0\r\n\r\n")).is_err() {
                return;
            }
        }
    })
}

fn write_config(file: &File, endpoint: &Endpoint, more: &str) {
    let ports = PORTS.replace("state_dir: none", &format!("state_dir: '{}'", state_dir(file)));
    let url = endpoint.url();
    let versions = format!("versions: {{ 1.0.0: {{ endpoints: ['{url}'] }}, 2.0.0: {{ endpoints: ['{url}'] }} }}");
    let deployment = "deployment: { version: 2.0.0, steps: [{ weight: 5%, hold: 1h }, { weight: 100% }] }";
    let text = format!("{ports}{more}agents:\n  bot: {{ {versions}, stable: 1.0.0, {deployment} }}\n");
    std::fs::write(&file.path, text).unwrap();
}

fn state_dir(file: &File) -> String {
    file.at("state").to_str().unwrap().to_owned()
}

fn desk(file: &File) -> PathBuf {
    file.at("state").join("takeover.sock")
}

fn run(file: &File, more: &[&str]) -> Command {
    command(&[&["run", "--log-format", "json", "--config", file.path()], more].concat())
}

/// The process that takes over from whoever runs.
fn successor(file: &File) -> Proxy {
    Proxy::of(&mut run(file, &["--takeover"]))
}

fn refused(file: &File) -> String {
    let ended = Process::start(&mut run(file, &["--takeover"])).ended(PATIENCE);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.err
}

/// Clients that never rest until told to.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(address: SocketAddr, clients: usize, client: fn(SocketAddr, &AtomicBool, &AtomicUsize)) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || client(address, &stop, &answered))
        };
        let clients = (0..clients).map(start).collect();
        Self { stop, answered, clients }
    }

    /// How many answers there were; fails where one client has.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().unwrap();
        }
        self.answered.load(Ordering::SeqCst)
    }
}

/// One request after the other on a kept connection, and a new one after `Connection: close`.
fn ask_and_ask(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) {
    while !stop.load(Ordering::SeqCst) {
        let mut wire = Wire::new(TcpStream::connect(address).expect("a connection is never refused"));
        while !stop.load(Ordering::SeqCst) {
            wire.write("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n\r\n").expect("is open");
            let answer = wire.message().expect("a request is never left without an answer");
            assert_eq!((answer.status(), answer.text()), (200, "here"));
            answered.fetch_add(1, Ordering::SeqCst);
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
}

fn stream_and_stream(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) {
    while !stop.load(Ordering::SeqCst) {
        let mut wire = Wire::new(TcpStream::connect(address).expect("a connection is never refused"));
        wire.write("GET /stream HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\nconnection: close\r\n\r\n").unwrap();
        assert_eq!(wire.head().expect("an answer").status(), 200);
        for number in 0..CHUNKS {
            let chunk = wire.chunk().unwrap_or_else(|| panic!("cut before chunk {number}"));
            assert_eq!(chunk.as_deref(), Some(format!("{number:04}").as_bytes()));
        }
        assert_eq!(wire.chunk(), Some(None));
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

fn ended_well(process: Process) -> Ended {
    let ended = process.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.err.contains("were cut"), "{ended:?}");
    ended
}

#[test]
fn one_process_after_the_other_refuses_and_cuts_nobody() {
    let rounds = std::env::var("POINTSMAN_TAKEOVERS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    let mut proxy = Proxy::with_file(&file.path);
    let address = proxy.proxy;
    let (asking, streaming) = (Load::on(address, 4, ask_and_ask), Load::on(address, 4, stream_and_stream));
    for _ in 0..rounds {
        let next = successor(&file);
        assert_eq!((next.proxy, next.admin), (proxy.proxy, proxy.admin), "the sockets are the same");
        ended_well(std::mem::replace(&mut proxy, next).process);
        assert_eq!(proxy.admin_get("/readyz").status(), 200);
    }
    let (answers, streams) = (asking.end(), streaming.end());
    assert!(answers > 0 && streams >= 4, "{answers} answers, {streams} streams");
    measured(format_args!("{rounds} take-overs under load: {answers} answers, {streams} whole streams, none lost"));
    proxy.stop();
    assert!(!desk(&file).exists(), "the last one takes its socket along");
}

#[test]
fn the_state_goes_over() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    let old = Proxy::with_file(&file.path);
    assert_eq!(std::fs::metadata(desk(&file)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(admin(old.admin, "POST", "/api/v1/agents/bot/rollback", "").status(), 200);
    let before = old.admin_get("/api/v1/agents/bot/deployment").json();
    assert_eq!(before["state"], "rolled_back");
    let new = successor(&file);
    ended_well(old.process);
    let after = new.admin_get("/api/v1/agents/bot/deployment").json();
    assert_eq!((&after["id"], &after["state"], &after["since"]), (&before["id"], &before["state"], &before["since"]));
    new.stop();
    assert_eq!(pointsman(&["audit", "verify", "--state-dir", &state_dir(&file)]).code, Some(0));
}

/// One of the two processes, that says only what it is told to.
struct Puppet {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Puppet {
    fn at(file: &File) -> Self {
        Self::on(UnixStream::connect(desk(file)).unwrap())
    }

    fn on(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn say(&mut self, word: &str) {
        self.stream.write_all(format!("{word}\n").as_bytes()).unwrap();
    }

    /// The descriptors beside it are closed unseen.
    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert!(line.contains(word), "{line:?} is not {word}");
    }
}

const HELLO: &str = "{\"hello\":{\"protocol\":1}}";

#[test]
fn a_new_process_that_fails_leaves_the_old_one_serving() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    let old = Proxy::with_file(&file.path);
    let load = Load::on(old.proxy, 2, ask_and_ask);
    let script = [("\"ready\"", "state"), ("\"serving\"", "yours")];
    for steps in 0..=script.len() {
        let mut puppet = Puppet::at(&file);
        puppet.say(HELLO);
        puppet.hear("sockets");
        for (word, answer) in &script[..steps] {
            puppet.say(word);
            puppet.hear(answer);
        }
        drop(puppet);
        eventually("it says so", || {
            let failures = logged(&old.process, "the take-over failed; taking the state up again").len()
                + logged(&old.process, "the take-over failed; serving on: the other process has gone").len();
            failures == steps + 1
        });
        // Whatever had been given away is back: a command is written and answered.
        let command = if steps % 2 == 0 { "pause" } else { "resume" };
        let id = old.admin_get("/api/v1/agents/bot/deployment").json()["id"].as_str().unwrap().to_owned();
        let answer = admin(old.admin, "POST", &format!("/api/v1/agents/bot/deployments/{id}/{command}"), "");
        assert_eq!(answer.status(), 200, "after {steps} steps: {answer:?}");
        assert_eq!(old.admin_get("/readyz").status(), 200);
    }
    let epoch = old.admin_get("/api/v1/table").json()["epoch"].as_u64().unwrap();
    assert!(epoch > 2, "it goes on where it was: {epoch}");

    let bad = File::new("agents: {}\nlistenerz: []\n");
    let path = desk(&file);
    let arguments = ["run", "--takeover", "--takeover-socket", path.to_str().unwrap(), "--config", bad.path()];
    assert_eq!(pointsman(&arguments).code, Some(1));
    let elsewhere = File::new("");
    write_config(&elsewhere, &endpoint, "");
    let text = std::fs::read_to_string(&elsewhere.path).unwrap().replace(&state_dir(&elsewhere), "/proc/pointsman");
    std::fs::write(&elsewhere.path, text).unwrap();
    let arguments = ["run", "--takeover", "--takeover-socket", path.to_str().unwrap(), "--config", elsewhere.path()];
    assert_eq!(pointsman(&arguments).code, Some(1), "its state cannot be opened");
    eventually("the state is taken up again", || {
        logged(&old.process, "the take-over failed; taking the state up again").len() == 3
    });
    assert!(load.end() > 0);
    let new = successor(&file);
    ended_well(old.process);
    new.stop();
    assert_eq!(pointsman(&["audit", "verify", "--state-dir", &state_dir(&file)]).code, Some(0));
}

/// An old process that gives its state away, says `last` if anything, and has gone. The new one binds its own sockets.
fn old_one_that_ends(file: &File, last: Option<&'static str>) -> JoinHandle<()> {
    std::fs::create_dir_all(file.at("state")).unwrap();
    let _ = std::fs::remove_file(desk(file));
    let listener = UnixListener::bind(desk(file)).unwrap();
    std::thread::spawn(move || {
        let mut old = Puppet::on(listener.accept().unwrap().0);
        old.hear("hello");
        old.say("{\"sockets\":[]}");
        old.hear("ready");
        old.say("\"state\"");
        last.into_iter().for_each(|word| old.say(word));
    })
}

#[test]
fn an_old_process_that_dies_with_its_state_given_leaves_the_new_one_serving() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    let old = old_one_that_ends(&file, Some("{\"refused\":\"too late\"}"));
    let text = refused(&file);
    assert!(text.contains("too late"), "{text}");
    old.join().unwrap();
    for last in [None, Some("\"yours\"")] {
        let old = old_one_that_ends(&file, last);
        let new = successor(&file);
        old.join().unwrap();
        assert_eq!(new.client().get("/", "u").status(), 200);
        new.stop();
    }
}

#[test]
fn a_stop_is_heard_during_a_take_over() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    for words in [&[][..], &["\"ready\""]] {
        let old = Proxy::with_file(&file.path);
        let mut puppet = Puppet::at(&file);
        puppet.say(HELLO);
        puppet.hear("sockets");
        for word in words {
            puppet.say(word);
            puppet.hear("state");
        }
        old.process.signal("TERM");
        ended_well(old.process);
        assert!(!desk(&file).exists());
    }
}

#[test]
fn there_are_two_at_most() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    let old = Proxy::with_file(&file.path);
    let mut puppet = Puppet::at(&file);
    puppet.say(HELLO);
    puppet.hear("sockets");
    let text = refused(&file);
    assert!(text.contains("another process is taking over just now"), "{text}");
    drop(puppet);

    let mut stream = old.client();
    stream.write("GET /stream HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n\r\n").unwrap();
    assert_eq!(stream.head().unwrap().status(), 200);
    eventually("the puppet is forgotten", || {
        !logged(&old.process, "the take-over failed; serving on: the other process has gone").is_empty()
    });
    let new = successor(&file);
    let text = refused(&file);
    assert!(text.contains("still finishing what it had in flight"), "{text}");
    while let Some(Some(_)) = stream.chunk() {}
    ended_well(old.process);
    let newest = successor(&file);
    ended_well(new.process);
    newest.stop();
}

#[test]
fn who_speaks_otherwise_is_turned_away() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    let old = Proxy::with_file(&file.path);
    let mut puppet = Puppet::at(&file);
    puppet.say("{\"hello\":{\"protocol\":99}}");
    puppet.hear("refused");
    let mut puppet = Puppet::at(&file);
    puppet.say("GET / HTTP/1.1");
    puppet.hear("");
    assert_eq!(old.client().get("/", "u").status(), 200);
    old.stop();
}

#[test]
fn with_nobody_to_take_over_from_it_starts_afresh() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    std::fs::create_dir(file.at("state")).unwrap();
    // What a killed process leaves.
    drop(UnixListener::bind(desk(&file)).unwrap());
    let proxy = successor(&file);
    assert_eq!(proxy.client().get("/", "u").status(), 200);
    ended_well(std::mem::replace(&mut { proxy }, successor(&file)).process);
}

#[test]
fn a_signal_has_it_start_its_own_successor() {
    let (endpoint, file) = (endpoint(), File::new(""));
    write_config(&file, &endpoint, "");
    let old = Proxy::with_file(&file.path);
    let load = Load::on(old.proxy, 2, ask_and_ask);
    old.process.signal("USR2");
    let mut started = None;
    eventually("a process is started", || {
        started =
            logged(&old.process, "started a process to take over").first().and_then(|event| event["pid"].as_i64());
        started.is_some()
    });
    let (address, mut process) = (old.proxy, old.process);
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
    assert!(load.end() > 0);
    let ended = Command::new("sh").args(["-c", &format!("kill -TERM {}", started.unwrap())]).status().unwrap();
    assert!(ended.success());
    eventually("the new one has ended, too", || TcpStream::connect(address).is_err() && !desk(&file).exists());
}
