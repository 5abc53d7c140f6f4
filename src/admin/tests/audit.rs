//! The audit trail as the API shows it.

use super::port::Port;

#[tokio::test]
async fn each_command_is_in_the_audit_with_its_actor() {
    let port = Port::local().await;
    let agent = "/api/v1/agents/support-bot";
    let start = port.get("/api/v1/audit").await.json()["items"].as_array().map_or(0, Vec::len);
    let id = port.get(&format!("{agent}/deployment")).await.json()["id"].as_str().expect("an id").to_owned();
    for verb in ["pause", "resume", "rollback"] {
        let answer = port.post(&format!("{agent}/deployments/{id}/{verb}"), "{\"reason\":\"for a test\"}").await;
        assert!(answer.status.is_success(), "{verb}: {}", answer.body);
    }
    let dry = port.post(&format!("{agent}/deployments/{id}/retry?dryRun=true"), "").await;
    assert!(dry.status.is_success(), "{}", dry.body);
    let all = port.get("/api/v1/audit").await.json();
    let records = all["items"].as_array().expect("items");
    assert_eq!(records.len(), start + 3, "a dry run leaves no record");
    let last = &records[records.len() - 1];
    assert_eq!((&last["actor"]["name"], &last["reason"]), (&"local".into(), &"for a test".into()));
    assert!(last["actor"]["source"].as_str().is_some_and(|s| s.starts_with("api 127.0.0.1:")), "{last}");
    assert_eq!((&last["agent"], &last["sequence"]), (&"support-bot".into(), &records.len().into()));
    assert!(last["hash"].is_string() && last["previousHash"] == records[records.len() - 2]["hash"]);

    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = port.get(&format!("/api/v1/audit?agent=support-bot&limit=1{after}")).await.json();
        seen.extend(page["items"].as_array().expect("items").iter().map(|r| r["sequence"].as_u64()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let expected: Vec<_> =
        records.iter().filter(|r| r["agent"] == "support-bot").map(|r| r["sequence"].as_u64()).collect();
    assert_eq!(seen, expected);
    let newest = port.get("/api/v1/audit?order=newest&limit=2").await.json();
    let backwards: Vec<_> = records.iter().rev().cloned().collect();
    assert_eq!(newest["items"], serde_json::json!(backwards[..2]));
    let next = newest["next"].as_str().expect("there are older ones");
    let rest = port.get(&format!("/api/v1/audit?order=newest&after={next}")).await.json();
    assert_eq!((&rest["items"], &rest["next"]), (&serde_json::json!(backwards[2..]), &serde_json::Value::Null));
    assert_eq!(port.get("/api/v1/audit?order=best").await.problem(), "bad_request");
    let elsewhere = port.get("/api/v1/audit?environment=moon").await.json();
    assert_eq!(elsewhere["items"], serde_json::json!([]));
    assert_eq!(port.get("/api/v1/audit?after=x").await.problem(), "bad_request");
}
