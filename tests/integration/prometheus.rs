//! Guards that ask a real Prometheus server, which scrapes Pointsman itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{App, Endpoint, eventually, status, unused_address};

/// A server on a port of its own, killed when dropped.
struct Prometheus {
    child: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `target` twice a second. `None`: there is no such program, and nobody insists on it.
    fn start(address: SocketAddr, target: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\nscrape_configs:\n  - job_name: pointsman\n    static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        std::fs::write(path("prometheus.yml"), config).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => Some(Self { child, log: path("log"), _folder: folder }),
            // tests/run installs it and insists; a plain `cargo test` may do without.
            Err(error) if std::env::var_os("POINTSMAN_TEST_TOOLS").is_none() => {
                eprintln!("SKIPPED: prometheus cannot be run ({error}); tests/run installs it");
                None
            }
            Err(error) => panic!("prometheus cannot be run: {error}"),
        }
    }

    fn check(&mut self) {
        if let Some(ended) = self.child.try_wait().unwrap() {
            panic!("prometheus ended with {ended}:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stable, and 2.0.0 on trial with half of the traffic and these guards.
fn on_trial(server: SocketAddr, canary: &Endpoint, stable: &Endpoint, hold: &str, guards: &str) -> App {
    App::with_yaml(&format!(
        "prometheus: {{ url: 'http://{server}', timeout: 10s }}\nagents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    deployment:\n      version: 2.0.0\n      steps: [{{ weight: 50%, hold: {hold} }}, {{ weight: 60%, hold: 1h }}, {{ weight: 100% }}]\n      guards:\n{guards}",
        stable.url(),
        canary.url()
    ))
}

fn deployment(app: &App) -> Value {
    app.admin_get("/api/v1/agents/bot/deployment").json()
}

fn send(app: &App, number: usize) -> usize {
    let mut client = app.client();
    (0..number).filter(|user| client.get("/", &format!("user-{user}")).version() == "2.0.0").count()
}

const ERRORS: &str = r#"        - name: errors
          query: >-
            sum(pointsman_requests_total{agent="{{agent}}",version="{{version}}",outcome!="success"} or vector(0))
            / sum(pointsman_requests_total{agent="{{ agent }}",version="{{ version }}"})
          above: 20%
          interval: 1s
"#;

#[test]
fn a_query_takes_the_canary_out_with_its_reading() {
    let (server, stable) = (unused_address(), Endpoint::saying("old"));
    let canary = Endpoint::answering(|_| status(500));
    let app = on_trial(server, &canary, &stable, "1h", ERRORS);
    let Some(mut prometheus) = Prometheus::start(server, app.admin) else { return };
    eventually("the query breaks its limit", || {
        prometheus.check();
        send(&app, 10);
        deployment(&app)["state"] == "rolled_back"
    });
    assert_eq!(send(&app, 100), 0);
    let reading = &deployment(&app)["rollback"]["query"];
    assert_eq!((reading["verdict"].as_str(), reading["value"].as_f64()), (Some("breach"), Some(1.0)), "{reading}");
    let query = reading["query"].as_str().unwrap();
    assert!(query.contains(r#"agent="bot",version="2.0.0""#) && !query.contains("{{"), "{query}");
    assert_eq!(reading["explanation"], "errors above 0.2: 1; 1 of 1 bad answers in a row; breach");
    assert_eq!(app.metric("pointsman_rollbacks_total{agent=\"bot\",cause=\"guard\"}"), 1.0);
}

#[test]
fn a_server_that_is_not_there_is_no_data_and_never_a_verdict() {
    let (server, stable, canary) = (unused_address(), Endpoint::saying("old"), Endpoint::saying("new"));
    let app = on_trial(server, &canary, &stable, "100ms", ERRORS);
    let query = |app: &App| deployment(app)["queries"][0].clone();
    let says = |app: &App, words: &str| query(app)["noData"].as_str().is_some_and(|text| text.contains(words));
    eventually("it is seen that nobody answers", || says(&app, "did not answer"));
    send(&app, 20);
    std::thread::sleep(Duration::from_millis(1500));
    let view = deployment(&app);
    assert_eq!((view["state"].as_str(), view["step"].as_u64()), (Some("running"), Some(1)), "no pass: {view}");
    assert!(app.metric("pointsman_prometheus_queries_total{result=\"unreachable\"}") >= 1.0);
    assert_eq!(app.metric("pointsman_prometheus_query_success{agent=\"bot\"}"), 0.0);

    let Some(mut prometheus) = Prometheus::start(server, app.admin) else { return };
    eventually("with answers the step passes", || {
        prometheus.check();
        send(&app, 10);
        deployment(&app)["step"] == 2
    });
    eventually("the value is shown", || query(&app)["value"] == 0.0);
    assert_eq!(app.metric("pointsman_guard_value{agent=\"bot\",guard=\"errors above 0.2\"}"), 0.0);
    assert_eq!(app.metric("pointsman_prometheus_query_success{agent=\"bot\"}"), 1.0);

    drop(prometheus);
    eventually("its end is seen", || says(&app, "did not answer"));
    std::thread::sleep(Duration::from_millis(1500));
    let view = deployment(&app);
    assert_eq!((view["state"].as_str(), view["step"].as_u64()), (Some("running"), Some(2)), "no breach: {view}");
}

#[test]
fn a_query_that_gives_no_number_says_so() {
    let (server, stable, canary) = (unused_address(), Endpoint::saying("old"), Endpoint::saying("new"));
    let guards = r#"        - { query: "sum(", above: 0, interval: 1s }
        - { query: "nothing_of_this_name", above: 0, interval: 1s }
        - { query: "vector(0) / vector(0)", below: 1, interval: 1s }
        - { query: "pointsman_config_reloads_total", below: 1000, interval: 1s }
        - { query: "pointsman_table_epoch[5m]", below: 1000, interval: 1s }
"#;
    let app = on_trial(server, &canary, &stable, "100ms", guards);
    let Some(mut prometheus) = Prometheus::start(server, app.admin) else { return };
    let wanted = ["refused the query", "no series", "NaN", "2 series", "a range"];
    eventually("each says what is wrong", || {
        prometheus.check();
        let queries = deployment(&app)["queries"].clone();
        let text = |at: usize| queries[at]["noData"].as_str().unwrap_or_default().to_owned();
        wanted.iter().enumerate().all(|(at, words)| text(at).contains(words))
    });
    let view = deployment(&app);
    assert_eq!((view["state"].as_str(), view["step"].as_u64()), (Some("running"), Some(1)), "{view}");
    for result in ["bad_query", "empty", "not_a_number", "several_series"] {
        assert!(app.metric(&format!("pointsman_prometheus_queries_total{{result=\"{result}\"}}")) >= 1.0, "{result}");
    }
}
