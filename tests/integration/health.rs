//! Health gates: no request before the version is healthy, and back when it no longer is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{App, Checked, Endpoint, eventually};

const CHECK: &str = "[{ http: { path: /healthz }, interval: 100ms, timeout: 10s, retries: 1 }]";

fn gated(stable: &Endpoint, canary: &Endpoint, deployment: &str) -> App {
    App::with_agents(&format!(
        "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    deployment:\n      version: 2.0.0\n{deployment}",
        stable.url(),
        canary.url()
    ))
}

fn deployment(app: &App) -> Value {
    app.admin_get("/api/v1/agents/bot/deployment").json()
}

fn send(app: &App, number: usize) {
    let mut client = app.client();
    for user in 0..number {
        assert_eq!(client.get("/", &format!("user-{user}")).status(), 200);
    }
}

#[test]
fn an_unhealthy_standby_never_gets_a_request() {
    let (stable, standby) = (Endpoint::saying("old"), Checked::new(false));
    let app = gated(&stable, &standby.endpoint, &format!("      strategy: blue-green\n      health: {CHECK}\n"));
    eventually("it is known to be unhealthy", || deployment(&app)["health"][0]["healthy"] == Value::Bool(false));
    send(&app, 100);
    let view = deployment(&app);
    assert_eq!((view["state"].as_str(), standby.served()), (Some("waiting"), 0), "{view}");
    assert_eq!(view["health"][0]["failure"], "status 503, expected 200-299");
    assert!(app.metric("pointsman_health_checks_total{result=\"failure\"}") >= 2.0);
    assert_eq!(app.metric("pointsman_health_check_success{version=\"2.0.0\"}"), 0.0);

    standby.healthy.store(true, Ordering::SeqCst);
    eventually("it takes over", || {
        send(&app, 10);
        standby.served() > 0
    });
    assert_eq!(deployment(&app)["state"], "baking");
    assert_eq!(app.metric("pointsman_health_check_success{version=\"2.0.0\"}"), 1.0);
}

#[test]
fn a_version_that_turns_unhealthy_in_its_ramp_is_rolled_back() {
    let (stable, standby) = (Endpoint::saying("old"), Checked::new(true));
    let steps = "      steps: [{ weight: 50%, hold: 1h }, { weight: 100% }]\n";
    let app = gated(&stable, &standby.endpoint, &format!("{steps}      health: {CHECK}\n"));
    eventually("the ramp begins", || {
        send(&app, 10);
        standby.served() > 0
    });
    standby.healthy.store(false, Ordering::SeqCst);
    eventually("it is out", || deployment(&app)["state"] == "rolled_back");
    let (view, before) = (deployment(&app).to_string(), standby.served());
    assert!(view.contains("GET /healthz at http://") && view.contains("status 503"), "says why: {view}");
    send(&app, 100);
    assert_eq!(standby.served(), before, "no request goes there any more");
    assert_eq!(app.metric("pointsman_rollbacks_total{agent=\"bot\",cause=\"health\"}"), 1.0);

    // Its checks ended with it.
    std::thread::sleep(Duration::from_millis(200));
    let asked = standby.endpoint.connections();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(standby.endpoint.connections(), asked);
}

#[test]
fn a_command_opens_the_gate_and_none_is_left_when_the_app_stops() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let script = format!(
        "test -e {0} || exit 7; sleep 600 & echo $! > {1}; test \"$1\" = {2}",
        file("go"),
        file("pid"),
        canary.url()
    );
    let health = format!(
        "[{{ command: [sh, -c, '{script}', probe, '{{{{endpoint}}}}'], interval: 100ms, timeout: 10s, retries: 0 }}]"
    );
    let mut app =
        gated(&stable, &canary, &format!("      strategy: immediate\n      bake: 1h\n      health: {health}\n"));
    eventually("it fails", || deployment(&app)["health"][0]["failure"] == "exit code 7, without output");
    assert_eq!(deployment(&app)["state"], "waiting");
    std::fs::write(file("go"), "").unwrap();
    eventually("it passes", || deployment(&app)["state"] == "baking");
    app.running.take().unwrap().stop();
    let pid = std::fs::read_to_string(file("pid")).unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    eventually("what the command left behind is dead", || stat().is_empty() || stat().contains(") Z "));
}
