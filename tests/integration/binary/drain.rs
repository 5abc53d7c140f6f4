//! A stop under load, and what a service manager is told and gives.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::process::{File, Proxy, command, logged};
use crate::harness::{Endpoint, PATIENCE, PORTS, Wire, eventually};

fn one_agent(endpoint: &Endpoint) -> String {
    format!("agents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n", endpoint.url())
}

/// What is gone is not ready either.
fn is_ready(admin_side: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(admin_side) else { return false };
    let mut wire = Wire::new(stream);
    let asked = wire.write("GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    asked.is_ok() && wire.message().is_some_and(|answer| answer.status() == 200)
}

/// A client as behind a load balancer: a new connection only where the instance is ready, and an answer for every
/// request on it.
fn ask_while_ready(proxy: SocketAddr, admin_side: SocketAddr, answered: &AtomicUsize) {
    while is_ready(admin_side) {
        let Ok(stream) = TcpStream::connect(proxy) else { return };
        let mut wire = Wire::new(stream);
        loop {
            wire.write("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n\r\n").expect("is open");
            let answer = wire.message().expect("a request is never left without an answer");
            assert_eq!(answer.status(), 200);
            answered.fetch_add(1, Ordering::SeqCst);
            if answer.header("connection") == Some("close") {
                assert!(wire.is_closed());
                break;
            }
        }
    }
}

#[test]
fn no_request_fails_while_it_stops_under_load() {
    for delay in ["0s", "300ms"] {
        let endpoint = Endpoint::saying("x");
        let yaml = format!("limits: {{ drain_delay: {delay} }}\n{}", one_agent(&endpoint));
        let proxy = Proxy::with_yaml(&yaml);
        let answered = Arc::new(AtomicUsize::new(0));
        let client = |_| {
            let (address, admin, answered) = (proxy.proxy, proxy.admin, answered.clone());
            std::thread::spawn(move || ask_while_ready(address, admin, &answered))
        };
        let clients: Vec<_> = (0..8).map(client).collect();
        eventually("the load is on", || answered.load(Ordering::SeqCst) > 100);
        proxy.process.signal("TERM");
        for client in clients {
            client.join().unwrap();
        }
        let ended = proxy.process.ended(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("every exchange has ended"), "{ended:?}");
    }
}

#[test]
fn readiness_fails_first_and_connections_are_taken_on_for_the_delay() {
    let endpoint = Endpoint::saying("x");
    let proxy = Proxy::with_yaml(&format!("limits: {{ drain_delay: 1h }}\n{}", one_agent(&endpoint)));
    let mut kept = proxy.client();
    assert_eq!(kept.get("/", "u").header("connection"), None);
    proxy.process.signal("TERM");
    eventually("it is not ready", || proxy.admin_get("/readyz").status() == 503);
    let answer = proxy.client().get("/", "u");
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert_eq!(kept.get("/", "u").header("connection"), Some("close"));
    assert!(kept.is_closed());
    proxy.stop();
}

#[test]
fn a_second_signal_ends_at_once_and_says_what_it_cut() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.message();
        let _ = wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        wire.is_closed();
    });
    let proxy = Proxy::with_yaml(&format!("limits: {{ drain_timeout: 1h }}\n{}", one_agent(&endpoint)));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.head().unwrap();
    proxy.process.signal("TERM");
    let waiting = "the listeners are closed; waiting for what is in flight";
    eventually("it waits", || !logged(&proxy.process, waiting).is_empty());
    assert_eq!(logged(&proxy.process, waiting)[0]["exchanges"], 1);
    let ended = proxy.stop();
    assert!(ended.err.contains("asked again to stop"), "{ended:?}");
    let cut =
        ended.err.lines().find(|line| line.contains("an exchange was cut")).unwrap_or_else(|| panic!("{ended:?}"));
    assert!(cut.contains("\"bot\"") && cut.contains("\"1.0.0\""), "{cut}");
    assert!(ended.err.contains("\"cut\":1"), "{ended:?}");
}

#[test]
fn a_service_manager_gives_the_socket_and_is_told() {
    let endpoint = Endpoint::saying("by the given socket");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let ports =
        PORTS.replace("listeners: [{ address: '127.0.0.1:0' }]", &format!("listeners: [{{ address: '{address}' }}]"));
    let file = File::new(&format!("{ports}{}", one_agent(&endpoint)));
    let told = UnixDatagram::bind(file.at("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut text = [0; 256];
        let length = told.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    // The shell puts the socket where a service manager does, and its own number stays the process's.
    let run = command(&["run", "--log-format", "json", "--config", file.path()]);
    let mut given = Command::new("sh");
    given.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec \"$@\" 3<&0 0</dev/null", "sh"]);
    given.arg(run.get_program()).args(run.get_args()).env("NOTIFY_SOCKET", file.at("notify"));
    given.stdin(Stdio::from(OwnedFd::from(socket))).stdout(Stdio::piped()).stderr(Stdio::piped());
    let proxy = Proxy::of(&mut given);
    assert_eq!(proxy.proxy, address);
    assert_eq!(proxy.client().get("/", "u").text(), "by the given socket");
    assert_eq!(heard(), "READY=1");
    proxy.process.signal("HUP");
    assert_eq!((heard().as_str(), heard().as_str()), ("RELOADING=1", "READY=1"));
    proxy.process.signal("TERM");
    assert_eq!(heard(), "STOPPING=1");
    let ended = proxy.process.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let endpoint = Endpoint::saying("x");
    let file = File::new(&format!("{PORTS}{}", one_agent(&endpoint)));
    let mut run = command(&["run", "--log-format", "json", "--config", file.path()]);
    run.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let proxy = Proxy::of(&mut run);
    assert_eq!(proxy.client().get("/", "u").status(), 200);
    proxy.stop();
}
