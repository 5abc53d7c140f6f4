//! Conversations over the end of the process, and `ctl` on them.

use serde_json::Value;

use super::process::{File, Proxy, pointsman};
use crate::harness::{Endpoint, PATIENCE, PORTS, Wire, eventually};

fn write(file: &File, old: &Endpoint, new: &Endpoint, stable: &str) {
    let ports = PORTS.replace("state_dir: none", &format!("state_dir: '{}'", file.at("state").to_str().unwrap()));
    let (old, new) = (old.url(), new.url());
    let agents = format!(
        "agents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{old}'] }}\n      2.0.0: {{ endpoints: ['{new}'] }}\n    stable: {stable}\n    conversations: {{ id: ['header:x-conversation'] }}\n"
    );
    std::fs::write(&file.path, format!("{ports}{agents}")).unwrap();
}

/// The version that answers this turn.
fn turn(wire: &mut Wire, conversation: usize) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-conversation: c{conversation}\r\n\r\n");
    wire.ask(&request).text().to_owned()
}

fn turns(proxy: &Proxy, conversations: std::ops::Range<usize>, version: &str) {
    let mut wire = proxy.client();
    for conversation in conversations {
        assert_eq!(turn(&mut wire, conversation), version, "c{conversation}");
    }
}

fn kill(proxy: Proxy) {
    let mut process = proxy.process;
    process.signal("KILL");
    process.wait(PATIENCE);
}

#[test]
fn a_clean_stop_keeps_all_and_a_kill_keeps_those_of_the_last_checkpoint() {
    const MANY: usize = 300;
    let (old, new) = (Endpoint::saying("1.0.0"), Endpoint::saying("2.0.0"));
    let file = File::new("");
    write(&file, &old, &new, "1.0.0");
    let proxy = Proxy::with_file(&file.path);
    turns(&proxy, 0..MANY, "1.0.0");
    proxy.stop();

    write(&file, &old, &new, "2.0.0");
    let proxy = Proxy::with_file(&file.path);
    assert_eq!(proxy.metric("pointsman_pins_taken_up{what=\"conversations\"}"), MANY as f64);
    turns(&proxy, 0..MANY, "1.0.0");
    turns(&proxy, MANY..2 * MANY, "2.0.0");
    let checkpoints = || proxy.metric("pointsman_pins_checkpoints_total{result=\"success\"}");
    let before = checkpoints();
    eventually("they are written", || checkpoints() > before);
    turns(&proxy, 2 * MANY..2 * MANY + 1, "2.0.0");
    kill(proxy);

    write(&file, &old, &new, "1.0.0");
    let proxy = Proxy::with_file(&file.path);
    turns(&proxy, 0..MANY, "1.0.0");
    turns(&proxy, MANY..2 * MANY, "2.0.0");
    kill(proxy);

    // What cannot be read does not stop the start.
    use pointsman::control::store::redb::Redb;
    use pointsman::control::store::{Documents, Store, Transaction};
    let store = Redb::open(&file.at("state")).unwrap();
    let documents = store.range("pins/", None, 1_000).unwrap();
    assert!(documents.len() > 100);
    let mut broken = Transaction::default();
    documents.iter().for_each(|(key, _)| broken.put_aside(key.as_str(), Some(b"no pins".to_vec())));
    store.commit(&broken).unwrap();
    drop(store);
    let proxy = Proxy::with_file(&file.path);
    assert_eq!(proxy.metric("pointsman_pins_taken_up{what=\"unreadable\"}"), documents.len() as f64);
    turns(&proxy, MANY..MANY + 1, "1.0.0");
    proxy.stop();
}

fn ctl(proxy: &Proxy, arguments: &[&str]) -> String {
    let server = format!("http://{}", proxy.admin);
    let ended = pointsman(&[&["ctl", "--server", &server], arguments].concat());
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended.out
}

#[test]
fn ctl_moves_conversations_and_shows_where_they_are() {
    let (old, new) = (Endpoint::saying("1.0.0"), Endpoint::saying("2.0.0"));
    let file = File::new("");
    write(&file, &old, &new, "1.0.0");
    let proxy = Proxy::with_file(&file.path);
    turns(&proxy, 0..20, "1.0.0");
    let text = ctl(&proxy, &["conversations", "bot"]);
    assert!(text.contains("1.0.0") && text.contains("20"), "{text}");

    let create = ["migrate", "create", "bot", "--from", "1.0.0", "--to", "2.0.0"];
    let dry = ctl(&proxy, &[&create[..], &["--share", "10%", "--every", "1m", "--dry-run"]].concat());
    assert!(
        dry.contains("would: 20 conversations move from 1.0.0 to 2.0.0") && dry.contains("would end about"),
        "{dry}"
    );
    assert_eq!(ctl(&proxy, &["migrate", "list", "bot"]), "no migrations\n");

    let json = ctl(&proxy, &[&create[..], &["--per-second", "1", "--reason", "slowly", "--json"]].concat());
    let begun: Value = serde_json::from_str(&json).unwrap();
    let id = begun["migration"]["id"].as_str().unwrap();
    let shown = ctl(&proxy, &["migrate", "get", "bot", id]);
    assert!(shown.contains("1.0.0 → 2.0.0, 1 per second") && shown.contains("running"), "{shown}");
    let cancelled = ctl(&proxy, &["migrate", "cancel", "bot", id, "--reason", "too slowly"]);
    assert!(cancelled.contains("have moved, and stay at 2.0.0"), "{cancelled}");
    let listed = ctl(&proxy, &["migrate", "list", "bot"]);
    assert!(listed.contains(id) && listed.contains("cancelled"), "{listed}");

    ctl(&proxy, &[&create[..], &["--conversation", "c7", "--conversation", "c8"]].concat());
    eventually("both are there", || ctl(&proxy, &["conversations", "bot", "c7"]).contains("2.0.0"));
    eventually("both are there", || ctl(&proxy, &["conversations", "bot", "c8"]).contains("2.0.0"));
    let mut wire = proxy.client();
    assert_eq!(turn(&mut wire, 7), "2.0.0");
    let forgotten = ctl(&proxy, &["conversations", "bot", "c7", "--unpin"]);
    assert!(forgotten.contains("2.0.0, until now"), "{forgotten}");
    assert_eq!(turn(&mut wire, 7), "1.0.0");
    let audit = ctl(&proxy, &["audit"]);
    assert!(audit.contains("migrate") && audit.contains("too slowly") && audit.contains("unpin"), "{audit}");
    proxy.stop();
}
