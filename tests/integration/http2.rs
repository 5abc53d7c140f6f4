//! HTTP/2 from clients, beside HTTP/1.1 on the same port.

pub mod client;
mod connection;
mod streams;

use http::{HeaderValue, Method};

use crate::harness::{App, Endpoint};
use client::{Answer, Http2, client, get, post, request};

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
