//! How connections begin and end, and what they may hold.

use std::io::Read;
use std::time::Duration;

use super::client::{Answer, Http2, client, get, holding, limited, watching};
use crate::harness::{App, Endpoint, PATIENCE, Wire, eventually};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

#[test]
fn more_streams_than_allowed_are_refused() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let (endpoint, go) = holding();
    let app = limited(&endpoint, "streams_per_connection: 2");
    // A client of the library would wait, once it has the proxy's settings.
    let mut wire = Wire::connect(app.proxy);
    wire.write([PREFACE, &EMPTY_SETTINGS, &head_frame(1), &head_frame(3), &head_frame(5)].concat()).unwrap();
    assert_eq!(frame_of_type(&mut wire, RST_STREAM), (5, REFUSED_STREAM.to_vec()));
    let answered = [(); 2].map(|()| {
        go.send(()).unwrap();
        frame_of_type(&mut wire, HEADERS).0
    });
    assert!(answered == [1, 3] || answered == [3, 1], "{answered:?}");
    wire.write(head_frame(7)).unwrap();
    go.send(()).unwrap();
    assert_eq!(frame_of_type(&mut wire, HEADERS).0, 7, "there is room again");
}

#[test]
fn a_client_that_makes_streams_only_to_reset_them_is_sent_away() {
    const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    let mut flood = [PREFACE, &EMPTY_SETTINGS].concat();
    for stream in (1..2000).step_by(2) {
        flood.extend(head_frame(stream));
        flood.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    let mut wire = Wire::connect(app.proxy);
    // It may be cut off before it has written all.
    let _ = wire.write(flood);
    let (_, goaway) = frame_of_type(&mut wire, GOAWAY);
    assert_eq!(goaway[4..8], ENHANCE_YOUR_CALM);
    eventually("nothing is left of it", || {
        app.metric("pointsman_client_connections_open") + app.metric("pointsman_requests_in_flight") == 0.0
    });
    assert_eq!(app.client().get("/", "u").text(), "x");
}

#[test]
fn a_stop_lets_streams_end_and_takes_no_more() {
    let (endpoint, go) = holding();
    let mut app = App::before(&endpoint);
    client(async {
        let mut idle = Http2::connect(app.proxy).await;
        assert_eq!(idle.get("/").await.status(), 200);
        let mut http2 = Http2::connect(app.proxy).await;
        assert_eq!(http2.get("/").await.status(), 200);
        let (held, _) = http2.send.send_request(get("/held"), true).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let running = app.running.take().unwrap();
        let stopping = std::thread::spawn(move || running.stop());
        assert!(idle.ended.await.unwrap().is_ok(), "closed in order");
        eventually_async("it says goodbye", async || {
            std::future::poll_fn(|cx| http2.send.poll_ready(cx)).await.is_err()
        })
        .await;
        go.send(()).unwrap();
        let held = Answer::read(held.await.unwrap()).await.unwrap();
        assert_eq!(held.text(), "GET /held HTTP/1.1");
        assert!(http2.ended.await.unwrap().is_ok(), "closed in order");
        tokio::task::spawn_blocking(move || stopping.join().unwrap()).await.unwrap();
    });
}

#[test]
fn an_idle_connection_is_closed_in_order() {
    let endpoint = Endpoint::saying("x");
    let app = limited(&endpoint, "keep_alive_timeout: 1s");
    client(async {
        let mut used = Http2::connect(app.proxy).await;
        assert_eq!(used.get("/").await.text(), "x");
        let unused = Http2::connect(app.proxy).await;
        assert!(used.ended.await.unwrap().is_ok());
        assert!(unused.ended.await.unwrap().is_ok());
    });
    eventually("it is gone", || app.metric("pointsman_client_connections_open") == 0.0);
}

#[test]
fn a_client_that_answers_no_ping_is_given_up() {
    let (endpoint, mut seen) = watching();
    let app = limited(&endpoint, "keep_alive_timeout: 1s");
    let mut dead = Wire::connect(app.proxy);
    dead.write([PREFACE, &EMPTY_SETTINGS, &head_frame(1)].concat()).unwrap();
    for step in ["working", "gone"] {
        assert_eq!(client(seen.recv()), Some(step));
    }
    eventually("it is gone", || app.metric("pointsman_client_connections_open") == 0.0);
    assert_eq!(app.outcomes("client_cancel"), 1.0);
}

#[test]
fn the_preface_may_arrive_in_any_pieces() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    let opening = [PREFACE, &EMPTY_SETTINGS].concat();
    for cut in 1..opening.len() {
        let mut wire = Wire::connect(app.proxy);
        wire.write(&opening[..cut]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        wire.write(&opening[cut..]).unwrap();
        let mut head = [0; 9];
        wire.stream.read_exact(&mut head).unwrap();
        assert_eq!((head[3], &head[5..]), (4, &[0; 4][..]), "SETTINGS come first, cut at {cut}");
    }
    // So may a request of HTTP/1.1 that begins as the preface does.
    let mut wire = app.client();
    for piece in ["P", "R", "OPFIND / HTTP/1.1\r\nhost: a\r\n\r\n"] {
        wire.write(piece).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(wire.message().unwrap().text(), "x");
}

#[test]
fn a_preface_that_does_not_come_whole_times_out() {
    let endpoint = Endpoint::saying("x");
    let app = limited(&endpoint, "head_timeout: 200ms");
    let mut half = app.client();
    half.write(&PREFACE[..20]).unwrap();
    assert_eq!(half.message().unwrap().status(), 408);
    assert!(half.is_closed());
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"head_timeout\"}"), 1.0);
}

#[test]
fn it_can_be_turned_off() {
    let endpoint = Endpoint::saying("x");
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0', http2: false }}]\nadmin: {{ address: '127.0.0.1:0' }}\nworkers: 1\n\
         state_dir: none\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        endpoint.url()
    );
    let config = pointsman::config::Config::parse("test.yaml", &yaml, &|_| None).unwrap();
    let app = App::of(pointsman::app::start(config, None).unwrap());
    let mut wire = app.client();
    wire.write([PREFACE, &EMPTY_SETTINGS].concat()).unwrap();
    assert_eq!(wire.message().expect("is told why").status(), 400);
    assert!(wire.is_closed());
    assert_eq!(app.client().get("/", "u").text(), "x");
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    for garbage in [&b"\0\0\xff\x42"[..], b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", &[0xff; 64], &[0; 4096]] {
        let mut wire = Wire::connect(app.proxy);
        wire.write([PREFACE, &EMPTY_SETTINGS, garbage].concat()).unwrap();
        wire.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = wire.stream.read_to_end(&mut rest);
    }
    eventually("all are gone", || app.metric("pointsman_client_connections_open") == 0.0);
    assert_eq!(app.metric("pointsman_proxy_errors_total{code=\"internal\"}"), 0.0);
    assert_eq!(app.client().get("/", "u").text(), "x");
}

#[test]
fn ten_thousand_requests_leave_nothing_behind() {
    let endpoint = Endpoint::saying("x");
    let app = App::before(&endpoint);
    client(async {
        let http2 = Http2::connect(app.proxy).await;
        let tasks = (0..50).map(|_| {
            let mut send = http2.send.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    std::future::poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
                    let (response, _) = send.send_request(get("/"), true).unwrap();
                    assert_eq!(Answer::read(response.await.unwrap()).await.unwrap().text(), "x");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    eventually("it is gone", || app.metric("pointsman_client_connections_open") == 0.0);
    assert_eq!((app.outcomes("success"), app.metric("pointsman_requests_in_flight")), (10_000.0, 0.0));
    assert!(endpoint.connections() <= 50, "{} connections for 50 streams", endpoint.connections());
}

const HEADERS: u8 = 1;

const RST_STREAM: u8 = 3;

const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A whole request of GET http://a/held.
fn head_frame(stream: u32) -> Vec<u8> {
    const END_STREAM_AND_HEADERS: u8 = 5;
    frame(HEADERS, END_STREAM_AND_HEADERS, stream, b"\x82\x86\x04\x05/held\x01\x01a")
}

/// The stream and payload of the next frame of this type; others are passed over.
fn frame_of_type(wire: &mut Wire, wanted: u8) -> (u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        wire.stream.read_exact(&mut head).unwrap();
        let [a, b, c, kind, _, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        wire.stream.read_exact(&mut payload).unwrap();
        if kind == wanted {
            return (u32::from_be_bytes(stream), payload);
        }
    }
}

pub async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
