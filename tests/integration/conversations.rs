//! Conversations on their way to another version, under live turns.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use pointsman::control::model::AgentKey;
use pointsman::routing::ids::{AgentId, EnvironmentId};
use pointsman::routing::pin::SharedPins;
use serde_json::json;

use crate::harness::{App, Endpoint, Wire, eventually};

const CONVERSATIONS: usize = 10_000;
const CLIENTS: usize = 4;

/// Conversations whose responses may end.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<HashSet<String>>>);

impl Gate {
    fn open(&self, conversation: &str) {
        self.0.lock().unwrap().insert(conversation.to_owned());
    }

    fn wait(&self, conversation: &str) {
        eventually("the gate opens", || self.0.lock().unwrap().remove(conversation));
    }
}

/// Says its first half, waits for the gate, says the rest: its response is in flight for as long as a test wants.
fn slow(text: &'static str, gate: &Gate) -> Endpoint {
    let gate = gate.clone();
    Endpoint::start(move |mut wire| {
        while let Some(request) = wire.message() {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            if wire.write(format!("{head}{:x}\r\n{text}\r\n", text.len())).is_err() {
                return;
            }
            gate.wait(request.header("x-conversation").unwrap());
            if wire.write(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len())).is_err() {
                return;
            }
        }
    })
}

fn app(old: &Endpoint, new: &Endpoint, stable: &str) -> App {
    let (old, new) = (old.url(), new.url());
    App::with_agents(&format!(
        "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{old}'] }}\n      2.0.0: {{ endpoints: ['{new}'] }}\n    stable: {stable}\n    conversations: {{ id: ['header:x-conversation'] }}\n"
    ))
}

/// As if each had begun at this version.
fn pin(app: &App, version: &str) -> SharedPins {
    let running = app.running.as_ref().unwrap();
    let (table, pins) = (running.table.load_full(), running.control.pins().clone());
    let agent = table.agent("production", "bot").unwrap();
    let (_, seat) = agent.conversations(&pins).unwrap();
    let index = agent.versions.iter().position(|known| known.id.as_str() == version).unwrap();
    for number in 0..CONVERSATIONS {
        let key = seat.key(name(number).as_bytes()).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        pins.make(seat, key, index, u32::try_from(now).unwrap()).unwrap();
    }
    pins
}

fn name(number: usize) -> String {
    format!("conversation-{number}")
}

/// How many conversations each version has.
fn counts(app: &App) -> HashMap<String, u64> {
    let all = app.admin_get("/api/v1/agents/bot/conversations").json();
    let count = |version: &serde_json::Value| {
        (version["version"].as_str().unwrap().to_owned(), version["conversations"].as_u64().unwrap())
    };
    all["versions"].as_array().unwrap().iter().map(count).collect()
}

/// One turn; the version that answered, which has the conversation as long as the response is in flight.
fn turn(app: &App, gate: &Gate, wire: &mut Wire, conversation: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-conversation: {conversation}\r\n\r\n");
    wire.write(request).unwrap();
    let head = wire.head().unwrap();
    assert_eq!(head.status(), 200, "{head:?}");
    let first = wire.chunk().unwrap().unwrap();
    let version = String::from_utf8(first.clone()).unwrap();
    let (environment, agent) = (EnvironmentId::new("production"), AgentId::new("bot"));
    let held = app.running.as_ref().unwrap().control.conversation(&AgentKey { environment, agent }, conversation);
    let held = held.unwrap();
    assert_eq!(held.version.as_str(), version, "{conversation} was moved in the middle of a response");
    assert!(held.in_flight > 0);
    gate.open(conversation);
    assert_eq!(wire.chunk().unwrap().unwrap(), first);
    assert_eq!(wire.chunk().unwrap(), None);
    version
}

#[test]
fn ten_thousand_move_under_live_turns_and_none_is_lost() {
    let gate = Gate::default();
    let (old, new) = (slow("1.0.0", &gate), slow("2.0.0", &gate));
    let app = app(&old, &new, "1.0.0");
    let pins = pin(&app, "1.0.0");
    let (stop, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (app, gate, stop, turns) = (&app, &gate, &stop, &turns);
            scope.spawn(move || {
                let mut wire = app.client();
                let mut seen_new = vec![false; CONVERSATIONS];
                // Each client has conversations of its own, some of which it comes back to.
                for number in (client..).step_by(CLIENTS).map(|number| number % 400) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let is_new = turn(app, gate, &mut wire, &name(number)) == "2.0.0";
                    assert!(is_new || !seen_new[number], "{} went back", name(number));
                    seen_new[number] = is_new;
                    turns.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        eventually("there are turns", || turns.load(Ordering::SeqCst) > 20);
        let body = json!({ "from": "1.0.0", "to": "2.0.0", "reason": "the old one goes" }).to_string();
        let asked = Instant::now();
        let begun = app.admin_post("/api/v1/agents/bot/migrations", &body);
        assert_eq!(begun.status(), 201, "{begun:?}");
        let migration = begun.json()["migration"].clone();
        assert_eq!(migration["total"], CONVERSATIONS);
        let path = format!("/api/v1/agents/bot/migrations/{}", migration["id"].as_str().unwrap());
        eventually("all have moved", || app.admin_get(&path).json()["state"] == "completed");
        println!("{CONVERSATIONS} conversations moved in {:?}, under live turns", asked.elapsed());
        let ended = app.admin_get(&path).json();
        assert_eq!((&ended["moved"], &ended["remaining"]), (&json!(CONVERSATIONS), &json!(0)));
        // They go on at the new version, and it was all while turns were being taken.
        let before = turns.load(Ordering::SeqCst);
        eventually("more turns", || turns.load(Ordering::SeqCst) > before + 20);
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(counts(&app), HashMap::from([("1.0.0".to_owned(), 0), ("2.0.0".to_owned(), CONVERSATIONS as u64)]));
    assert_eq!(pins.len(), CONVERSATIONS, "none is lost");
    assert_eq!(turn(&app, &gate, &mut app.client(), &name(9_999)), "2.0.0");
    assert_eq!(app.metric("pointsman_conversations{version=\"2.0.0\"}"), CONVERSATIONS as f64);
}

#[test]
fn a_version_that_left_the_split_drains_of_conversations_and_of_responses() {
    let gate = Gate::default();
    let (old, new) = (slow("1.0.0", &gate), slow("2.0.0", &gate));
    let app = app(&old, &new, "1.0.0");
    let mut wire = app.client();
    assert_eq!(turn(&app, &gate, &mut wire, "short"), "1.0.0");
    let post = |path: &str, body: &str| {
        let answer = app.admin_post(&format!("/api/v1/agents/bot/{path}"), body);
        assert!(answer.status() < 300, "{answer:?}");
        answer.json()
    };
    post("deployments", r#"{"version": "2.0.0", "strategy": "blue-green", "bake": "0s"}"#);
    eventually("the new one is stable", || app.admin_get("/api/v1/agents/bot").json()["stable"] == "2.0.0");
    assert_eq!(turn(&app, &gate, &mut wire, "short"), "1.0.0", "it keeps its version");
    assert_eq!(turn(&app, &gate, &mut wire, "another"), "2.0.0");
    let draining = || app.admin_get("/api/v1/agents/bot").json()["draining"].clone();
    eventually("the old one drains", || draining()[0]["conversations"] == 1);
    assert_eq!(draining()[0]["version"], "1.0.0");
    assert_eq!(app.admin_get("/api/v1/agents/bot/deployment").json()["draining"][0]["version"], "1.0.0");
    assert_eq!(app.metric("pointsman_version_draining{version=\"1.0.0\",of=\"conversations\"}"), 1.0);
    post("migrations", r#"{"from": "1.0.0", "to": "2.0.0", "conversations": ["short"]}"#);
    eventually("the old one is drained", || draining() == json!([]));
    assert_eq!(turn(&app, &gate, &mut wire, "short"), "2.0.0");
}
