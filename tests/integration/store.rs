//! What the store costs with ten thousand deployments in it. The figures are printed; no test fails for being slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::config::Config;
use pointsman::control::service::Control;
use pointsman::control::store::redb::Redb;
use pointsman::control::store::{Store, Transaction};
use pointsman::telemetry::commits::CommitFigures;
use pointsman::telemetry::stats::StatsRegistry;

use crate::binary::measured;

const DEPLOYMENTS: usize = 10_000;
const COMMITS: usize = 500;

fn config() -> Config {
    let agent = |number: usize| {
        format!(
            "  agent-{number:05}:\n    match: [{{ host: agent-{number:05}.example.com }}]\n    versions:\n      1.0.0: {{ endpoints: [http://127.0.0.1:7001] }}\n      2.0.0: {{ endpoints: [http://127.0.0.1:7002] }}\n    stable: 1.0.0\n    deployment: {{ version: 2.0.0, steps: [{{ weight: 5%, hold: 1h }}, {{ weight: 100% }}] }}\n"
        )
    };
    let text = format!("agents:\n{}", (0..DEPLOYMENTS).map(agent).collect::<String>());
    Config::parse("many.yaml", &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[test]
fn ten_thousand_deployments_are_taken_up_and_listed() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config());
    let open = || {
        let begun = Instant::now();
        let store: Arc<dyn Store> = Arc::new(Redb::open(folder.path()).unwrap());
        let checked = begun.elapsed();
        let registry = Arc::new(StatsRegistry::new(1));
        let opened = Control::open(config.intent(), registry, store.clone(), CommitFigures::default());
        let (control, _, writer) = opened.unwrap_or_else(|error| panic!("{error}"));
        (control, writer, store, checked, begun.elapsed())
    };
    let (control, writer, store, _, first) = open();
    assert_eq!(control.deployments().len(), DEPLOYMENTS);
    writer.stop();
    drop((control, store));

    let (control, writer, store, checked, replayed) = open();
    let begun = Instant::now();
    let listed = control.deployments();
    let list = begun.elapsed();
    assert_eq!(listed.len(), DEPLOYMENTS);
    assert!(listed.iter().all(|view| view.deployment.state.as_str() == "running"));
    writer.stop();
    let commits = commits(&*store);
    measured(format_args!(
        "{DEPLOYMENTS} deployments: first start {:.0} ms, restart {:.0} ms (of it {:.0} to open and check the file), list {:.1} ms; \
         commit of one change, to the disk: median {:.1} ms, p99 {:.1} ms",
        milliseconds(first),
        milliseconds(replayed),
        milliseconds(checked),
        milliseconds(list),
        milliseconds(commits[COMMITS / 2]),
        milliseconds(commits[COMMITS * 99 / 100]),
    ));
}

/// How long each took, the shortest first: an agent's document, a record, and the head of the chain.
fn commits(store: &dyn Store) -> Vec<Duration> {
    let documents = store.range("agents/", None, COMMITS).unwrap();
    let mut times: Vec<_> = documents
        .into_iter()
        .enumerate()
        .map(|(number, (key, document))| {
            let mut transaction = Transaction::default();
            transaction.expect(key.as_str(), Some(document.revision));
            transaction.put(format!("bench/{number:020}"), document.value.clone());
            transaction.put("bench-head", number.to_string().into_bytes());
            transaction.put(key, document.value);
            let begun = Instant::now();
            store.commit(&transaction).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert_eq!(times.len(), COMMITS);
    assert!(store.get("bench-head").unwrap().is_some());
    times
}
