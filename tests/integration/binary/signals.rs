//! SIGHUP reloads; SIGTERM and SIGINT end it, and what is in flight may end too.

use std::net::TcpStream;
use std::sync::{Mutex, mpsc};

use super::process::{File, Process, Proxy, command, logged};
use crate::harness::{Endpoint, PATIENCE, PORTS, eventually, ok};

fn one_agent(endpoint: &Endpoint) -> String {
    format!("agents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n", endpoint.url())
}

#[test]
fn hangup_reloads_also_what_has_not_changed() {
    let endpoint = Endpoint::saying("x");
    let proxy = Proxy::with_yaml(&one_agent(&endpoint));
    let mut client = proxy.client();
    assert_eq!(client.get("/", "u").status(), 200);
    let reloads = || proxy.metric("pointsman_config_reloads_total{result=\"success\"}");
    let first = reloads();
    for number in 1..=3 {
        proxy.process.signal("HUP");
        eventually("one more reload", || reloads() == first + f64::from(number));
        assert_eq!(client.get("/", "u").status(), 200, "the connection lives on");
    }
    eventually("each is logged", || logged(&proxy.process, "configuration reloaded").len() == 3);
    proxy.stop();
}

#[test]
fn hangup_says_again_what_is_wrong() {
    let endpoint = Endpoint::saying("x");
    let file = File::new(&format!("{PORTS}{}", one_agent(&endpoint)));
    let proxy = Proxy::with_file(&file.path);
    let failures = || proxy.metric("pointsman_config_reloads_total{result=\"failure\"}");
    std::fs::write(&file.path, "agents: {}\nlistenerz: []\n").unwrap();
    eventually("the change is refused", || failures() == 1.0);
    proxy.process.signal("HUP");
    eventually("the signal's reload too", || failures() == 2.0);
    let refusals = || logged(&proxy.process, "configuration not reloaded; the last good one stays live");
    eventually("each is logged", || refusals().len() == 2);
    assert!(refusals().iter().all(|event| event["error"].as_str().unwrap().contains("listenerz")));
    assert_eq!(proxy.client().get("/", "u").status(), 200);
}

/// An endpoint that answers when told to, and tells when it was asked.
fn waiting() -> (Endpoint, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (told, asked) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = Mutex::new(may_answer);
    let endpoint = Endpoint::answering(move |_| {
        told.send(()).unwrap();
        let _ = may_answer.lock().unwrap().recv_timeout(PATIENCE);
        ok("at last")
    });
    (endpoint, asked, answer)
}

#[test]
fn an_exchange_in_flight_ends_before_the_process_does() {
    for signal in ["TERM", "INT"] {
        let (endpoint, asked, answer) = waiting();
        let proxy = Proxy::with_yaml(&one_agent(&endpoint));
        let mut idle = proxy.client();
        let mut client = proxy.client();
        client.write("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n\r\n").unwrap();
        asked.recv_timeout(PATIENCE).unwrap();

        proxy.process.signal(signal);
        eventually("nothing new is accepted", || TcpStream::connect(proxy.proxy).is_err());
        assert!(idle.is_closed(), "a connection without an exchange is let go");
        assert_eq!(proxy.admin_get("/livez").status(), 200, "the admin side answers meanwhile");
        assert_eq!(proxy.admin_get("/readyz").status(), 503);
        assert_eq!(proxy.metric("pointsman_requests_in_flight"), 1.0);

        answer.send(()).unwrap();
        let got = client.message().unwrap_or_else(|| panic!("SIG{signal} cut the exchange"));
        assert_eq!((got.status(), got.text()), (200, "at last"));
        assert!(client.is_closed());
        let ended = proxy.process.ended(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn the_drain_time_out_ends_what_does_not_end() {
    let (endpoint, asked, _never) = waiting();
    let proxy = Proxy::with_yaml(&format!("limits: {{ drain_timeout: 100ms }}\n{}", one_agent(&endpoint)));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    proxy.stop();
    assert!(client.message().is_none_or(|answer| answer.status() >= 500), "nobody has answered");
}

/// Whoever sees the port may send the signal: the handler must be there first.
#[test]
fn a_stop_right_after_the_start_is_orderly() {
    let endpoint = Endpoint::saying("x");
    let file = File::new(&format!("{PORTS}{}", one_agent(&endpoint)));
    for _ in 0..5 {
        let process = Process::start(&mut command(&["run", "--log-format", "json", "--config", file.path()]));
        eventually("the first word of listening", || process.err().contains("listening"));
        process.signal("TERM");
        let ended = process.ended(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}
