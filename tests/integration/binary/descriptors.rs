//! File descriptors: the process raises its limit, and with few it makes clients wait instead of failing.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{File, Proxy, command, logged};
use crate::harness::{Endpoint, PORTS, Wire, eventually, ok};

/// The binary under a limit of descriptors.
fn limited(file: &File, limit: &str) -> Proxy {
    let binary = command(&[]).get_program().to_owned();
    let script = format!("ulimit {limit}; exec \"$0\" run --log-format json --config \"$1\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(binary).arg(file.path());
    shell.env_remove("POINTSMAN_CONFIG").env_remove("POINTSMAN_LOG");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Proxy::of(&mut shell)
}

fn file(endpoint: &Endpoint) -> File {
    File::new(&format!(
        "{PORTS}agents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        endpoint.url()
    ))
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let endpoint = Endpoint::saying("x");
    let file = file(&endpoint);
    let proxy = limited(&file, "-S -n 200");
    let limit = proxy.metric("process_max_fds");
    assert!(limit > 200.0, "{limit}");
    proxy.stop();
}

#[test]
fn with_few_descriptors_clients_wait_and_nobody_is_failed() {
    const CLIENTS: usize = 300;
    let endpoint = Endpoint::answering(|_| ok("x"));
    let file = file(&endpoint);
    let proxy = limited(&file, "-n 256");
    let warning = "this process may open fewer files than limits.connections needs, so fewer clients are served at a time; raise the limit (`ulimit -n`, LimitNOFILE=) or lower limits.connections";
    assert_eq!(logged(&proxy.process, warning).len(), 1);
    let mut clients: Vec<Wire> = (0..CLIENTS).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    }
    eventually("those that there is room for are served, and the rest waits", || {
        proxy.metric("pointsman_client_connections_held_total") >= 1.0
            && proxy.metric("pointsman_client_connections_open") >= 70.0
    });
    // All the while the admin side has what it needs.
    assert_eq!(proxy.admin_get("/readyz").status(), 200);
    assert!(proxy.metric("process_open_fds") < 250.0);
    // Each gets its turn when another has gone.
    for mut client in clients {
        client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(client.message().expect("is served").status(), 200);
    }
    assert_eq!(proxy.metric("pointsman_requests_total{outcome=\"success\"}"), CLIENTS as f64);
    assert!(logged(&proxy.process, "accept failed; trying again shortly").is_empty());
    proxy.stop();
}
