//! Killed while a new file takes effect, under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::{good, random};
use crate::binary::process::{File, Proxy, pointsman};
use crate::harness::{Endpoint, PATIENCE, PORTS, Wire, eventually};

const AGENTS: usize = 8;
const KILLS: u64 = 8;
const WITHIN: Duration = Duration::from_millis(40);

/// Every agent deploys `version`.
fn write(file: &File, endpoint: &Endpoint, version: &str) {
    let (url, state) = (endpoint.url(), file.at("state"));
    let ports = PORTS.replace("state_dir: none", &format!("state_dir: '{}'", state.display()));
    let agent = |number| {
        format!(
            "  bot{number}:\n    match: [{{ path_prefix: /bot{number} }}]\n    versions: {{ 1.0.0: {{ endpoints: ['{url}'] }}, {version}: {{ endpoints: ['{url}'] }} }}\n    stable: 1.0.0\n    deployment: {{ version: {version}, steps: [{{ weight: 5%, hold: 1h }}, {{ weight: 100% }}] }}\n"
        )
    };
    std::fs::write(&file.path, format!("{ports}agents:\n{}", (0..AGENTS).map(agent).collect::<String>())).unwrap();
}

fn deployments(proxy: &Proxy) -> Vec<Value> {
    (0..AGENTS).map(|number| proxy.admin_get(&format!("/api/v1/agents/bot{number}/deployment")).json()).collect()
}

#[test]
fn killed_while_a_new_file_takes_effect_it_comes_back_whole() {
    let (endpoint, file) = (good(), File::new(""));
    let (mut random, seed) = random("kills at a reload");
    write(&file, &endpoint, "2.0.0");
    let mut proxy = Proxy::with_file(&file.path);
    for round in 0..KILLS {
        let context = format!("round {round}, seed {seed}");
        let version = format!("2.0.{}", round + 1);
        let stop = AtomicBool::new(false);
        let address = proxy.proxy;
        std::thread::scope(|scope| {
            for client in 0..2 {
                let stop = &stop;
                scope.spawn(move || ask_until(address, client, stop));
            }
            write(&file, &endpoint, &version);
            std::thread::sleep(Duration::from_micros(random.below(WITHIN.as_micros() as u64)));
            proxy.process.signal("KILL");
            proxy.process.wait(PATIENCE);
            stop.store(true, Ordering::SeqCst);
        });
        let verified = pointsman(&["audit", "verify", "--state-dir", file.at("state").to_str().unwrap()]);
        assert_eq!(verified.code, Some(0), "{context}: {verified:?}");

        // However far it came: every agent has the one deployment that the file says, running at its first step.
        proxy = Proxy::with_file(&file.path);
        for (number, deployment) in deployments(&proxy).iter().enumerate() {
            let told = (&deployment["version"], &deployment["state"], &deployment["weightPercent"]);
            assert_eq!(
                told,
                (&version.as_str().into(), &"running".into(), &5.0.into()),
                "{context}: bot{number} {deployment}"
            );
        }
        let table = proxy.admin_get("/api/v1/table").json();
        assert_eq!(table["agents"].as_array().map(Vec::len), Some(AGENTS), "{context}");
        eventually("it is all written", || proxy.metric("pointsman_store_commits_pending") == 0.0);
    }
    // And a deployment is the same one after an orderly restart.
    let before = deployments(&proxy);
    proxy.stop();
    let proxy = Proxy::with_file(&file.path);
    for (before, after) in before.iter().zip(deployments(&proxy)) {
        assert_eq!((&before["id"], &before["startedAt"]), (&after["id"], &after["startedAt"]));
    }
    proxy.stop();
}

fn ask_until(proxy: std::net::SocketAddr, client: usize, stop: &AtomicBool) {
    let Ok(stream) = std::net::TcpStream::connect(proxy) else { return };
    let mut wire = Wire::new(stream);
    let request = format!("GET /bot{client} HTTP/1.1\r\nhost: a\r\nx-user-id: u{client}\r\n\r\n");
    while !stop.load(Ordering::SeqCst) {
        // `None`: it has been killed.
        if wire.write(&request).is_err() || wire.message().is_none_or(|answer| answer.status() != 200) {
            return;
        }
    }
}
