//! Conversations and migrations over the wire.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::port::{Answer, Port};

const AGENT: &str = "/api/v1/agents/support-bot";

impl Port {
    /// Pins conversations `c0` … to a version of `support-bot`.
    fn talk(&self, count: usize, version: &str) {
        let (table, pins) = (self.state.control.table().load_full(), self.state.control.pins());
        let agent = table.agent("production", "support-bot").expect("is there");
        let (_, seat) = agent.conversations(pins).expect("it talks");
        let index = agent.versions.iter().position(|known| known.id.as_str() == version).expect("has it");
        for number in 0..count {
            let key = seat.key(format!("c{number}").as_bytes()).expect("an id");
            // Long before any migration of a test.
            pins.make(seat, key, index, 1_000_000_000).expect("there is room");
        }
    }

    async fn migrate(&self, query: &str, body: Value) -> Answer {
        self.post(&format!("{AGENT}/migrations{query}"), &body.to_string()).await
    }
}

#[tokio::test]
async fn a_migration_is_begun_seen_and_cancelled() {
    let port = Port::local().await;
    port.talk(30, "1.4.2");
    let body = json!({ "from": "1.4.2", "to": "1.5.0", "share": "10%", "every": "1m", "reason": "moving day" });
    let dry = port.migrate("?dryRun=true", body.clone()).await;
    assert_eq!((dry.status, &dry.json()["dryRun"]), (StatusCode::OK, &true.into()), "{}", dry.body);
    assert_eq!(port.get(&format!("{AGENT}/migrations")).await.json()["items"], json!([]));

    let begun = port.migrate("", body.clone()).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{}", begun.body);
    let migration = begun.json()["migration"].clone();
    let id = migration["id"].as_str().expect("an id").to_owned();
    let path = format!("{AGENT}/migrations/{id}");
    assert!(begun.head.contains(&format!("location: {path}?environment=production")), "{}", begun.head);
    for (field, value) in [
        ("state", json!("running")),
        ("mode", json!("gradual")),
        ("sharePercent", json!(10.0)),
        ("everySeconds", json!(60.0)),
        ("total", json!(30)),
        ("remaining", json!(30)),
        ("reason", json!("moving day")),
        ("perSecond", Value::Null),
        ("endedAt", Value::Null),
    ] {
        assert_eq!(migration[field], value, "{field}");
    }
    assert!(migration["estimatedEnd"].is_string(), "{migration}");
    let clash = port.migrate("", body).await;
    assert_eq!((clash.status, clash.problem().as_str()), (StatusCode::CONFLICT, "migration_running"));
    assert!(clash.body.contains(&id), "it names the other: {}", clash.body);
    assert_eq!(port.get(&path).await.json()["id"], id);
    assert_eq!(port.get(&format!("{AGENT}/migrations/none")).await.problem(), "unknown_migration");

    let would = port.post(&format!("{path}/cancel?dryRun=true"), "").await.json();
    assert_eq!((&would["dryRun"], &would["migration"]["state"]), (&true.into(), &"cancelled".into()));
    let done = port.post(&format!("{path}/cancel"), "{\"reason\": \"enough\"}").await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(done.body.contains("0 conversations have moved, and stay at 1.5.0"), "{}", done.body);
    let ended = &port.get(&format!("{AGENT}/migrations")).await.json()["items"][0];
    assert_eq!((&ended["state"], &ended["because"]), (&"cancelled".into(), &"enough".into()));
    assert_eq!(ended["cancelledBy"]["name"], "local");
    let again = port.post(&format!("{path}/cancel"), "").await;
    assert_eq!((again.status, again.problem().as_str()), (StatusCode::CONFLICT, "refused"));
    let audit = port.get("/api/v1/audit?order=newest").await.json();
    let commands: Vec<_> = audit["items"].as_array().expect("items").iter().map(|r| r["command"].clone()).collect();
    assert_eq!(commands[..2], [json!("cancel migration"), json!("migrate")]);
}

#[tokio::test]
async fn sent_twice_with_one_key_it_begins_once() {
    let port = Port::local().await;
    let body = json!({ "from": "1.4.2", "to": "1.5.0", "perSecond": 1 }).to_string();
    let headers = "host: localhost\r\nidempotency-key: one\r\n";
    port.talk(5, "1.4.2");
    let first = port.send("POST", &format!("{AGENT}/migrations"), headers, &body).await;
    let second = port.send("POST", &format!("{AGENT}/migrations"), headers, &body).await;
    assert_eq!((first.status, &first.body), (StatusCode::CREATED, &second.body));
    assert_eq!(port.get(&format!("{AGENT}/migrations")).await.json()["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn every_field_that_is_wrong_is_told() {
    let port = Port::local().await;
    let cases = [
        (json!({}), vec!["/from", "/to"]),
        (json!({ "from": "1.4.2", "to": "7.0.0" }), vec!["/to"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "perSecond": 0 }), vec!["/perSecond"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "perSecond": "many" }), vec!["/perSecond"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "share": "10%" }), vec!["/every"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "every": "1m" }), vec!["/share"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "share": "10", "every": "soon" }), vec!["/share", "/every"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "share": "0%", "every": "1m" }), vec!["/share"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "share": "1%", "every": "1ms" }), vec!["/every"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "conversations": [] }), vec!["/conversations"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "conversations": [1] }), vec!["/conversations"]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "perSecond": 1, "conversations": ["c"] }), vec![""]),
        (json!({ "from": "1.4.2", "to": "1.5.0", "speed": 1 }), vec!["/speed"]),
    ];
    for (body, places) in cases {
        let answer = port.migrate("", body.clone()).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields"),
            "{body}"
        );
        let json = answer.json();
        let told: Vec<_> = json["errors"].as_array().expect("errors").iter().map(|e| e["pointer"].clone()).collect();
        assert_eq!(told, places, "{body}: {json}");
    }
    let silent =
        port.post("/api/v1/agents/twin/migrations?environment=staging", r#"{"from":"1.4.2","to":"1.5.0"}"#).await;
    assert_eq!(silent.problem(), "refused");
    assert!(silent.body.contains("`conversations`"), "{}", silent.body);
}

#[tokio::test]
async fn conversations_are_counted_looked_up_and_forgotten() {
    let port = Port::local().await;
    port.talk(3, "1.5.0");
    let all = port.get(&format!("{AGENT}/conversations")).await.json();
    let canary =
        all["versions"].as_array().expect("versions").iter().find(|v| v["version"] == "1.5.0").expect("it has some");
    assert_eq!((&canary["conversations"], &canary["inFlight"]), (&3.into(), &0.into()));
    assert_eq!((&all["pins"], &all["draining"]), (&3.into(), &json!([])));

    let one = format!("{AGENT}/conversations/c1");
    let found = port.get(&one).await.json();
    assert_eq!((&found["version"], &found["inFlight"]), (&"1.5.0".into(), &0.into()));
    assert_eq!(found["createdAt"], "2001-09-09T01:46:40.000Z");
    assert_eq!(port.get(&format!("{AGENT}/conversations/c99")).await.problem(), "unknown_conversation");
    let delete = |query: &str| {
        let target = format!("{one}{query}");
        let port = &port;
        async move { port.send("DELETE", &target, "host: localhost\r\n", "").await }
    };
    assert_eq!(delete("?dryRun=true").await.status, StatusCode::OK);
    assert_eq!(port.get(&one).await.status, StatusCode::OK);
    assert_eq!(delete("").await.json()["version"], "1.5.0");
    assert_eq!(port.get(&one).await.problem(), "unknown_conversation");
    assert_eq!(delete("").await.problem(), "unknown_conversation");
    let newest = port.get("/api/v1/audit?order=newest&limit=1").await.json();
    assert_eq!(
        (&newest["items"][0]["command"], newest.to_string().contains("c1\"")),
        (&"unpin".into(), false),
        "{newest}"
    );
}
