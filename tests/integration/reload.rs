//! A file that changes under a running proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{App, Endpoint, PORTS, Wire, eventually};

struct File {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pointsman.yaml");
        std::fs::write(&path, text).unwrap();
        Self { folder, path }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }

    /// As editors and configuration managers do it.
    fn replace(&self, text: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &self.path).unwrap();
    }
}

fn stable(endpoint: &Endpoint, version: &str) -> String {
    let url = endpoint.url();
    format!("{PORTS}agents:\n  bot: {{ versions: {{ {version}: {{ endpoints: ['{url}'] }} }}, stable: {version} }}\n")
}

fn serves(app: &App, version: &str) -> bool {
    app.client().get("/", "u").version() == version
}

#[test]
fn every_way_of_changing_the_file_takes_effect() {
    let endpoint = Endpoint::saying("x");
    let file = File::new(&stable(&endpoint, "1.0.0"));
    let app = App::watching(&file.path);
    assert!(serves(&app, "1.0.0"));
    file.write(&stable(&endpoint, "1.0.1"));
    eventually("written in place", || serves(&app, "1.0.1"));
    file.replace(&stable(&endpoint, "1.0.2"));
    eventually("renamed over", || serves(&app, "1.0.2"));
    file.write(&stable(&endpoint, "1.0.3"));
    eventually("written in place after a rename", || serves(&app, "1.0.3"));
    let config = app.admin_get("/api/v1/config").json();
    assert_eq!(app.metric("pointsman_config_reloads_total{result=\"success\"}"), 4.0, "{config}");
    assert_eq!(app.metric("pointsman_config_last_reload_success"), 1.0);
}

#[test]
fn a_config_map_s_symlink_swap_takes_effect() {
    let endpoint = Endpoint::saying("x");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let publish = |revision: &str, version: &str| {
        std::fs::create_dir(at(revision)).unwrap();
        std::fs::write(at(revision).join("pointsman.yaml"), stable(&endpoint, version)).unwrap();
        let _ = std::fs::remove_file(at("..data_tmp"));
        std::os::unix::fs::symlink(revision, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("..1", "1.0.0");
    std::os::unix::fs::symlink("..data/pointsman.yaml", at("pointsman.yaml")).unwrap();
    let app = App::watching(&at("pointsman.yaml"));
    for (revision, version) in [("..2", "1.0.1"), ("..3", "1.0.2"), ("..4", "1.0.3")] {
        publish(revision, version);
        eventually(version, || serves(&app, version));
    }
}

#[test]
fn a_bad_file_changes_nothing_and_is_seen() {
    let endpoint = Endpoint::saying("x");
    let good = stable(&endpoint, "1.0.0");
    let file = File::new(&good);
    let app = App::watching(&file.path);
    let before = app.admin_get("/api/v1/table").json();
    file.write(&good.replace("stable: 1.0.0", "stable: 1.0.O"));
    eventually("the failure is counted", || app.metric("pointsman_config_reloads_total{result=\"failure\"}") == 1.0);
    assert_eq!(app.metric("pointsman_config_last_reload_success"), 0.0);
    let status = app.admin_get("/api/v1/config");
    assert!(status.text().contains("stable"), "the error's text is not in {}", status.text());
    assert!(serves(&app, "1.0.0"));
    assert_eq!(app.admin_get("/api/v1/table").json(), before);
    file.write(&(good.clone() + "# better\n"));
    eventually("a good file recovers", || app.metric("pointsman_config_last_reload_success") == 1.0);
    std::fs::remove_file(&file.path).unwrap();
    eventually("a missing file is a failure", || app.metric("pointsman_config_last_reload_success") == 0.0);
    assert!(serves(&app, "1.0.0"));
    file.write(&stable(&endpoint, "1.0.1"));
    eventually("and its return a success", || serves(&app, "1.0.1"));
}

#[test]
fn two_hundred_reloads_under_load_fail_no_request() {
    let (one, two) = (Endpoint::saying("one"), Endpoint::saying("two"));
    let text = |weight: usize, note: usize| {
        format!(
            "{PORTS}agents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    split: {{ 1.0.0: {}%, 2.0.0: {weight}% }}\n# {note}\n",
            one.url(),
            two.url(),
            100 - weight
        )
    };
    let file = File::new(&text(0, 0));
    let app = App::watching(&file.path);
    let (stop, sent, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (stop, sent, failed, proxy) = (stop.clone(), sent.clone(), failed.clone(), app.proxy);
            std::thread::spawn(move || {
                let mut wire = Wire::connect(proxy);
                while !stop.load(Ordering::SeqCst) {
                    let number = sent.fetch_add(1, Ordering::SeqCst);
                    let answer = wire.get("/", &format!("user-{client}-{number}"));
                    if answer.status() != 200 {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for number in 1..=200 {
        if number % 2 == 0 {
            file.write(&text(number / 2, number));
        } else {
            file.replace(&text(number / 2, number));
        }
        eventually("the reload took effect", || {
            let running = app.running.as_ref().unwrap();
            let error = running.reloads.read().error;
            assert!(error.is_none(), "reload {number}: {error:?}");
            running.table.load().epoch > number as u64
        });
    }
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {}", sent.load(Ordering::SeqCst));
    assert!(sent.load(Ordering::SeqCst) > 200, "there was hardly any load");
    let config = app.admin_get("/api/v1/config").text().to_owned();
    assert_eq!(app.metric("pointsman_config_reloads_total{result=\"failure\"}"), 0.0, "{config}");
}

#[test]
fn listeners_come_and_go_without_cutting_connections() {
    let endpoint = Endpoint::saying("x");
    let first = crate::harness::unused_address();
    let second = crate::harness::unused_address();
    let text = |listeners: &str| {
        format!(
            "listeners: [{listeners}]\nadmin: {{ address: '127.0.0.1:0' }}\nstate_dir: none\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
            endpoint.url()
        )
    };
    let entry = |address: std::net::SocketAddr| format!("{{ address: '{address}' }}");
    let file = File::new(&text(&entry(first)));
    let app = App::watching(&file.path);
    let mut old = Wire::connect(first);
    assert_eq!(old.get("/", "u").status(), 200);
    file.write(&text(&entry(second)));
    eventually("the new listener serves", || std::net::TcpStream::connect(second).is_ok());
    eventually("the old one is closed", || std::net::TcpStream::connect(first).is_err());
    assert_eq!(old.get("/", "u").status(), 200, "what was established lives on");
    assert_eq!(Wire::connect(second).get("/", "u").status(), 200);
    drop(app);
}

#[test]
fn a_port_in_use_refuses_the_whole_reload() {
    let endpoint = Endpoint::saying("x");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::new(&stable(&endpoint, "1.0.0"));
    let app = App::watching(&file.path);
    let busy = format!("{{ address: '{}' }}", taken.local_addr().unwrap());
    file.write(&stable(&endpoint, "2.0.0").replace("listeners: [", &format!("listeners: [{busy}, ")));
    eventually("the failure is counted", || app.metric("pointsman_config_last_reload_success") == 0.0);
    let status = app.admin_get("/api/v1/config");
    assert!(status.text().contains("cannot listen on"), "{}", status.text());
    assert!(serves(&app, "1.0.0"), "half of the change was applied");
}

#[test]
fn a_listener_changes_its_environment() {
    let endpoint = Endpoint::saying("x");
    let text = |first: &str, second: &str| {
        format!(
            "listeners: [{{ address: '127.0.0.1:0', environment: {first} }}, {{ address: '127.0.0.2:0', environment: {second} }}]\nadmin: {{ address: '127.0.0.1:0' }}\nstate_dir: none\nagents:\n  bot: {{ environment: staging, versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
            endpoint.url()
        )
    };
    let file = File::new(&text("production", "staging"));
    let app = App::watching(&file.path);
    assert_eq!(app.client().get("/", "u").status(), 404);
    file.write(&text("staging", "production"));
    eventually("the first listener is of the other environment", || app.client().get("/", "u").status() == 200);
}

#[test]
fn a_file_of_a_folder_that_is_gone_is_a_clear_error() {
    let error = pointsman::config::Config::load(Path::new("/nowhere/pointsman.yaml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/pointsman.yaml"), "{error}");
}
