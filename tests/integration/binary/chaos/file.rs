//! The configuration's file and its directory, gone or replaced by anything.

use std::path::Path;
use std::process::Command;

use super::{Holdings, while_others_are_served};
use crate::binary::process::{File, Proxy};
use crate::harness::{Endpoint, PORTS, eventually};

fn write(path: &Path, endpoint: &Endpoint, version: &str) {
    let url = endpoint.url();
    let text = format!(
        "{PORTS}agents:\n  good: {{ versions: {{ {version}: {{ endpoints: ['{url}'] }} }}, stable: {version} }}\n"
    );
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// Whatever is there goes.
fn clear(path: &Path) {
    let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    if is_directory { std::fs::remove_dir_all(path).unwrap() } else { drop(std::fs::remove_file(path)) }
}

/// Each leaves no configuration at `path`.
type Ruin = (&'static str, fn(&Path));
const RUINS: [Ruin; 8] = [
    ("the file is deleted", |path| std::fs::remove_file(path).unwrap()),
    ("its directory is deleted", |path| std::fs::remove_dir_all(path.parent().unwrap()).unwrap()),
    ("garbage", |path| std::fs::write(path, b"\0\xff{{{{[[[[- : :\n\t").unwrap()),
    ("nothing", |path| std::fs::write(path, "").unwrap()),
    ("too much", |path| std::fs::write(path, "a".repeat(17 << 20)).unwrap()),
    ("a directory", |path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    }),
    ("a pipe, which a reader would wait on", |path| {
        std::fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }),
    ("a link to itself", |path| {
        std::fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(path, path).unwrap();
    }),
];

#[test]
fn a_file_that_is_gone_or_ruined_changes_nothing_until_it_is_mended() {
    let (endpoint, folder) = (super::good(), File::new(""));
    let path = folder.at("etc").join("pointsman.yaml");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    write(&path, &endpoint, "1.0.0");
    let proxy = Proxy::with_file(&path);
    let reloads = |result: &str| proxy.metric(&format!("pointsman_config_reloads_total{{result=\"{result}\"}}"));
    let before = Holdings::of(&proxy.process);
    let mut serving = "1.0.0".to_owned();
    while_others_are_served(proxy.proxy, || {
        for (number, (what, ruin)) in RUINS.into_iter().enumerate() {
            let failures = reloads("failure");
            ruin(&path);
            eventually(what, || reloads("failure") > failures);
            assert_eq!(proxy.metric("pointsman_config_last_reload_success"), 0.0, "{what}");
            let told = proxy.admin_get("/api/v1/config").json();
            let text = told["error"]["text"].as_str().unwrap_or_default();
            assert!(text.contains(path.to_str().unwrap()), "{what}: the error names the file: {told}");
            // The last good one serves on, and new clients too.
            assert_eq!(proxy.client().get("/good", "u").version(), serving, "{what}");
            assert_eq!(proxy.admin_get("/readyz").status(), 200, "{what}");

            clear(&path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            serving = format!("1.0.{}", number + 1);
            write(&path, &endpoint, &serving);
            eventually(&format!("mended after: {what}"), || proxy.client().get("/good", "u").version() == serving);
            eventually("the figures say so", || proxy.metric("pointsman_config_last_reload_success") == 1.0);
        }
    });
    before.are_back(&proxy, 8, 32);
    proxy.stop();
}
