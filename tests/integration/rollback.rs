//! A canary that fails: out of the table at once, and for good.

use crate::harness::{App, Endpoint, Message, eventually, ok, status};

/// Stable at `stable`, 2.0.0 on trial at `canary` with 50 %; `deployment` adds to the deployment block.
fn on_trial(stable: &Endpoint, canary: &Endpoint, deployment: &str) -> App {
    App::with_agents(&format!(
        "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    deployment:\n      version: 2.0.0\n{deployment}",
        stable.url(),
        canary.url()
    ))
}

const HALF: &str = "      steps: [{ weight: 50%, hold: 1h }, { weight: 100% }]\n";
const ERRORS: &str = "      guards: [{ metric: error_rate, above: 20%, window: 1m, min_requests: 10 }]\n";

/// Sends `number` requests of different users.
fn send(app: &App, number: usize) -> Vec<Message> {
    let mut client = app.client();
    (0..number).map(|user| client.get("/", &format!("user-{user}"))).collect()
}

fn deployment(app: &App) -> serde_json::Value {
    app.admin_get("/api/v1/agents/bot/deployment").json()
}

fn share(answers: &[Message], version: &str) -> f64 {
    answers.iter().filter(|answer| answer.version() == version).count() as f64 / answers.len() as f64
}

#[test]
fn errors_take_the_canary_out_and_say_why() {
    let stable = Endpoint::saying("fine");
    let canary = Endpoint::answering(|_| status(500));
    let app = on_trial(&stable, &canary, &format!("{HALF}{ERRORS}"));
    eventually("the guard trips", || {
        send(&app, 20);
        deployment(&app)["state"] == "rolled_back"
    });
    let after = send(&app, 200);
    assert_eq!(share(&after, "1.0.0"), 1.0);
    assert!(after.iter().all(|answer| answer.status() == 200));

    let view = deployment(&app);
    let text = view.to_string();
    assert!(text.contains("error_rate"), "which guard: {text}");
    assert!(text.contains("\"requests\"") && text.contains("\"errors\""), "which figures: {text}");
    assert_eq!(app.metric("pointsman_rollbacks_total{agent=\"bot\",cause=\"guard\",environment=\"production\"}"), 1.0);
    let table = app.admin_get("/api/v1/table");
    assert!(table.text().contains("rolled_back"), "{}", table.text());
}

#[test]
fn slow_answers_take_the_canary_out() {
    let stable = Endpoint::saying("fine");
    let canary = Endpoint::answering(|_| {
        std::thread::sleep(std::time::Duration::from_millis(60));
        ok("slow")
    });
    let guard = "      guards: [{ metric: latency_p90, above: 50ms, window: 1m, min_requests: 10 }]\n";
    let app = on_trial(&stable, &canary, &format!("{HALF}{guard}"));
    eventually("the guard trips", || {
        send(&app, 10);
        deployment(&app)["state"] == "rolled_back"
    });
    assert_eq!(share(&send(&app, 100), "1.0.0"), 1.0);
}

#[test]
fn client_cancels_are_not_errors_of_the_version() {
    let (told, begun) = std::sync::mpsc::channel();
    let slow = Endpoint::start(move |mut wire| {
        while wire.message().is_some() {
            told.send(()).unwrap();
            assert!(wire.is_closed());
        }
    });
    let app = on_trial(&slow, &slow, &format!("{HALF}{ERRORS}"));
    for user in 0..60 {
        let mut client = app.client();
        client.write(format!("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: user-{user}\r\n\r\n")).unwrap();
        begun.recv_timeout(crate::harness::PATIENCE).unwrap();
        drop(client);
    }
    eventually("all are seen to have gone", || app.outcomes("client_cancel") == 60.0);
    assert_eq!(deployment(&app)["state"], "running");
}

#[test]
fn a_healthy_ramp_completes_and_keeps_its_users() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let steps = "      steps: [{ weight: 10%, hold: 300ms }, { weight: 50%, hold: 300ms }, { weight: 100% }]\n      bake: 300ms\n";
    let guard = "      guards: [{ metric: error_rate, above: 20%, window: 1m, min_requests: 5 }]\n";
    let app = on_trial(&stable, &canary, &format!("{steps}{guard}"));
    let mut in_canary: Vec<bool> = vec![false; 100];
    eventually("the deployment completes", || {
        for (user, answer) in send(&app, 100).iter().enumerate() {
            let now = answer.version() == "2.0.0";
            assert!(now || !in_canary[user], "user {user} was thrown out of the canary as it grew");
            in_canary[user] = now;
        }
        deployment(&app)["state"] == "completed"
    });
    assert_eq!(share(&send(&app, 100), "2.0.0"), 1.0);
}

#[test]
fn silence_neither_advances_nor_trips() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let steps = "      steps: [{ weight: 10%, hold: 50ms }, { weight: 100% }]\n";
    let app = on_trial(&stable, &canary, &format!("{steps}{ERRORS}"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let view = deployment(&app);
    assert_eq!(view["state"], "running", "{view}");
    assert_eq!(
        app.metric("pointsman_version_weight_ratio{agent=\"bot\",environment=\"production\",version=\"2.0.0\"}"),
        0.1
    );
}

#[test]
fn an_operator_s_rollback_is_immediate_and_latches() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let app = on_trial(&stable, &canary, &format!("{HALF}{ERRORS}"));
    assert!(share(&send(&app, 200), "2.0.0") > 0.3);
    let answer = app.admin_post("/api/v1/agents/bot/rollback", r#"{"reason":"it talks nonsense"}"#);
    assert!((200..300).contains(&answer.status()), "{answer:?}");
    assert_eq!(share(&send(&app, 200), "1.0.0"), 1.0);
    assert!(deployment(&app).to_string().contains("it talks nonsense"));
    let again = app.admin_post("/api/v1/agents/bot/rollback", "{}");
    assert_eq!(again.status(), 409, "{again:?}");
    let unknown = app.admin_post("/api/v1/agents/bott/rollback", "{}");
    assert_eq!(unknown.status(), 404);
    assert!(unknown.text().contains("bot"), "the nearest name: {}", unknown.text());
}

#[test]
fn an_unrelated_reload_does_not_reopen_a_rollback() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::answering(|_| status(500)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    let text = |hold: &str, note: &str| {
        format!(
            "{}agents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n      2.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n    deployment:\n      version: 2.0.0\n      steps: [{{ weight: 50%, hold: {hold} }}, {{ weight: 100% }}]\n{ERRORS}# {note}\n",
            crate::harness::PORTS,
            stable.url(),
            canary.url()
        )
    };
    std::fs::write(&path, text("1h", "first")).unwrap();
    let app = App::watching(&path);
    eventually("the guard trips", || {
        send(&app, 20);
        deployment(&app)["state"] == "rolled_back"
    });
    let epoch = || app.running.as_ref().unwrap().table.load().epoch;
    let before = epoch();
    std::fs::write(&path, text("1h", "second")).unwrap();
    eventually("the reload took effect", || epoch() > before);
    assert_eq!(deployment(&app)["state"], "rolled_back");
    assert_eq!(share(&send(&app, 100), "1.0.0"), 1.0);
    // A changed block is a new deployment.
    std::fs::write(&path, text("2h", "third")).unwrap();
    eventually("it starts anew", || deployment(&app)["state"] == "running");
}
