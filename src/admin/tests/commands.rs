//! Every command on deployments, good and bad.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::port::{Answer, Port};

const AGENT: &str = "/api/v1/agents/support-bot";

impl Port {
    async fn current(&self) -> Value {
        self.get(&format!("{AGENT}/deployment")).await.json()
    }

    /// On the current deployment of `support-bot`.
    async fn verb(&self, verb: &str) -> Answer {
        let id = self.current().await["id"].as_str().expect("an id").to_owned();
        self.post(&format!("{AGENT}/deployments/{id}/{verb}"), "{\"reason\": \"for a test\"}").await
    }

    async fn patch(&self, id: &str, headers: &str, body: &str) -> Answer {
        let headers = format!("host: localhost\r\n{headers}");
        self.send("PATCH", &format!("{AGENT}/deployments/{id}"), &headers, body).await
    }
}

/// Of a problem: the places of its errors.
fn places(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let errors = json["errors"].as_array().expect("errors").clone();
    let place = |error: &Value| {
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
        ["pointer", "parameter", "header"].iter().find_map(|kind| error[kind].as_str()).expect("a place").to_owned()
    };
    errors.iter().map(place).collect()
}

#[tokio::test]
async fn a_deployment_is_led_by_hand_to_its_end() {
    let port = Port::local().await;
    let steps = [
        ("pause", "paused", 1.0),
        ("resume", "running", 1.0),
        ("advance", "running", 5.0),
        ("advance", "baking", 100.0),
        ("promote", "completed", 100.0),
    ];
    let mut revision = port.current().await["revision"].as_u64().expect("a revision");
    for (verb, state, weight) in steps {
        let answer = port.verb(verb).await;
        assert_eq!(answer.status, StatusCode::OK, "{verb}: {}", answer.body);
        let done = answer.json();
        let deployment = &done["deployment"];
        assert_eq!((&deployment["state"], &deployment["weightPercent"]), (&state.into(), &weight.into()), "{verb}");
        assert_eq!((&done["dryRun"], &done["agent"]), (&false.into(), &"support-bot".into()));
        assert!(!done["changes"].as_array().expect("changes").is_empty(), "{verb}");
        assert_eq!(done["revision"], revision + 1, "{verb}");
        revision += 1;
        assert!(answer.head.contains(&format!("etag: \"{revision}\"")), "{}", answer.head);
        assert_eq!(&port.current().await, deployment, "the answer is the state that it led to");
    }
    let agent = port.get(AGENT).await.json();
    assert_eq!((&agent["stable"], &agent["revision"]), (&"1.5.0".into(), &revision.into()));
    let late = port.verb("pause").await;
    assert_eq!((late.status, late.problem().as_str()), (StatusCode::CONFLICT, "refused"));
}

#[tokio::test]
async fn a_weight_is_set_and_wrong_ones_are_refused() {
    let port = Port::local().await;
    let id = port.current().await["id"].as_str().expect("an id").to_owned();
    for body in ["{}", "{\"weight\": 5}", "{\"weight\": \"5\"}", "{\"weight\": \"101%\"}", "{\"weight\": null}"] {
        let answer = port.patch(&id, "", body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields"));
        assert_eq!(places(&answer), ["/weight"], "{body}");
    }
    let set = port.patch(&id, "", "{\"weight\": \"12.5%\", \"reason\": \"more of it\"}").await;
    assert_eq!(set.json()["deployment"]["weightPercent"], 12.5, "{}", set.body);
    let unknown = port.patch("none", "", "{\"weight\": \"1%\"}").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (StatusCode::NOT_FOUND, "unknown_deployment"));
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let port = Port::local().await;
    let id = port.current().await["id"].as_str().expect("an id").to_owned();
    let before = (port.get("/api/v1/table").await.json(), port.get(&format!("{AGENT}/deployments")).await.json());
    for verb in ["pause", "advance", "abort", "promote", "rollback"] {
        let target = format!("{AGENT}/deployments/{id}/{verb}?dryRun=true");
        let answer = port.post(&target, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{verb}: {}", answer.body);
        let done = answer.json();
        assert_eq!(done["dryRun"], true);
        assert!(!done["changes"].as_array().expect("changes").is_empty(), "{verb}");
        assert_ne!(done["deployment"]["state"], "waiting", "{verb}");
    }
    let set = port.patch(&format!("{id}?dryRun=true"), "", "{\"weight\": \"50%\"}").await;
    assert_eq!(set.json()["deployment"]["weightPercent"], 50.0);
    let agent = port.post(&format!("{AGENT}/rollback?dryRun=true"), "{\"version\": \"1.6.0\"}").await;
    assert_eq!(agent.status, StatusCode::OK, "{}", agent.body);
    let all =
        port.post("/api/v1/rollback/emergency?dryRun=true", "{\"environment\": \"production\", \"reason\": \"x\"}");
    assert_eq!(all.await.json()[0]["dryRun"], true);
    let created =
        port.post("/api/v1/agents/twin/deployments?dryRun=true&environment=staging", "{\"version\": \"1.5.0\"}");
    let created = created.await;
    assert_eq!((created.status, &created.json()["dryRun"]), (StatusCode::OK, &true.into()), "{}", created.body);
    assert!(!created.head.contains("location:"), "nothing is there: {}", created.head);

    let after = (port.get("/api/v1/table").await.json(), port.get(&format!("{AGENT}/deployments")).await.json());
    assert_eq!(before, after);
    assert_eq!(port.get("/api/v1/agents/twin/deployments?environment=staging").await.json()["items"], json!([]));
    let wrong = port.post(&format!("{AGENT}/deployments/{id}/pause?dryRun=maybe"), "").await;
    assert_eq!((wrong.problem().as_str(), places(&wrong)), ("bad_request", vec!["dryRun".to_owned()]));
}

#[tokio::test]
async fn the_second_of_two_operators_is_told_what_changed() {
    let port = Port::local().await;
    let current = port.current().await;
    let (id, revision) = (current["id"].as_str().expect("an id"), &current["revision"]);
    let if_match = format!("if-match: \"{revision}\"\r\n");
    let first = port.patch(id, &if_match, "{\"weight\": \"10%\", \"reason\": \"faster\"}").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let second = port.patch(id, &if_match, "{\"weight\": \"2%\"}").await;
    assert_eq!((second.status, second.problem().as_str()), (StatusCode::CONFLICT, "conflict"));
    let detail = second.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains("local (api 127.0.0.1") && detail.contains("10%"), "{detail}");
    assert_eq!(second.json()["revision"], first.json()["revision"]);
    assert_eq!(second.json()["changed"][0]["by"]["name"], "local");
    assert_eq!(port.current().await["weightPercent"], 10.0);
    assert_eq!(port.patch(id, "if-match: *\r\n", "{\"weight\": \"20%\"}").await.status, StatusCode::OK);
    for wrong in ["1", "\"x\"", "W/\"1\"", "\"1\", \"2\"", ""] {
        let answer = port.patch(id, &format!("if-match: {wrong}\r\n"), "{\"weight\": \"30%\"}").await;
        assert_eq!(
            (answer.problem().as_str(), places(&answer)),
            ("bad_request", vec!["If-Match".to_owned()]),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_deployment_is_created_when_the_one_before_has_ended() {
    let port = Port::local().await;
    let deployments = format!("{AGENT}/deployments");
    let body = json!({
        "version": "1.6.0",
        "reason": "a better one",
        "steps": [{ "weight": "20%", "hold": "1h" }, { "weight": "100%" }],
        "onBreach": "pause",
        "guards": [{ "metric": "error_rate", "worseThanStableBy": "1%", "confidence": "99.9%" }],
    });
    let live = port.post(&deployments, &body.to_string()).await;
    assert_eq!((live.status, live.problem().as_str()), (StatusCode::CONFLICT, "refused"), "{}", live.body);
    assert_eq!(port.verb("abort").await.json()["deployment"]["state"], "aborted");
    let created = port.post(&deployments, &body.to_string()).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
    let deployment = &created.json()["deployment"];
    assert_eq!((&deployment["weightPercent"], &deployment["onBreach"]), (&20.0.into(), &"pause".into()));
    assert_eq!(deployment["by"]["name"], "local");
    let location = created.head.lines().find_map(|line| line.strip_prefix("location: ")).expect("a location");
    assert_eq!(&port.get(location).await.json(), deployment);

    let list = port.get(&format!("{deployments}?limit=1")).await.json();
    assert_eq!(list["items"][0]["id"], deployment["id"]);
    let next = list["next"].as_str().expect("there is one more");
    let rest = port.get(&format!("{deployments}?after={next}")).await.json();
    assert_eq!((&rest["items"][0]["state"], &rest["next"]), (&"aborted".into(), &Value::Null));
    let earlier = rest["items"][0]["id"].as_str().expect("an id");
    let earlier = port.get(&format!("{deployments}/{earlier}")).await;
    assert_eq!(earlier.json()["ended"]["reason"], "for a test");
    for wrong in ["limit=0", "limit=1001", "limit=x", "limti=1"] {
        let answer = port.get(&format!("{deployments}?{wrong}")).await;
        assert_eq!((answer.problem().as_str(), places(&answer).len()), ("bad_request", 1), "{wrong}");
    }
}

#[tokio::test]
async fn a_wrong_deployment_is_told_every_error_at_once() {
    let port = Port::local().await;
    let body = json!({
        "version": "9.9.9",
        "reason": 5,
        "cooldwon": "1m",
        "steps": [{ "weight": "120%" }, { "weight": "100%", "hold": "soon" }],
        "guards": [{ "metric": "error_rate" }],
    });
    let answer = port.post(&format!("{AGENT}/deployments"), &body.to_string()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields"));
    let places = places(&answer);
    for place in ["/version", "/reason", "/cooldwon", "/steps/0/weight", "/steps/1/hold", "/guards/0"] {
        assert!(places.iter().any(|found| found == place), "{place} in {places:?}");
    }
    let empty = port.post(&format!("{AGENT}/deployments"), "").await;
    assert_eq!(empty.problem(), "invalid_fields");
}

#[tokio::test]
async fn an_agent_returns_to_a_version_or_to_a_point() {
    let port = Port::local().await;
    let rollback = format!("{AGENT}/rollback");
    assert_eq!(port.verb("promote").await.status, StatusCode::OK);
    let points = port.get(&format!("{AGENT}/rollback-points")).await.json();
    assert_eq!((&points["items"][0]["version"], &points["next"]), (&"1.4.2".into(), &Value::Null));
    let point = points["items"][0]["id"].as_str().expect("an id");
    let both = port.post(&rollback, &json!({ "version": "1.6.0", "rollbackPoint": point }).to_string()).await;
    assert_eq!((both.problem().as_str(), places(&both)), ("invalid_fields", vec!["/rollbackPoint".to_owned()]));
    let unknown = port.post(&rollback, "{\"rollbackPoint\": \"99\"}").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (StatusCode::NOT_FOUND, "unknown_rollback_point"));
    let back = port.post(&rollback, &json!({ "rollbackPoint": point }).to_string()).await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.body);
    assert_eq!(port.get(AGENT).await.json()["stable"], "1.4.2");
    let on = port.post(&rollback, "{\"version\": \"1.6.0\"}").await;
    assert_eq!(on.status, StatusCode::OK, "{}", on.body);
    let agent = port.get(AGENT).await.json();
    assert_eq!((&agent["stable"], &agent["stableBy"]["by"]["name"]), (&"1.6.0".into(), &"local".into()));
    assert!(port.post(&rollback, "{\"version\": \"7.7.7\"}").await.status.is_client_error());
}

#[tokio::test]
async fn an_emergency_rolls_back_all_of_one_environment() {
    let port = Port::local().await;
    let emergency = "/api/v1/rollback/emergency";
    let nothing = port.post(emergency, "").await;
    assert_eq!(
        (nothing.problem().as_str(), places(&nothing)),
        ("invalid_fields", vec!["/environment".to_owned(), "/reason".to_owned()])
    );
    let nowhere = port.post(emergency, "{\"environment\": \"moon\", \"reason\": \"fire\"}").await;
    assert_eq!((nowhere.status, nowhere.problem().as_str()), (StatusCode::NOT_FOUND, "unknown_environment"));
    let elsewhere = port.post(emergency, "{\"environment\": \"staging\", \"reason\": \"fire\"}").await;
    assert_eq!(elsewhere.json(), json!([]), "nothing is under way there");
    let (headers, body) =
        ("host: localhost\r\nif-match: \"99\"\r\n", r#"{"environment": "production", "reason": "fire"}"#);
    let done = port.send("POST", emergency, headers, body).await.json();
    assert_eq!((done.as_array().map(Vec::len), &done[0]["agent"]), (Some(1), &"support-bot".into()));
    let current = port.current().await;
    assert_eq!((&current["state"], &current["rollback"]["reason"]), (&"rolled_back".into(), &"fire".into()));
    let again = port.verb("retry").await;
    assert_eq!(
        (again.status, &again.json()["deployment"]["state"]),
        (StatusCode::OK, &"running".into()),
        "{}",
        again.body
    );
}

#[tokio::test]
async fn verdicts_are_of_the_deployment_that_is_asked_for() {
    let port = Port::local().await;
    let id = port.current().await["id"].as_str().expect("an id").to_owned();
    let verdicts = port.get(&format!("{AGENT}/deployments/{id}/verdicts")).await.json();
    assert_eq!((&verdicts["deployment"], &verdicts["verdict"]), (&id.as_str().into(), &"hold".into()));
    let guard = &verdicts["guards"][0];
    assert!(guard["evidence"].is_number() && guard["explanation"].is_string(), "{guard}");
    assert_eq!(guard["canary"]["requests"], 0);
    assert_eq!(port.verb("abort").await.status, StatusCode::OK);
    let ended = port.get(&format!("{AGENT}/deployments/{id}/verdicts")).await.json();
    assert_eq!((&ended["state"], &ended["verdict"]), (&"aborted".into(), &Value::Null));
    assert_eq!(port.get(&format!("{AGENT}/deployments/none/verdicts")).await.problem(), "unknown_deployment");
}

#[tokio::test]
async fn agents_are_listed_in_pages() {
    let port = Port::local().await;
    let mut after = String::new();
    let mut seen = Vec::new();
    loop {
        let page = port.get(&format!("/api/v1/agents?limit=2{after}")).await.json();
        for item in page["items"].as_array().expect("items") {
            seen.push(format!("{}/{}", item["environment"], item["agent"]).replace('"', ""));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["production/support-bot", "production/twin", "staging/twin"]);
    let here = port.get("/api/v1/agents?environment=staging").await.json();
    assert_eq!(here["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(port.get("/api/v1/agents?after=x").await.problem(), "bad_request");
}
