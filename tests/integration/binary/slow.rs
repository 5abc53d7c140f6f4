//! Clients and endpoints that do not read: what each of them holds of the process's memory.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::measured;
use super::process::Proxy;
use crate::harness::{Endpoint, Wire, eventually};

const READERS: usize = 100;
const WRITERS: usize = 20;
/// Of a body on its way: a gathered write of 16 KiB, and a frame of 64 KiB on each side of it.
const BYTES_EACH: f64 = 256.0 * 1024.0;
/// The kernel holds little at the far ends, so that they are full soon.
const SOCKET_BYTES: usize = 64 << 10;

/// Answers without end, and reads no body until it is `over`.
fn endless(over: Arc<AtomicBool>) -> Endpoint {
    Endpoint::start(move |mut wire| {
        let _ = SockRef::from(&wire.stream).set_recv_buffer_size(SOCKET_BYTES);
        let Some(request) = wire.head() else { return };
        if request.start.starts_with("POST") {
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            return;
        }
        let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        while wire.write([b'x'; 64 << 10]).is_ok() {}
    })
}

/// A client that begins `request` and reads nothing.
fn begin(proxy: &Proxy, request: &str) -> Wire {
    let mut client = proxy.client();
    let socket = SockRef::from(&client.stream);
    socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
    socket.set_send_buffer_size(SOCKET_BYTES).unwrap();
    client.write(request).unwrap();
    client
}

/// Sends until nothing more is taken for a while.
fn fill(mut client: &std::net::TcpStream) {
    client.set_nonblocking(true).unwrap();
    let mut refused = 0;
    while refused < 20 {
        match client.write(&[b'x'; 64 << 10]) {
            Ok(1..) => refused = 0,
            Ok(0) | Err(_) => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn whoever_does_not_read_holds_a_bounded_amount_of_memory() {
    let over = Arc::new(AtomicBool::new(false));
    let endpoint = endless(over.clone());
    let proxy = Proxy::with_yaml(&format!(
        "agents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0, max_request_body: 1GiB }}\n",
        endpoint.url()
    ));
    let resident = || proxy.metric("process_resident_memory_bytes");
    let before = resident();
    let readers: Vec<_> = (0..READERS).map(|_| begin(&proxy, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    let upload = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n";
    let writers: Vec<_> = (0..WRITERS).map(|_| begin(&proxy, upload)).collect();
    writers.iter().for_each(|client| fill(&client.stream));
    eventually("all are under way", || proxy.metric("pointsman_requests_in_flight") == (READERS + WRITERS) as f64);
    let each = (resident() - before) / (READERS + WRITERS) as f64;
    measured(format_args!("{} that do not read hold {:.1} KiB each", READERS + WRITERS, each / 1024.0));
    assert!(each < BYTES_EACH, "{each} bytes each");
    over.store(true, Ordering::SeqCst);
    drop((readers, writers));
    eventually("all are gone", || proxy.metric("pointsman_requests_in_flight") == 0.0);
}
