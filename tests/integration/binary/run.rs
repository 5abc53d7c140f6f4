//! `pointsman run`: how it starts, what it says, what it costs while idle.

use std::net::SocketAddr;

use super::measured;
use super::process::{Ended, File, Process, Proxy, command, logged, pointsman};
use crate::harness::{Endpoint, PATIENCE, PORTS, Wire, eventually, status, unused_address};

/// One agent with one version at `endpoint`, of the name `version`.
fn one_agent(endpoint: SocketAddr, version: &str) -> String {
    format!(
        "agents:\n  bot: {{ versions: {{ {version}: {{ endpoints: ['http://{endpoint}'] }} }}, stable: {version} }}\n"
    )
}

#[test]
fn it_serves_and_logs_json_only() {
    let endpoint = Endpoint::saying("hello");
    let proxy = Proxy::with_yaml(&one_agent(endpoint.address, "1.0.0"));
    let answer = proxy.client().get("/", "u1");
    assert_eq!((answer.status(), answer.text(), answer.version()), (200, "hello", "1.0.0"));
    assert_eq!(proxy.admin_get("/readyz").status(), 200);
    assert_eq!(logged(&proxy.process, "listening").len(), 1);
    let ended = proxy.stop();
    assert_eq!(ended.out, "");
    let lines: Vec<_> = ended.err.lines().map(serde_json::from_str::<serde_json::Value>).collect();
    assert!(lines.iter().all(Result::is_ok), "{}", ended.err);
}

/// Without `--config` it is `pointsman.yaml` of the working directory: a name without a folder to watch.
#[test]
fn the_default_file_is_found_and_watched() {
    let endpoint = Endpoint::saying("x");
    let text = |version| format!("{PORTS}{}", one_agent(endpoint.address, version));
    let file = File::new(&text("1.0.0"));
    let proxy = Proxy::of(command(&["run", "--log-format=json"]).current_dir(file.path.parent().unwrap()));
    assert_eq!(proxy.client().get("/", "u").version(), "1.0.0");
    for version in ["1.0.1", "1.0.2"] {
        std::fs::write(file.at("next"), text(version)).unwrap();
        std::fs::rename(file.at("next"), &file.path).unwrap();
        eventually(version, || proxy.client().get("/", "u").version() == version);
    }
}

fn refused(file: &File) -> Ended {
    let ended = pointsman(&["run", "--log-format", "json", "--config", file.path()]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    ended
}

#[test]
fn a_port_in_use_is_named_with_a_remedy() {
    let endpoint = Endpoint::saying("x");
    let agent = one_agent(endpoint.address, "1.0.0");
    let first = Proxy::with_yaml(&agent);
    let taken = first.proxy;
    let free = "'127.0.0.1:0'";
    for (field, listeners, admin) in [
        ("listeners[0].address", format!("{{ address: '{taken}' }}"), free.to_owned()),
        ("listeners[1].address", format!("{{ address: {free} }}, {{ address: '{taken}' }}"), free.to_owned()),
        ("admin.address", format!("{{ address: {free} }}"), format!("'{}'", first.admin)),
    ] {
        let file =
            File::new(&format!("listeners: [{listeners}]\nadmin: {{ address: {admin} }}\nstate_dir: none\n{agent}"));
        let ended = refused(&file);
        let wanted = format!("error: {field}: cannot listen on ");
        assert!(ended.err.contains(&wanted) && ended.err.contains("choose another port"), "{field}: {}", ended.err);
    }
    assert_eq!(first.client().get("/", "u").status(), 200, "the first is not disturbed");
}

#[test]
fn a_bad_file_is_refused_with_every_error() {
    let ended = refused(&File::new(&format!(
        "{PORTS}agents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['nonsense'] }} }}, stable: 1.0.1 }}\n  cat: {{ stabel: 1 }}\n"
    )));
    for place in [":6:43: ", ":6:68: ", ":7:3: ", ":7:10: "] {
        assert!(ended.err.contains(place), "{place} in {}", ended.err);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let file = File::new("");
    for path in [file.at("missing.yaml"), file.at(".")] {
        let ended = pointsman(&["run", "--config", path.to_str().unwrap()]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.err.contains(path.to_str().unwrap()), "{}", ended.err);
    }
}

#[test]
fn an_access_log_that_cannot_be_written_is_refused() {
    let agent = one_agent(unused_address(), "1.0.0");
    let ended = refused(&File::new(&format!("{PORTS}access_log: {{ path: /nowhere/access.log }}\n{agent}")));
    assert!(ended.err.contains("access_log.path") && ended.err.contains("/nowhere/access.log"), "{}", ended.err);
}

fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn the_access_log_tells_outcomes_and_outlives_rotation() {
    let endpoint =
        Endpoint::answering(
            |request| {
                if request.start.contains("/bad") { status(500) } else { crate::harness::ok("fine") }
            },
        );
    let folder = tempfile::tempdir().unwrap();
    let (log, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (live, dead) = (endpoint.url(), unused_address());
    let proxy = Proxy::with_yaml(&format!(
        "access_log: {{ path: '{}' }}\nagents:\n  bot:\n    versions: {{ 1.0.0: {{ endpoints: ['{live}'] }} }}\n    stable: 1.0.0\n  dead:\n    match: [{{ path_prefix: /dead/ }}]\n    versions: {{ 2.0.0: {{ endpoints: ['http://{dead}'] }} }}\n    stable: 2.0.0\n",
        log.display()
    ));
    let mut client = proxy.client();
    for (path, status) in [("/good?secret=1", 200), ("/bad", 500), ("/dead/", 502)] {
        assert_eq!(client.get(path, "u").status(), status, "{path}");
    }
    eventually("three lines", || lines(&log).len() == 3);

    std::fs::rename(&log, &rotated).unwrap();
    proxy.process.signal("HUP");
    eventually("the log is opened anew", || log.exists());
    assert_eq!(client.get("/after", "u").status(), 200);
    proxy.stop();

    let told = |path| lines(path).iter().map(summary).collect::<Vec<_>>();
    assert_eq!(
        told(&rotated),
        [
            "/good 200 1.0.0 success -",
            "/bad 500 1.0.0 server_error -",
            "/dead/ 502 2.0.0 connect_failed connect_failed",
        ]
    );
    assert_eq!(told(&log), ["/after 200 1.0.0 success -"]);
}

/// Path, status, version, outcome and error of a line.
fn summary(line: &serde_json::Value) -> String {
    let [path, version, outcome, error] =
        ["path", "version", "outcome", "error"].map(|name| line[name].as_str().unwrap_or("-"));
    format!("{path} {} {version} {outcome} {error}", line["status"])
}

#[test]
fn the_access_log_has_what_its_page_promises() {
    let endpoint = Endpoint::saying("x");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let url = endpoint.url();
    let proxy = Proxy::with_yaml(&format!(
        "access_log: {{ path: '{}' }}\nagents:\n  bot: {{ match: [{{ path_prefix: /bot/ }}], versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n",
        log.display()
    ));
    let mut client = proxy.client();
    assert_eq!(client.get("/bot/", "u").status(), 200);
    assert_eq!(client.get("/lost", "u").status(), 404);
    proxy.stop();
    let lines = lines(&log);
    let told: Vec<_> = lines.iter().map(summary).collect();
    assert_eq!(told, ["/bot/ 200 1.0.0 success -", "/lost 404 - - no_route"]);
    let to = lines[0]["endpoint"].as_str().unwrap_or("nowhere");
    assert!(to.contains(&endpoint.address.to_string()), "{to}");
}

#[test]
fn the_access_log_goes_to_standard_output_alone() {
    let endpoint = Endpoint::saying("x");
    let agent = one_agent(endpoint.address, "1.0.0");
    let proxy = Proxy::with_yaml(&format!("access_log: {{ path: stdout }}\n{agent}"));
    let mut client = proxy.client();
    for number in 0..3 {
        client.get(&format!("/{number}"), "u");
    }
    eventually("three lines", || proxy.process.out().lines().count() == 3);
    for (number, line) in proxy.process.out().lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["path"], &line["outcome"]), (&format!("/{number}").into(), &"success".into()));
    }
}

/// What was answered before the stop is in the log after it.
#[test]
fn the_last_lines_of_the_access_log_are_not_lost() {
    let endpoint = Endpoint::saying("x");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let agent = one_agent(endpoint.address, "1.0.0");
    let proxy = Proxy::with_yaml(&format!("access_log: {{ path: '{}' }}\n{agent}", log.display()));
    let mut client = proxy.client();
    for _ in 0..200 {
        assert_eq!(client.get("/", "u").status(), 200);
    }
    proxy.stop();
    assert_eq!(lines(&log).len(), 200);
}

/// Resident memory, in KiB.
fn resident(process: &Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The figure is one of the release build; of others it says only that nothing is absurd.
const IDLE_MIB: u64 = if cfg!(debug_assertions) { 64 } else { 16 };

#[test]
fn idle_it_takes_little_memory() {
    let endpoint = Endpoint::saying("x");
    let proxy = Proxy::with_yaml(&one_agent(endpoint.address, "1.0.0"));
    assert_eq!(proxy.client().get("/", "u").status(), 200);
    assert_eq!(proxy.admin_get("/readyz").status(), 200);
    let kib = resident(&proxy.process);
    measured(format_args!("idle resident memory, two workers: {:.1} MiB", kib as f64 / 1024.0));
    assert!(kib < IDLE_MIB << 10, "{kib} KiB");
}

#[test]
fn a_test_that_fails_leaves_no_process() {
    let (told, id) = std::sync::mpsc::channel();
    let failing = std::thread::spawn(move || {
        let proxy = Proxy::with_yaml(&one_agent(unused_address(), "1.0.0"));
        told.send(proxy.process.id()).unwrap();
        // Unwinds as a failed assertion does, only without the message.
        std::panic::resume_unwind(Box::new(()));
    });
    let id = id.recv_timeout(PATIENCE).unwrap();
    assert!(failing.join().is_err());
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

/// A log collector that dies is no reason to stop serving, or judging.
#[test]
fn it_serves_on_when_nobody_reads_its_log() {
    let endpoint = Endpoint::saying("x");
    let (proxy, admin) = (unused_address(), unused_address());
    let text = format!(
        "listeners: [{{ address: '{proxy}' }}]\nadmin: {{ address: '{admin}' }}\nworkers: 2\nstate_dir: none\n{}",
        one_agent(endpoint.address, "1.0.0")
    );
    let file = File::new(&text);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut process = Process::start(command(&["run", "--config", file.path()]).stderr(writer));
    eventually("it listens", || std::net::TcpStream::connect(admin).is_ok());
    // It answers once it also hears signals.
    assert_eq!(crate::harness::admin(admin, "GET", "/livez", "").status(), 200);
    drop(reader);
    for reload in 2..5 {
        process.signal("HUP");
        eventually("it reloads", || {
            crate::harness::metric(admin, "pointsman_config_reloads_total{result=\"success\"}") >= f64::from(reload)
        });
        assert_eq!(Wire::connect(proxy).get("/", "u").status(), 200);
    }
    process.signal("TERM");
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
}
