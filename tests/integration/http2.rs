//! HTTP/2 from clients, beside HTTP/1.1 on the same port.

use std::future::Future;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::harness::{App, Endpoint, PATIENCE, Wire, eventually, ok};
use crate::upstream_http2::endpoint::{Endpoint2, fields, response, send};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Runs a client's part to its end, which must come.
fn client<T>(part: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(PATIENCE, part).await };
    runtime.block_on(bounded).expect("the client waits for what does not come")
}

/// A connection that is driven in the background, and told of when it ends.
struct Http2 {
    send: SendRequest<Bytes>,
    ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &Builder::new()).await
    }

    async fn connect_with(address: SocketAddr, builder: &Builder) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = builder.handshake(stream).await.unwrap();
        Self { send, ended: tokio::spawn(connection) }
    }

    /// Sends the head of a request, which may be all of it.
    async fn begin(&mut self, request: Request<()>, whole: bool) -> (ResponseFuture, SendStream<Bytes>) {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await.unwrap();
        self.send.send_request(request, whole).unwrap()
    }

    /// Sends a request without a body.
    async fn ask(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        let (response, _) = self.begin(request, true).await;
        Answer::read(response.await?).await
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path)).await.unwrap()
    }
}

/// A response and all that came with it.
struct Answer {
    head: Response<()>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    async fn read(response: Response<RecvStream>) -> Result<Self, h2::Error> {
        let (head, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        Ok(Self { head: Response::from_parts(head, ()), body, trailers: stream.trailers().await? })
    }

    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name).map(|value| value.to_str().unwrap())
    }

    fn error_code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["error"]["code"].as_str().unwrap().to_owned()
    }
}

fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://agent.test{path}")).body(()).unwrap()
}

fn get(path: &str) -> Request<()> {
    request(Method::GET, path)
}

fn post(path: &str) -> Request<()> {
    request(Method::POST, path)
}

/// An app with these `limits`.
fn limited(endpoint: &Endpoint, limits: &str) -> App {
    App::with_yaml(&format!(
        "limits: {{ {limits} }}\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        endpoint.url()
    ))
}

/// Answers when a byte is sent to it, for paths that begin with `/held`; others at once.
fn holding() -> (Endpoint, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let endpoint = Endpoint::answering(move |request| {
        if request.start.contains(" /held") {
            let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        }
        ok(&request.start)
    });
    (endpoint, go)
}

#[test]
fn both_protocols_are_spoken_on_one_port() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let answer = http2.get("/a?b=c").await;
        assert_eq!((answer.status(), answer.header("x-pointsman-version")), (200, Some("1.0.0")));
        assert!(answer.text().starts_with("GET /a?b=c HTTP/1.1\nhost: agent.test\n"), "{}", answer.text());
    });
    assert_eq!(app.client().get("/", "u").status(), 200);
    assert_eq!(app.metric("pointsman_client_connections_http2_total"), 1.0);
    assert_eq!(app.outcomes("success"), 2.0);
}

#[test]
fn streams_of_one_connection_do_not_wait_for_each_other() {
    let (endpoint, go) = holding();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let (held, _) = http2.send.send_request(get("/held"), true).unwrap();
        for _ in 0..3 {
            assert_eq!(http2.get("/quick").await.text(), "GET /quick HTTP/1.1");
        }
        go.send(()).unwrap();
        let held = Answer::read(held.await.unwrap()).await.unwrap();
        assert_eq!(held.text(), "GET /held HTTP/1.1");
    });
    assert_eq!(app.metric("pointsman_client_connections_accepted_total"), 1.0);
}

#[test]
fn the_endpoint_sees_a_plain_http_1_request() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let mut request = get("/");
        for (name, value) in [("cookie", "a=1"), ("x-b", "1"), ("cookie", "b=2"), ("x-pointsman-version", "9.9.9")] {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let answer = http2.ask(request).await.unwrap();
        for line in [
            "host: agent.test",
            "cookie: a=1; b=2",
            "x-b: 1",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: agent.test",
            "forwarded: for=127.0.0.1;host=\"agent.test\";proto=http",
        ] {
            assert_eq!(answer.text().lines().filter(|found| *found == line).count(), 1, "{line}: {}", answer.text());
        }
        assert_eq!(answer.text().lines().filter(|line| !line.is_empty()).count(), 8, "{}", answer.text());
    });
}

#[test]
fn fields_of_the_endpoint_s_hop_do_not_reach_the_client() {
    let endpoint = Endpoint::answering(|_| {
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 Fine\r\nconnection: keep-alive, x-drop\r\nkeep-alive: timeout=9\r\nx-drop: 1\r\nx-kept: 1\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            .into()
    });
    let app = App::before(&endpoint);
    client(async {
        let answer = Http2::connect(app.proxy).await.get("/").await;
        assert_eq!((answer.text(), answer.header("x-kept")), ("hi", Some("1")));
        for name in ["link", "connection", "keep-alive", "x-drop", "transfer-encoding", "content-length"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    });
}

#[test]
fn answers_without_a_body_have_none() {
    let endpoint = Endpoint::answering(|request| {
        let status = request.start.split(['/', ' ']).nth(2).unwrap().to_owned();
        let length = if status == "200" { "content-length: 5\r\n" } else { "" };
        format!("HTTP/1.1 {status} X\r\n{length}\r\n")
    });
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for (request, status, length) in [
            (request(Method::HEAD, "/200"), 200, Some("5")),
            (get("/204"), 204, None),
            (get("/304"), 304, None),
            (request(Method::HEAD, "/204"), 204, None),
        ] {
            let answer = http2.ask(request).await.unwrap();
            let found = (answer.status(), answer.header("content-length"), answer.body.len());
            assert_eq!(found, (status, length, 0));
        }
    });
    assert_eq!((app.outcomes("success"), endpoint.connections()), (4.0, 1));
}

#[test]
fn a_request_is_for_one_host() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let with_host = |host: &'static str| {
            let mut request = get("/");
            request.headers_mut().insert("host", HeaderValue::from_static(host));
            request
        };
        let other = http2.ask(with_host("other.test")).await.unwrap();
        assert_eq!((other.status(), other.error_code()), (400, "bad_request".into()));
        assert_eq!(http2.ask(with_host("Agent.Test")).await.unwrap().status(), 200);
    });
}

#[test]
fn errors_of_our_own_are_as_they_are_under_http_1() {
    let endpoint = Endpoint::start(|mut wire| while wire.message().is_some() {});
    let app = App::before_with(
        &endpoint,
        "    match: [{ host: agent.test, path_prefix: /v1 }]\n    max_request_body: 1KiB\n    timeouts: { response: 200ms }\n",
    );
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let lost = http2.get("/v2").await;
        assert_eq!((lost.status(), lost.error_code()), (404, "no_route".into()));
        let late = http2.get("/v1").await;
        assert_eq!((late.status(), late.error_code()), (504, "response_timeout".into()));
        let (response, mut body) = http2.begin(post("/v1"), false).await;
        body.send_data(vec![b'x'; 2000].into(), true).unwrap();
        let large = Answer::read(response.await.unwrap()).await.unwrap();
        assert_eq!((large.status(), large.error_code()), (413, "body_too_large".into()));
        let mut many = get("/v1");
        for number in 0..150 {
            let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
            many.headers_mut().insert(name, HeaderValue::from_static("1"));
        }
        let many = http2.ask(many).await.unwrap();
        assert_eq!((many.status(), many.error_code()), (431, "head_too_large".into()));
        let mut long = get("/v1");
        long.headers_mut().insert("x", HeaderValue::from_str(&"x".repeat(40 << 10)).unwrap());
        // The library's own answer.
        assert_eq!(http2.ask(long).await.unwrap().status(), 431);
    });
    assert_eq!((app.outcomes("response_timeout"), app.outcomes("client_error")), (1.0, 1.0));
}

#[test]
fn large_bodies_pass_unaltered_both_ways() {
    let endpoint = Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
            if wire.write(head).and_then(|()| wire.write(&request.body)).is_err() {
                return;
            }
        }
    });
    let app = App::before(&endpoint);
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for length in [None, Some(body.len())] {
            let mut request = post("/");
            if let Some(length) = length {
                request.headers_mut().insert("content-length", length.into());
            }
            let (response, mut upload) = http2.begin(request, false).await;
            // All of it is held on this side; it goes as the proxy's windows let it.
            upload.send_data(body.clone().into(), true).unwrap();
            let answer = Answer::read(response.await.unwrap()).await.unwrap();
            assert!(answer.body == body, "{length:?}: {} bytes", answer.body.len());
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    let (told, takes_trailers) = mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.head() {
            assert_eq!(request.header("transfer-encoding"), Some("chunked"), "{request:?}");
            told.send(request.header("te").map(str::to_owned)).unwrap();
            while wire.chunk_data().is_some() {}
            let mut trailers = String::new();
            while let Some(line) = wire.line().filter(|line| !line.is_empty()) {
                trailers += &line;
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\ntrailer: x-end, x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\nx-end: {trailers}\r\nx-sum: 7\r\ncontent-length: 9\r\n\r\n"
            );
            wire.write(answer).unwrap();
        }
    });
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let mut request = post("/");
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let (response, mut upload) = http2.begin(request, false).await;
        upload.send_data("body".into(), false).unwrap();
        let trailers = [("x-asked", "yes"), ("host", "evil")]
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        upload.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        let answer = Answer::read(response.await.unwrap()).await.unwrap();
        let trailers = answer.trailers.expect("has trailers");
        assert_eq!((answer.body.as_slice(), trailers.len()), (&b"hi"[..], 2), "{trailers:?}");
        assert_eq!((trailers["x-end"].as_bytes(), trailers["x-sum"].as_bytes()), (&b"x-asked: yes"[..], &b"7"[..]));
    });
    // The same for a client of HTTP/1.1 that says that it takes them, and not for another.
    for (te, expected) in
        [("te: trailers\r\nconnection: te\r\n", vec!["x-end: x-asked: yes", "x-sum: 7"]), ("", vec![])]
    {
        let mut http1 = app.client();
        http1
            .write(format!(
                "POST / HTTP/1.1\r\nhost: a\r\n{te}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-asked: yes\r\n\r\n"
            ))
            .unwrap();
        http1.head().unwrap();
        while http1.chunk_data().is_some() {}
        let mut found = Vec::new();
        while let Some(line) = http1.line().filter(|line| !line.is_empty()) {
            found.push(line);
        }
        found.sort();
        assert_eq!(found, expected);
    }
    assert_eq!(app.outcomes("success"), 3.0);
    let told: Vec<_> = takes_trailers.try_iter().collect();
    assert_eq!(told, [Some("trailers".to_owned()), Some("trailers".to_owned()), None]);
}

#[test]
fn a_grpc_conversation_passes_as_it_goes() {
    // Answers each message when it comes, and says at the end how it went.
    let endpoint = Endpoint2::start(|mut call| async move {
        assert_eq!(call.request.headers()["te"], "trailers");
        let mut answer = call.head(response(&[("content-type", "application/grpc")]));
        while let Some(message) = call.request.body_mut().data().await {
            let message = message.unwrap();
            call.request.body_mut().flow_control().release_capacity(message.len()).unwrap();
            send(&mut answer, message).await.unwrap();
        }
        answer.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
    });
    let app = endpoint.app("");
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let mut request = post("/chat.Chat/Talk");
        *request.headers_mut() = fields(&[("te", "trailers"), ("content-type", "application/grpc")]);
        let (answer, mut messages) = http2.begin(request, false).await;
        messages.send_data("hello".into(), false).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), "hello");
        messages.send_data("goodbye".into(), true).unwrap();
        assert_eq!(answer.data().await.unwrap().unwrap(), "goodbye");
        assert!(answer.data().await.is_none());
        assert_eq!(answer.trailers().await.unwrap().expect("has trailers")["grpc-status"], "0");
    });
    eventually("it is counted", || app.outcomes("success") == 1.0);
}

/// Tells on the channel when the request is there, and when its client has gone.
fn watching() -> (Endpoint, UnboundedReceiver<&'static str>) {
    let (told, seen) = unbounded_channel();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.head() {
            if request.start.starts_with("GET /plain") {
                wire.write(ok("plain")).unwrap();
                continue;
            }
            told.send("working").unwrap();
            if request.start.contains("/stream") {
                wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").unwrap();
            }
            let mut rest = Vec::new();
            let _ = wire.read_to_end(&mut rest);
            told.send(if rest.ends_with(b"0\r\n\r\n") { "whole" } else { "gone" }).unwrap();
        }
    });
    (endpoint, seen)
}

#[test]
fn a_reset_cancels_the_endpoint_s_work_and_no_other_stream() {
    let (endpoint, mut seen) = watching();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        for (request, reason, data) in [
            (get("/wait"), Reason::CANCEL, None),
            (get("/stream"), Reason::CANCEL, None),
            (post("/wait"), Reason::CANCEL, Some("half")),
            // Which some take for a clean end.
            (post("/wait"), Reason::NO_ERROR, Some("half")),
            (post("/stream"), Reason::NO_ERROR, Some("half")),
        ] {
            let what = format!("{} {} {reason:?}", request.method(), request.uri().path());
            let (response, mut upload) = http2.begin(request, data.is_none()).await;
            if let Some(data) = data {
                upload.send_data(data.into(), false).unwrap();
            }
            assert_eq!(seen.recv().await, Some("working"), "{what}");
            upload.send_reset(reason);
            drop(response);
            assert_eq!(seen.recv().await, Some("gone"), "{what}");
            assert_eq!(http2.get("/plain").await.text(), "plain", "{what}");
        }
    });
    eventually("each is counted as the client's doing", || app.outcomes("client_cancel") == 5.0);
    assert_eq!(app.metric("pointsman_requests_in_flight"), 0.0);
}

#[test]
fn a_connection_that_breaks_cancels_all_of_its_streams() {
    let (endpoint, mut seen) = watching();
    let app = App::before(&endpoint);
    client(async {
        let mut http2 = Http2::connect(app.proxy).await;
        let _wait = http2.send.send_request(get("/wait"), true).unwrap();
        let _stream = http2.send.send_request(get("/stream"), true).unwrap();
        let (_answer, mut upload) = http2.begin(post("/wait"), false).await;
        upload.send_data("half".into(), false).unwrap();
        for _ in 0..3 {
            assert_eq!(seen.recv().await, Some("working"));
        }
        http2.ended.abort();
        for _ in 0..3 {
            assert_eq!(seen.recv().await, Some("gone"));
        }
    });
    eventually("each is counted as the client's doing", || app.outcomes("client_cancel") == 3.0);
    eventually("the connection is gone", || app.metric("pointsman_client_connections_open") == 0.0);
}

#[test]
fn a_stream_that_its_client_does_not_read_holds_back_its_endpoint_and_then_ends() {
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.message() {
            if !request.start.contains("/endless") {
                wire.write(ok("other")).unwrap();
                continue;
            }
            wire.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
            let block = [b'x'; 64 << 10];
            while wire.write(block).is_ok() {
                counter.fetch_add(block.len() as u64, Ordering::SeqCst);
            }
            return;
        }
    });
    let app = App::before_with(&endpoint, "    timeouts: { idle: 1s }\n");
    client(async {
        // The window of the connection is large, so that only the one stream is stuck.
        let mut builder = Builder::new();
        builder.initial_connection_window_size(8 << 20);
        let mut http2 = Http2::connect_with(app.proxy, &builder).await;
        let (response, _) = http2.send.send_request(get("/endless"), true).unwrap();
        let mut stuck = response.await.unwrap().into_body();
        stuck.data().await.unwrap().unwrap();
        assert_eq!(http2.get("/").await.text(), "other");
        // It is read no more; what is in between fills up, and then it is reset.
        let ended = loop {
            match stuck.data().await {
                Some(Ok(_)) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
        assert_eq!(http2.get("/").await.text(), "other");
    });
    let most = 24 << 20;
    assert!(
        written.load(Ordering::SeqCst) < most,
        "{} bytes were taken from the endpoint",
        written.load(Ordering::SeqCst)
    );
    assert_eq!(app.outcomes("client_cancel"), 1.0);
}

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

async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
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

#[test]
fn the_access_log_says_what_was_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let endpoint = Endpoint::saying("x");
    let mut app = App::with_yaml(&format!(
        "access_log: {{ path: '{}' }}\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        path.display(),
        endpoint.url()
    ));
    client(async { Http2::connect(app.proxy).await.get("/two").await });
    app.client().get("/one", "u");
    app.running.take().unwrap().stop();
    let lines = std::fs::read_to_string(path).unwrap();
    let logged: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let protocol = |path: &str| logged.iter().find(|record| record["path"] == path).unwrap()["protocol"].clone();
    assert_eq!((protocol("/two"), protocol("/one")), ("HTTP/2".into(), "HTTP/1.1".into()));
}
