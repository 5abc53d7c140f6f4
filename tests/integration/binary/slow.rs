//! Clients and endpoints that do not read: what each of them holds of the process's memory.

use std::io::Write;

use super::measured;
use super::process::Proxy;
use crate::harness::{Endpoint, Wire, eventually};

const CLIENTS: usize = 100;
/// Of a body on its way: a gathered write of 16 KiB, and a frame of 64 KiB on each side of it.
const BYTES_EACH: f64 = 256.0 * 1024.0;

/// Answers without end; reads no body.
fn endless() -> Endpoint {
    Endpoint::start(|mut wire| {
        let Some(request) = wire.head() else { return };
        if request.start.starts_with("POST") {
            std::thread::sleep(std::time::Duration::from_secs(20));
            return;
        }
        let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        while wire.write([b'x'; 64 << 10]).is_ok() {}
    })
}

/// Sends without end, until nothing more is taken.
fn upload(mut client: Wire) -> Wire {
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
    client.stream.set_nonblocking(true).unwrap();
    let (mut refused, block) = (0, [b'x'; 64 << 10]);
    // The proxy may be slow to take it, but it is not for ever.
    while refused < 20 {
        match client.stream.write(&block) {
            Ok(_) => refused = 0,
            Err(_) => {
                refused += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
    client
}

#[test]
fn whoever_does_not_read_holds_a_bounded_amount_of_memory() {
    let endpoint = endless();
    let proxy = Proxy::with_yaml(&format!(
        "agents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        endpoint.url()
    ));
    let resident = || proxy.metric("process_resident_memory_bytes");
    let before = resident();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = proxy.client();
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        clients.push(client);
    }
    let uploads: Vec<_> = (0..CLIENTS / 10)
        .map(|_| {
            let clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
            std::thread::spawn(move || clients.into_iter().map(upload).collect::<Vec<_>>())
        })
        .collect();
    clients.extend(uploads.into_iter().flat_map(|thread| thread.join().unwrap()));
    eventually("all are under way", || proxy.metric("pointsman_requests_in_flight") == (2 * CLIENTS) as f64);
    let each = (resident() - before) / clients.len() as f64;
    measured(format_args!("{} that do not read hold {:.1} KiB each", clients.len(), each / 1024.0));
    assert!(each < BYTES_EACH, "{each} bytes each");
    drop(clients);
    eventually("all are gone", || proxy.metric("pointsman_requests_in_flight") == 0.0);
}
