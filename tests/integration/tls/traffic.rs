//! What passes over TLS is what was sent: large and slow, both ways, tunnels, HTTP/2.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use h2::client::Builder;
use tokio_rustls::TlsConnector;

use crate::harness::{Endpoint, PATIENCE, Wire, eventually};
use crate::tls::client::{Files, Secured, secured};

/// No two blocks of it are alike.
fn pattern(length: usize) -> Vec<u8> {
    let word = |index: u64| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).to_le_bytes();
    (0..length as u64 / 8 + 1).flat_map(word).take(length).collect()
}

const LARGE: usize = 6 << 20;

/// Sends back each body, chunked in pieces of all sizes.
fn echo() -> Endpoint {
    Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            let (mut rest, mut size) = (&request.body[..], 1);
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(size.min(rest.len()));
                wire.write([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).unwrap();
                (rest, size) = (left, (size * 3) % 100_000 + 1);
            }
            wire.write("0\r\n\r\n").unwrap();
        }
    })
}

#[test]
fn large_bodies_pass_whole_and_to_a_slow_reader_too() {
    let (files, endpoint) = (Files::new(), echo());
    let app = secured(&files, &endpoint);
    let body = pattern(LARGE);
    let mut client = files.trusting().to(&app);
    for slow in [false, true] {
        client.write(format!("POST / HTTP/1.1\r\nhost: agent.test\r\ncontent-length: {LARGE}\r\n\r\n"));
        client.write(&body);
        if slow {
            // All buffers on the way are full by then.
            std::thread::sleep(Duration::from_millis(300));
        }
        client.until("\r\n\r\n").unwrap();
        let mut echoed = Vec::with_capacity(LARGE);
        loop {
            let size = usize::from_str_radix(client.until("\r\n").unwrap().trim(), 16).unwrap();
            echoed.extend(chunk(&mut client, size));
            if size == 0 {
                break;
            }
        }
        assert!(echoed == body, "slow: {slow}");
    }
    assert_eq!(app.outcomes("success"), 2.0);
}

fn chunk(client: &mut Secured, size: usize) -> Vec<u8> {
    let mut data = client.exactly(size + 2);
    assert_eq!(data.split_off(size), b"\r\n");
    data
}

#[test]
fn a_tunnel_passes_what_comes_both_ways() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
    let endpoint = Endpoint::start(|mut wire: Wire| {
        let Some(_) = wire.message() else { return };
        wire.write(SWITCH).unwrap();
        let mut block = vec![0; 1 << 16];
        loop {
            match wire.read(&mut block) {
                Ok(0) | Err(_) => return,
                Ok(count) => wire.write(&block[..count]).unwrap(),
            }
        }
    });
    let files = Files::new();
    let app = secured(&files, &endpoint);
    let mut client = files.trusting().to(&app);
    client.write("GET / HTTP/1.1\r\nhost: agent.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert!(client.until("\r\n\r\n").unwrap().starts_with("HTTP/1.1 101 "));
    let bytes = pattern(LARGE);
    for block in bytes.chunks(50_000) {
        client.write(block);
        assert!(client.exactly(block.len()) == block);
    }
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "its end is said to be one");
    eventually("it has ended", || app.outcomes("success") == 1.0);
}

#[test]
fn http_2_streams_pass_beside_each_other() {
    let (files, endpoint) = (Files::new(), echo());
    let app = secured(&files, &endpoint);
    let config = Arc::new(files.trusting().offering(&["h2"]).config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bodies = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(app.proxy).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("agent.test").unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
        let (send, connection) =
            Builder::new().initial_window_size(1 << 20).handshake::<_, bytes::Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        let streams = (1..=8).map(|number| {
            let mut send = send.clone();
            tokio::spawn(async move {
                let body = bytes::Bytes::from(pattern(number * 60_000));
                let request = http::Request::post("https://agent.test/").body(()).unwrap();
                std::future::poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
                let (response, mut to) = send.send_request(request, false).unwrap();
                to.send_data(body.clone(), true).unwrap();
                let mut from = response.await.unwrap().into_body();
                let mut back = Vec::new();
                while let Some(data) = from.data().await {
                    let data = data.unwrap();
                    from.flow_control().release_capacity(data.len()).unwrap();
                    back.extend_from_slice(&data);
                }
                back == body
            })
        });
        let streams: Vec<_> = streams.collect();
        let mut whole = 0;
        for stream in streams {
            whole += usize::from(tokio::time::timeout(PATIENCE, stream).await.unwrap().unwrap());
        }
        whole
    });
    assert_eq!(bodies, 8);
    assert_eq!(app.metric("pointsman_client_connections_http2_total"), 1.0);
}
