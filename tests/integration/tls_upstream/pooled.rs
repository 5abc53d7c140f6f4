//! Kept connections: what spoils them, and what does not; and what comes of changed certificates.

use std::sync::{Mutex, mpsc};

use super::front::{Authority, Front, Order, server};
use super::{NAME, app, front_of, tls};
use crate::harness::{App, Endpoint, PORTS, Wire, eventually};

fn post(client: &mut Wire) -> u16 {
    client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").status()
}

#[test]
fn what_tls_says_to_itself_does_not_spoil_an_idle_connection() {
    let (endpoint, authority) = (Endpoint::saying("ok"), Authority::new());
    let front = front_of(&endpoint, &authority);
    let app = app(&front, &format!("    timeouts: {{ pool_idle: 1m }}\n{}", tls(&authority, "")));
    let mut client = app.client();
    for round in 0..10 {
        // GET asks the runtime whether the connection is quiet, POST the kernel.
        assert_eq!(if round % 2 == 0 { client.get("/", "ann").status() } else { post(&mut client) }, 200);
        front.order(Order::Rekey);
    }
    // Also past the sweep, which comes by each second.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(post(&mut client), 200);
    assert_eq!((endpoint.connections(), app.metric("pointsman_upstream_connections_stale_total")), (1, 0.0));
}

#[test]
fn a_connection_that_was_closed_meanwhile_costs_no_request() {
    for order in [Order::GoodBye, Order::Cut] {
        let (endpoint, authority) = (Endpoint::saying("ok"), Authority::new());
        let front = front_of(&endpoint, &authority);
        let app = app(&front, &format!("    timeouts: {{ pool_idle: 1m }}\n{}", tls(&authority, "")));
        let mut client = app.client();
        for round in 0..20 {
            assert_eq!(if round % 2 == 0 { client.get("/", "ann").status() } else { post(&mut client) }, 200);
            front.order(order);
            // What is on its way to the proxy is there by then.
            eventually("the front has let go", || endpoint.connections() == front.seen().len());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!((app.outcomes("success"), endpoint.connections()), (20.0, 20), "{order:?}");
    }
}

#[test]
fn agents_with_other_certificates_share_no_connection() {
    let (endpoint, authority, ours) = (Endpoint::saying("ok"), Authority::new(), Authority::new());
    let front = Front::before(endpoint.address, server(&authority.issue(&[NAME]), &[], Some(&ours)));
    let agent = |name: &str| {
        ours.write(&ours.issue(&[name]), name);
        let (cert, key) = (ours.path(&format!("{name}.pem")), ours.path(&format!("{name}.key")));
        let settings = tls(&authority, &format!(", cert: '{cert}', key: '{key}'"));
        let url = front.url();
        format!(
            "  {name}:\n    match: [{{ path_prefix: /{name} }}]\n    versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}\n    stable: 1.0.0\n{settings}"
        )
    };
    let app = App::with_agents(&format!("{}{}", agent("one"), agent("two")));
    let mut client = app.client();
    for _ in 0..3 {
        assert_eq!(client.get("/one", "ann").text(), "ok");
        assert_eq!(client.get("/two", "ann").text(), "ok");
    }
    let shown: Vec<_> = front.seen().into_iter().map(|seen| seen.client.unwrap()).collect();
    assert!(shown.len() == 2 && shown[0] != shown[1], "{} connections", shown.len());
}

#[test]
fn a_new_certificate_is_for_new_requests_and_cuts_none() {
    for protocol in ["http1", "http2"] {
        renewed(protocol);
    }
}

fn renewed(protocol: &str) {
    let (more, chunks) = mpsc::channel::<()>();
    let chunks = Mutex::new(chunks);
    let (authority, ours) = (Authority::new(), Authority::new());
    let (old, new) = (ours.issue(&["old"]), ours.issue(&["new"]));
    ours.write(&old, "pair");
    let config = server(&authority.issue(&[NAME]), &["h2", "http/1.1"], Some(&ours));
    let (_http1, _http2, front);
    if protocol == "http1" {
        let endpoint = Endpoint::start(move |mut wire| {
            while let Some(request) = wire.message() {
                wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n").unwrap();
                if request.start.contains("/stream") {
                    chunks.lock().unwrap().recv().unwrap();
                }
                wire.write("3\r\nend\r\n0\r\n\r\n").unwrap();
            }
        });
        front = Front::before(endpoint.address, config);
        _http1 = endpoint;
    } else {
        let chunks = std::sync::Arc::new(chunks);
        let endpoint = crate::upstream_http2::endpoint::Endpoint2::start(move |mut call| {
            let chunks = chunks.clone();
            async move {
                let mut stream = call.head(http::Response::new(()));
                let send = crate::upstream_http2::endpoint::send;
                send(&mut stream, "begin".into()).await.unwrap();
                while call.request.uri().path() == "/stream" && chunks.lock().unwrap().try_recv().is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                let _ = stream.send_data("end".into(), true);
            }
        });
        front = Front::before(endpoint.url.trim_start_matches("http://").parse().unwrap(), config);
        _http2 = endpoint;
    }
    let (cert, key) = (ours.path("pair.pem"), ours.path("pair.key"));
    let settings = tls(&authority, &format!(", cert: '{cert}', key: '{key}'"));
    let app = app(&front, &format!("    protocol: {protocol}\n    timeouts: {{ pool_idle: 1m }}\n{settings}"));
    let mut stream = app.client();
    stream.write("GET /stream HTTP/1.1\r\nhost: a\r\nx-user-id: ann\r\n\r\n").unwrap();
    assert_eq!(stream.head().unwrap().status(), 200);
    assert_eq!(stream.chunk().unwrap().unwrap(), b"begin");

    ours.write(&new, "pair");
    let shown = || front.seen().pop().and_then(|seen| seen.client).unwrap();
    eventually("the new one is shown", || {
        assert_eq!(app.client().get("/", "ann").text(), "beginend");
        shown() == new.der()
    });
    assert!(front.seen().iter().any(|seen| seen.client == Some(old.der())));
    more.send(()).unwrap();
    assert_eq!(stream.chunk().unwrap().unwrap(), b"end", "{protocol}");
    assert_eq!(stream.chunk(), Some(None), "what had begun with the old one ends whole");

    // A pair that does not fit changes nothing.
    let before = front.seen().len();
    std::fs::write(ours.path("pair.key"), "no key").unwrap();
    eventually("it is seen", || app.metric("pointsman_tls_reloads_total{result=\"failure\"}") > 0.0);
    assert_eq!(app.client().get("/", "ann").text(), "beginend");
    assert!(front.seen()[before..].iter().all(|seen| seen.client == Some(new.der())));
}

#[test]
fn a_changed_file_may_change_who_is_believed_and_a_bad_one_changes_nothing() {
    let (endpoint, authority, other) = (Endpoint::saying("ok"), Authority::new(), Authority::new());
    let front = front_of(&endpoint, &authority);
    let text = |ca: &str| {
        format!(
            "{PORTS}agents:\n  bot:\n    versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}\n    stable: 1.0.0\n    tls: {{ ca: '{ca}', server_name: {NAME} }}\n",
            front.url()
        )
    };
    let file = authority.path("pointsman.yaml");
    std::fs::write(&file, text(&other.path("ca.pem"))).unwrap();
    let app = App::watching(std::path::Path::new(&file));
    let status = || app.client().get("/", "ann").status();
    assert_eq!(status(), 502);
    std::fs::write(&file, text(&authority.path("ca.pem"))).unwrap();
    eventually("the right authority is believed", || status() == 200);
    std::fs::write(&file, text(&authority.path("none.pem"))).unwrap();
    eventually("it is refused", || app.metric("pointsman_config_last_reload_success") == 0.0);
    let said = app.admin_get("/api/v1/config");
    assert!(said.text().contains("agents.bot.tls: ") && said.text().contains("none.pem: cannot be read"), "{said:?}");
    assert_eq!(status(), 200);
}
