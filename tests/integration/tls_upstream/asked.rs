//! What is asked beside requests: health checks of endpoints, and a Prometheus server.

use super::front::{Authority, Front, server};
use super::{NAME, front_of};
use crate::harness::{App, Endpoint, eventually, ok};

fn deployment(app: &App) -> serde_json::Value {
    app.admin_get("/api/v1/agents/bot/deployment").json()
}

#[test]
fn a_gate_opens_when_the_standby_answers_over_tls() {
    let (stable, authority, ours) = (Endpoint::saying("old"), Authority::new(), Authority::new());
    let canary = Endpoint::answering(|request| ok(if request.start.contains("/healthz") { "ready" } else { "new" }));
    ours.write(&ours.issue(&["pointsman"]), "pair");
    let front = Front::before(canary.address, server(&authority.issue(&[NAME]), &["http/1.1"], Some(&ours)));
    let (ca, cert, key) = (authority.path("ca.pem"), ours.path("pair.pem"), ours.path("pair.key"));
    let check = "{ http: { path: /healthz }, interval: 100ms, timeout: 10s, retries: 0 }, { tcp: {}, interval: 100ms }";
    let with = |tls: &str| {
        App::with_agents(&format!(
            "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    deployment:\n      version: 2.0.0\n      strategy: blue-green\n      health: [{check}]\n    tls: {tls}\n",
            stable.url(),
            front.url(),
        ))
    };
    let wrong = with(&format!("{{ ca: '{ca}', cert: '{cert}', key: '{key}' }}"));
    eventually("it says why", || deployment(&wrong)["health"][0]["failure"].is_string());
    let view = deployment(&wrong);
    let failure = view["health"][0]["failure"].as_str().unwrap();
    assert!(failure.starts_with("no TLS: ") && failure.contains("127.0.0.1"), "{failure}");
    assert_eq!((view["state"].as_str(), canary.connections()), (Some("waiting"), 0));
    drop(wrong);

    let app = with(&format!("{{ ca: '{ca}', cert: '{cert}', key: '{key}', server_name: {NAME} }}"));
    eventually("it takes over", || app.client().get("/", "ann").text() == "new");
}

#[test]
fn a_guard_asks_its_server_over_tls() {
    let (agent, authority) = (Endpoint::saying("ok"), Authority::new());
    let prometheus = Endpoint::answering(|request| {
        assert!(request.start.starts_with("POST /api/v1/query "), "{request:?}");
        ok(r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000,"0.25"]}}"#)
    });
    let front = front_of(&prometheus, &authority);
    let (url, ca, agent) = (front.url(), authority.path("ca.pem"), agent.url());
    let app = App::with_yaml(&format!(
        "prometheus: {{ url: '{url}', tls: {{ ca: '{ca}', server_name: {NAME} }} }}\nagents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{agent}'] }}\n      2.0.0: {{ endpoints: ['{agent}'] }}\n    stable: 1.0.0\n    deployment:\n      version: 2.0.0\n      steps: [{{ weight: 50% }}, {{ weight: 100% }}]\n      guards: [{{ query: a, above: 0.5, interval: 1s }}]\n"
    ));
    eventually("the server was asked", || app.metric("pointsman_prometheus_queries_total{result=\"value\"}") > 0.0);
    assert_eq!(front.seen()[0].protocol.as_deref(), Some("http/1.1"));
}
