//! A disk that is full, that cannot be written, or that another process works on.

use std::fs::File as OpenFile;
use std::path::PathBuf;
use std::process::Command;

use super::{Holdings, after, agent, good, is_well, measured, while_others_are_served};
use crate::binary::process::{File, Proxy, command, pointsman};
use crate::harness::{Endpoint, PATIENCE, PORTS, admin, eventually};

/// In a mount namespace of its own, which ends with the process.
const UNSHARED: [&str; 5] = ["unshare", "--mount", "--propagation", "private", "sh"];

/// Whether a process of ours may mount. Without that, `durability` still has the disk that is full.
fn can_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=1m tmpfs '{}'", folder.path().display());
    let mut tried = Command::new(UNSHARED[0]);
    let can = tried.args(&UNSHARED[1..]).args(["-c", &mount]).output().is_ok_and(|tried| tried.status.success());
    if !can {
        measured(format_args!(
            "SKIPPED: no file system can be mounted here, so a full disk is only stood for by a limit on files"
        ));
    }
    can
}

/// An agent on trial, with its state in `state`.
fn write(file: &File, endpoint: &Endpoint, state: &str, edition: u32) {
    let url = endpoint.url();
    let ports = PORTS.replace("state_dir: none", &format!("state_dir: '{state}'"));
    let trial = format!(
        "  bot:\n    match: [{{ path_prefix: /bot }}]\n    versions: {{ 1.0.0: {{ endpoints: ['{url}'] }}, 2.0.{edition}: {{ endpoints: ['{url}'] }} }}\n    stable: 1.0.0\n    deployment: {{ version: 2.0.{edition}, steps: [{{ weight: 5%, hold: 1h }}, {{ weight: 100% }}], cooldown: 0s }}\n"
    );
    std::fs::write(&file.path, format!("{ports}agents:\n{}{trial}", agent("good", endpoint, ""))).unwrap();
}

fn run(file: &File) -> Command {
    command(&["run", "--log-format", "json", "--config", file.path()])
}

#[test]
fn on_a_full_disk_it_serves_and_rolls_back_and_writes_when_there_is_room() {
    if !can_mount() {
        return;
    }
    let (endpoint, file) = (good(), File::new(""));
    let state = file.at("state");
    std::fs::create_dir(&state).unwrap();
    write(&file, &endpoint, state.to_str().unwrap(), 0);
    let mount = format!("mount -t tmpfs -o size=6m tmpfs '{}' || exit 9", state.display());
    let proxy = Proxy::of(&mut after(&mount, &UNSHARED, &run(&file)));
    is_well(&proxy);
    let before = Holdings::of(&proxy.process);
    // The disk as the process sees it.
    let seen = PathBuf::from(format!("/proc/{}/root{}", proxy.process.id(), state.display()));
    let fill = || {
        let block = vec![0; 4 << 10];
        let mut ballast = OpenFile::create(seen.join("ballast")).unwrap();
        while std::io::Write::write_all(&mut ballast, &block).is_ok() {}
    };
    while_others_are_served(proxy.proxy, || {
        fill();
        // What is in the file already may have room for a few.
        let mut edition = 0;
        eventually("a commit fails", || {
            edition += 1;
            write(&file, &endpoint, state.to_str().unwrap(), edition);
            let shown =
                || proxy.admin_get("/api/v1/agents/bot/deployment").json()["version"] == format!("2.0.{edition}");
            eventually("the new file is in effect all the same", shown);
            fill();
            proxy.metric("pointsman_store_commits_total{result=\"failure\"}") > 0.0
        });
        let answer = admin(proxy.admin, "POST", "/api/v1/agents/bot/rollback", "");
        assert_eq!((answer.status(), &answer.json()["code"]), (503, &"in_effect_not_stored".into()), "{answer:?}");
        assert_eq!(proxy.admin_get("/api/v1/agents/bot/deployment").json()["state"], "rolled_back");
        assert!(proxy.metric("pointsman_store_commits_pending") > 0.0, "the metrics name the cause");

        std::fs::remove_file(seen.join("ballast")).unwrap();
        eventually("all is written", || proxy.metric("pointsman_store_commits_pending") == 0.0);
    });
    is_well(&proxy);
    before.are_back(&proxy, 8, 32);
    let copy = file.at("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(seen.join("pointsman.redb"), copy.join("pointsman.redb")).unwrap();
    proxy.stop();
    let verified = pointsman(&["audit", "verify", "--state-dir", copy.to_str().unwrap()]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn a_disk_that_cannot_be_written_is_named_at_the_start() {
    if !can_mount() {
        return;
    }
    let (endpoint, file) = (good(), File::new(""));
    let state = file.at("state");
    write(&file, &endpoint, state.to_str().unwrap(), 0);
    Proxy::with_file(&file.path).stop();
    // The store is there, whole, on a disk that has become read-only.
    let mount = format!("mount --bind -o ro '{0}' '{0}' && mount -o remount,ro,bind '{0}' || exit 9", state.display());
    let mut refused = after(&mount, &UNSHARED, &run(&file));
    let ended = crate::binary::process::Process::start(&mut refused).ended(PATIENCE);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("state_dir") && ended.err.contains(state.to_str().unwrap()), "{ended:?}");
    // Nothing was harmed: where it can be written again, it goes on.
    let proxy = Proxy::with_file(&file.path);
    assert_eq!(proxy.admin_get("/api/v1/agents/bot/deployment").json()["state"], "running");
    is_well(&proxy);
}

#[test]
fn a_store_that_another_process_holds_is_left_alone() {
    let (endpoint, file) = (good(), File::new(""));
    let state = file.at("state");
    write(&file, &endpoint, state.to_str().unwrap(), 0);
    Proxy::with_file(&file.path).stop();
    let held = OpenFile::options().read(true).write(true).open(state.join("pointsman.redb")).unwrap();
    held.lock().unwrap();
    let ended = pointsman(&["run", "--config", file.path()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("state_dir") && ended.err.contains("in use by another process"), "{ended:?}");
    // The lock goes with its holder, however that ends.
    drop(held);
    let proxy = Proxy::with_file(&file.path);
    is_well(&proxy);
    let second = pointsman(&["run", "--config", file.path()]);
    assert_eq!(second.code, Some(1), "{second:?}");
    is_well(&proxy);
    proxy.process.signal("KILL");
    drop(proxy);
    is_well(&Proxy::with_file(&file.path));
}

#[test]
fn an_access_log_with_no_room_costs_its_lines_and_nothing_else() {
    let endpoint = good();
    let proxy =
        Proxy::with_yaml(&format!("access_log: {{ path: /dev/full }}\nagents:\n{}", agent("good", &endpoint, "")));
    is_well(&proxy);
    let before = Holdings::of(&proxy.process);
    while_others_are_served(proxy.proxy, || {
        let lost = || proxy.metric("pointsman_access_log_records_total{result=\"failed\"}");
        eventually("lines are lost, and counted", || lost() > 100.0);
    });
    assert_eq!(proxy.metric("pointsman_access_log_records_total{result=\"written\"}"), 0.0);
    before.are_back(&proxy, 4, 32);
    let told = proxy.stop().err;
    assert!(
        told.lines().filter(|line| line.contains("/dev/full")).count() < 5,
        "it complains, but not of each: {told}"
    );
}
