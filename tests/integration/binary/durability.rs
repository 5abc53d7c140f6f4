//! Killed at any moment, or with no room on the disk: nothing that was acknowledged is lost, and traffic goes on.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::measured;
use super::process::{File, Process, Proxy, command, pointsman};
use crate::harness::{Endpoint, Message, PATIENCE, PORTS, Wire, eventually};

/// Each is a kill as it starts, a start, a kill under load, and a start. `POINTSMAN_KILLS` asks for more.
const KILLS: u64 = 20;
const AGENTS: usize = 6;
/// From the first command to the kill, at most.
const KILL_WITHIN: Duration = Duration::from_millis(100);

/// A file whose agents each have a deployment; another `edition` is another deployment.
fn agents(endpoint: &Endpoint, count: usize, edition: u64, steps: &str) -> String {
    let one = |number| {
        let url = endpoint.url();
        format!(
            "  bot{number}:\n    match: [{{ path_prefix: /bot{number} }}]\n    versions:\n      1.0.0: {{ endpoints: ['{url}'] }}\n      2.0.0: {{ endpoints: ['{url}'] }}\n    stable: 1.0.0\n    deployment: {{ version: 2.0.0, steps: [{steps}], bake: {}m, cooldown: 0s }}\n",
            edition + 1
        )
    };
    format!("agents:\n{}", (0..count).map(one).collect::<String>())
}

/// The ports of every test, and a store in the folder of the file.
fn with_state(file: &File, agents: &str) {
    let ports = PORTS.replace("state_dir: none", &format!("state_dir: '{}'", state_dir(file)));
    std::fs::write(&file.path, format!("{ports}{agents}")).unwrap();
}

fn state_dir(file: &File) -> String {
    file.at("state").to_str().unwrap().to_owned()
}

/// The answer, if there was a whole one before the process died.
fn try_post(admin: SocketAddr, path: &str) -> Option<Message> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("POST {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (start, _) = head.split_once("\r\n")?;
    Some(Message { start: start.into(), headers: vec![], body: body.into() })
}

fn deployment(proxy: &Proxy, agent: &str) -> Value {
    proxy.admin_get(&format!("/api/v1/agents/{agent}/deployment")).json()
}

/// How many records the audit has; it must be sound.
fn audit(state_dir: &str) -> u64 {
    let verified = pointsman(&["audit", "verify", "--state-dir", state_dir]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let count = verified.out.strip_prefix("sound: ").and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{verified:?}"))
}

/// Kills the process outright.
fn kill(proxy: Proxy) {
    let mut process = proxy.process;
    process.signal("KILL");
    process.wait(PATIENCE);
}

/// Numbers that differ from run to run; a failure prints the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn killed_at_any_moment_it_loses_nothing_that_it_acknowledged() {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    let mut random = Random(seed);
    let endpoint = Endpoint::saying("here");
    let file = File::new("");
    let (mut acknowledged_in_all, mut cut_short, mut records) = (0, 0, 0);
    let kills = std::env::var("POINTSMAN_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    for edition in 0..kills {
        with_state(&file, &agents(&endpoint, AGENTS, edition, "{ weight: 5%, hold: 1h }, { weight: 100% }"));
        let starting = Process::start(&mut command(&["run", "--config", file.path()]));
        std::thread::sleep(Duration::from_micros(random.below(KILL_WITHIN.as_micros() as u64)));
        drop(starting);
        let proxy = Proxy::with_file(&file.path);
        let before: Vec<_> = (0..AGENTS).map(|n| deployment(&proxy, &format!("bot{n}"))).collect();
        assert!(before.iter().all(|d| d["state"] == "running"), "edition {edition}, seed {seed}: {before:?}");
        let wait = Duration::from_micros(random.below(KILL_WITHIN.as_micros() as u64));
        let acknowledged = roll_back_until_killed(proxy, wait);
        acknowledged_in_all += acknowledged.len();
        cut_short += usize::from(acknowledged.len() < AGENTS);
        // Of the file as the kill has left it.
        let left = audit(&state_dir(&file));
        assert!(left >= records + acknowledged.len() as u64, "{left} records after {records}, seed {seed}");

        let proxy = Proxy::with_file(&file.path);
        for (number, before) in before.iter().enumerate() {
            let after = deployment(&proxy, &format!("bot{number}"));
            let context = format!("edition {edition}, seed {seed}, bot{number}: {before} → {after}");
            assert_eq!(after["id"], before["id"], "{context}");
            match after["state"].as_str().unwrap() {
                "rolled_back" => {}
                "running" => {
                    assert!(!acknowledged.contains(&number), "its rollback was acknowledged: {context}");
                    assert_eq!(after["since"], before["since"], "its hold goes on: {context}");
                }
                _ => panic!("{context}"),
            }
        }
        records = audit(&state_dir(&file));
        assert!(records > left, "the start is in it, beside the running instance: seed {seed}");
        kill(proxy);
    }
    measured(format_args!(
        "{kills} times killed as it started and under load: {acknowledged_in_all} acknowledged rollbacks kept, {cut_short} rounds cut short, {records} audit records"
    ));
    assert!(acknowledged_in_all > 0 && cut_short > 0, "the kills came in time to matter: seed {seed}");
}

/// Under traffic, rolls the agents back one after the other; those that were acknowledged before the kill.
fn roll_back_until_killed(proxy: Proxy, wait: Duration) -> Vec<usize> {
    let (proxy_address, admin) = (proxy.proxy, proxy.admin);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let acknowledged = std::thread::scope(|scope| {
        for client in 0..2 {
            let (stop, served) = (&stop, &served);
            scope.spawn(move || ask_until(proxy_address, client, stop, served));
        }
        eventually("there is traffic", || served.load(Ordering::SeqCst) > 20);
        let operator = scope.spawn(move || {
            let roll_back = |number: &usize| {
                let answer = try_post(admin, &format!("/api/v1/agents/bot{number}/rollback"));
                answer.is_some_and(|answer| answer.status() == 200)
            };
            (0..AGENTS).filter(roll_back).collect()
        });
        std::thread::sleep(wait);
        kill(proxy);
        stop.store(true, Ordering::SeqCst);
        operator.join().unwrap()
    });
    assert!(served.load(Ordering::SeqCst) > 0);
    acknowledged
}

/// Requests until told to stop, or until the proxy is gone.
fn ask_until(proxy: SocketAddr, client: usize, stop: &AtomicBool, served: &AtomicUsize) {
    let Ok(stream) = TcpStream::connect(proxy) else { return };
    let mut wire = Wire::new(stream);
    let request = format!("GET /bot{client} HTTP/1.1\r\nhost: a.example\r\nx-user-id: u{client}\r\n\r\n");
    while !stop.load(Ordering::SeqCst) {
        if wire.write(&request).is_err() || wire.message().is_none() {
            return;
        }
        served.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_ramp_goes_on_where_it_was_and_time_counts_while_it_is_down() {
    const HOLD: Duration = Duration::from_secs(2);
    let (endpoint, file) = (Endpoint::saying("here"), File::new(""));
    with_state(&file, &agents(&endpoint, 1, 0, "{ weight: 1%, hold: 2s }, { weight: 5%, hold: 1h }, { weight: 100% }"));
    let begun = Instant::now();
    let proxy = Proxy::with_file(&file.path);
    let first = deployment(&proxy, "bot0");
    kill(proxy);
    // The hold ends while nothing runs.
    std::thread::sleep(HOLD.saturating_sub(begun.elapsed()) + Duration::from_millis(100));
    let proxy = Proxy::with_file(&file.path);
    eventually("the second step", || deployment(&proxy, "bot0")["weightPercent"] == 5.0);
    let second = deployment(&proxy, "bot0");
    assert_eq!((&second["id"], &second["startedAt"]), (&first["id"], &first["startedAt"]));
    kill(proxy);
    let proxy = Proxy::with_file(&file.path);
    let third = deployment(&proxy, "bot0");
    for field in ["id", "state", "step", "weightPercent", "since", "startedAt"] {
        assert_eq!(third[field], second[field], "{field}");
    }
    proxy.stop();
}

#[test]
fn a_standing_split_keeps_its_buckets() {
    let (endpoint, file) = (Endpoint::saying("here"), File::new(""));
    let split = |shares: [u32; 3]| {
        let url = endpoint.url();
        let versions = format!(
            "      1.0.0: {{ endpoints: ['{url}'] }}\n      2.0.0: {{ endpoints: ['{url}'] }}\n      3.0.0: {{ endpoints: ['{url}'] }}\n"
        );
        let [a, b, c] = shares;
        let agents = format!(
            "agents:\n  bot:\n    versions:\n{versions}    stable: 1.0.0\n    split: {{ 1.0.0: {a}%, 2.0.0: {b}%, 3.0.0: {c}% }}\n"
        );
        with_state(&file, &agents);
    };
    let versions = |proxy: &Proxy| proxy.admin_get("/api/v1/agents/bot").json()["versions"].clone();
    split([40, 30, 30]);
    let proxy = Proxy::with_file(&file.path);
    let canonical = versions(&proxy);
    split([10, 30, 60]);
    eventually("the new split", || versions(&proxy) != canonical);
    let evolved = versions(&proxy);
    // Killed at once: what the file changed is in the store a moment later at the latest, and stopping waits for it.
    proxy.stop();
    let proxy = Proxy::with_file(&file.path);
    assert_eq!(versions(&proxy), evolved);
    proxy.stop();
}

/// `pointsman run` that cannot start.
fn refused(file: &File) -> String {
    let ended = pointsman(&["run", "--config", file.path()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.err
}

#[test]
fn a_state_dir_that_cannot_be_used_is_named_with_a_remedy() {
    let (endpoint, file) = (Endpoint::saying("here"), File::new(""));
    let agents = agents(&endpoint, 1, 0, "{ weight: 100% }");
    with_state(&file, &agents);
    let proxy = Proxy::with_file(&file.path);
    let text = refused(&file);
    assert!(text.contains("state_dir") && text.contains("in use by another process"), "{text}");
    kill(proxy);

    let store = Path::new(&state_dir(&file)).join("pointsman.redb");
    std::fs::write(&store, "no store").unwrap();
    let text = refused(&file);
    assert!(text.contains("state_dir") && text.contains("is not a store of pointsman"), "{text}");
    let ended = pointsman(&["audit", "verify", "--state-dir", &state_dir(&file)]);
    assert!(ended.code == Some(1) && ended.err.contains("is not a store of pointsman"), "{ended:?}");

    // Nobody, not even root, can make a directory there: what a read-only disk is to everyone.
    let ports = PORTS.replace("state_dir: none", "state_dir: /proc/pointsman");
    std::fs::write(&file.path, format!("{ports}{agents}")).unwrap();
    let text = refused(&file);
    assert!(text.contains("state_dir") && text.contains("cannot make this directory"), "{text}");
}

#[test]
fn with_no_room_on_the_disk_it_serves_and_rolls_back_and_writes_later() {
    // A limit on the size of files stands for the full disk: it can be lifted again.
    const LIMIT: &str = "trap '' XFSZ; ulimit -S -f 4096; exec \"$@\"";
    const MANY: usize = 20;
    let steps = "{ weight: 5%, hold: 1h }, { weight: 100% }";
    let (endpoint, file) = (Endpoint::saying("here"), File::new(""));
    with_state(&file, &agents(&endpoint, MANY, 0, steps));
    let run = command(&["run", "--log-format", "json", "--config", file.path()]);
    let mut limited = Command::new("sh");
    limited.args(["-c", LIMIT, "sh"]).arg(run.get_program()).args(run.get_args());
    limited.current_dir(env!("CARGO_MANIFEST_DIR"));
    limited.stdin(std::process::Stdio::null());
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let proxy = Proxy::of(&mut limited);
    let failures = || proxy.metric("pointsman_store_commits_total{result=\"failure\"}");
    assert_eq!(failures(), 0.0);

    // Each new edition of the file is a change of every agent, until there is no room for one.
    for edition in 1..200 {
        with_state(&file, &agents(&endpoint, MANY, edition, steps));
        let reloads = f64::from(edition as u32) + 1.0;
        eventually("it is in effect", || proxy.metric("pointsman_config_reloads_total{result=\"success\"}") >= reloads);
        if failures() > 0.0 {
            break;
        }
    }
    assert!(failures() > 0.0, "the disk is full");
    assert_eq!(proxy.client().get("/bot0", "u").status(), 200);
    let answer = try_post(proxy.admin, "/api/v1/agents/bot0/rollback").unwrap();
    assert_eq!((answer.status(), &answer.json()["code"]), (503, &"in_effect_not_stored".into()), "{answer:?}");
    assert_eq!(deployment(&proxy, "bot0")["state"], "rolled_back");
    assert!(proxy.metric("pointsman_store_commits_pending") > 0.0);
    assert_eq!(proxy.client().get("/bot0", "u").status(), 200);

    let lifted = Command::new("prlimit").args(["--pid", &proxy.process.id().to_string(), "--fsize=unlimited"]).status();
    assert!(lifted.unwrap().success(), "util-linux is there");
    eventually("all is written", || proxy.metric("pointsman_store_commits_pending") == 0.0);
    let kept = deployment(&proxy, "bot0");
    kill(proxy);
    let proxy = Proxy::with_file(&file.path);
    assert_eq!(deployment(&proxy, "bot0")["since"], kept["since"]);
    assert_eq!(deployment(&proxy, "bot0")["state"], "rolled_back");
    audit(&state_dir(&file));
    proxy.stop();
}

#[test]
fn the_audit_says_when_it_was_tampered_with() {
    let (endpoint, file) = (Endpoint::saying("here"), File::new(""));
    with_state(&file, &agents(&endpoint, 1, 0, "{ weight: 100% }"));
    let proxy = Proxy::with_file(&file.path);
    let running = pointsman(&["audit", "verify", "--state-dir", &state_dir(&file)]);
    assert!(running.out.starts_with("sound: 2 records, newest hash "), "beside a running instance: {running:?}");
    proxy.stop();
    let hash = running.out.trim().rsplit(' ').next().unwrap().to_owned();
    let holds = |hash: &str| pointsman(&["audit", "verify", "--state-dir", &state_dir(&file), "--holds", hash]);
    assert_eq!(holds(&hash).code, Some(0));
    let other = holds("00");
    assert!(other.code == Some(1) && other.err.contains("cut off or written anew"), "{other:?}");

    use pointsman::control::store::redb::Redb;
    use pointsman::control::store::{Documents, Store, Transaction};
    let store = Redb::open(Path::new(&state_dir(&file))).unwrap();
    let key = format!("audit/{:020}", 2);
    let record = String::from_utf8(store.get(&key).unwrap().unwrap().value).unwrap();
    let mut forged = Transaction::default();
    forged.put(key, record.replace("2.0.0", "3.0.0").into_bytes());
    store.commit(&forged).unwrap();
    drop(store);
    let ended = pointsman(&["audit", "verify", "--state-dir", &state_dir(&file)]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("not as it was written") && ended.err.contains("record 2 was changed"), "{ended:?}");
}
