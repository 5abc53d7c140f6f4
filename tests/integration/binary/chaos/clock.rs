//! Somebody sets the time: years ahead, and years back.

use std::fs::File as OpenFile;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use super::{Holdings, agent, good, is_well, while_others_are_served};
use crate::binary::process::{File, Proxy, command, pointsman};
use crate::harness::{PORTS, admin};

const DAY: i64 = 24 * 3600;

/// How far ahead the clock of a process is.
struct Clock {
    offset: OpenFile,
    shim: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// With a shim that the C compiler makes, which building this package has needed, too.
    fn new(folder: &File) -> Self {
        let (shim, file) = (folder.at("clock.so"), folder.at("offset"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/binary/chaos/clock.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).output();
        let compiled = compiled.expect("a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::write(&file, 0_i64.to_ne_bytes()).unwrap();
        let offset = OpenFile::options().write(true).open(&file).unwrap();
        Self { offset, shim, file }
    }

    fn set(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn start(&self, config: &File) -> Proxy {
        let mut run = command(&["run", "--log-format", "json", "--config", config.path()]);
        Proxy::of(run.env("LD_PRELOAD", &self.shim).env("CLOCK_OFFSET", &self.file))
    }
}

/// The year of the newest line of the log.
fn year(proxy: &Proxy) -> i32 {
    let log = proxy.process.err();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    last["timestamp"].as_str().and_then(|time| time[..4].parse().ok()).unwrap_or_else(|| panic!("{last}"))
}

#[test]
fn a_clock_that_jumps_ends_no_hold_and_cuts_no_client() {
    let (endpoint, file) = (good(), File::new(""));
    let clock = Clock::new(&file);
    let (url, state) = (endpoint.url(), file.at("state"));
    let ports = PORTS.replace("state_dir: none", &format!("state_dir: '{}'", state.display()));
    let trial = |name: &str| {
        format!(
            "  {name}:\n    match: [{{ path_prefix: /{name} }}]\n    versions: {{ 1.0.0: {{ endpoints: ['{url}'] }}, 2.0.0: {{ endpoints: ['{url}'] }} }}\n    stable: 1.0.0\n    deployment: {{ version: 2.0.0, steps: [{{ weight: 5%, hold: 1h }}, {{ weight: 100% }}], bake: 1h, cooldown: 1h }}\n"
        )
    };
    let agents = format!("agents:\n{}{}{}", agent("good", &endpoint, ""), trial("one"), trial("two"));
    std::fs::write(&file.path, format!("{ports}{agents}")).unwrap();
    let proxy = clock.start(&file);
    let this_year = year(&proxy);
    let deployment = |proxy: &Proxy, name: &str| proxy.admin_get(&format!("/api/v1/agents/{name}/deployment")).json();
    let before = Holdings::of(&proxy.process);
    let first = deployment(&proxy, "one");
    assert_eq!((&first["state"], &first["weightPercent"]), (&"running".into(), &5.0.into()));

    // The same clients before, during and after, on the same connections.
    while_others_are_served(proxy.proxy, || {
        for (days, roll_back) in [(800, None), (-800, Some("one")), (0, Some("two"))] {
            clock.set(days * DAY);
            // Longer than the reconciler needs to look at it all anew.
            std::thread::sleep(std::time::Duration::from_millis(300));
            is_well(&proxy);
            if let Some(name) = roll_back {
                assert_eq!(deployment(&proxy, name)["state"], "running", "{days} days: its hold is not over");
                assert_eq!(deployment(&proxy, name)["weightPercent"], 5.0, "{days} days");
                let answer = admin(proxy.admin, "POST", &format!("/api/v1/agents/{name}/rollback"), "");
                assert_eq!(answer.status(), 200, "{days} days: {answer:?}");
                assert_eq!((year(&proxy) < this_year), days < 0, "the shim works");
            }
        }
    });
    before.are_back(&proxy, 8, 32);
    let records = |what: &str| {
        let verified = pointsman(&["audit", "verify", "--state-dir", state.to_str().unwrap()]);
        assert_eq!(verified.code, Some(0), "{what}: {verified:?}");
    };
    records("beside the running process");
    proxy.stop();
    records("after it");

    // Begun again on a clock that is years behind what is written, and years ahead of it.
    for days in [-800, 800] {
        clock.set(days * DAY);
        let proxy = clock.start(&file);
        for name in ["one", "two"] {
            assert_eq!(deployment(&proxy, name)["state"], "rolled_back", "{days} days: a rollback is final");
        }
        is_well(&proxy);
        proxy.stop();
    }
    records("at the end");
}
