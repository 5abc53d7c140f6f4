//! What two readers could take differently, either way and in both protocols: each with the rule that it breaks.

mod answers;
pub mod http2;

use crate::harness::{App, Endpoint};

struct Bad {
    request: &'static str,
    status: u16,
    rule: &'static str,
}

const fn bad(rule: &'static str, request: &'static str) -> Bad {
    Bad { request, status: 400, rule }
}

const fn other(rule: &'static str, status: u16, request: &'static str) -> Bad {
    Bad { request, status, rule }
}

/// Each is followed by a request that must never be served.
const BAD: &[Bad] = &[
    bad("RFC 9112 §3: one space", "GET  / HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3: no tab", "GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3: a target", "GET HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §2.3: a version", "GET /\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §2.3: this version", "GET / HTTP/2.0\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §2.3: in capitals", "GET / http/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9110 §9.1: a method is a token", "G(T / HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §2.2: no bare LF in the request line", "GET / HTTP/1.1\nhost: a\r\n\r\n"),
    bad("RFC 9112 §2.2: no bare LF after a field", "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n"),
    bad("RFC 9112 §2.2: no bare LF at the end", "GET / HTTP/1.1\r\nhost: a\r\n\n"),
    bad("RFC 9112 §2.2: no bare CR in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz: 1\r\n\r\n"),
    bad("RFC 9112 §2.2: no bare CR in the request line", "GET /\r HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §5.1: no space before the colon", "GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n"),
    bad("RFC 9112 §5.2: no line folding", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n"),
    bad("RFC 9112 §2.2: no space before the first field", "GET / HTTP/1.1\r\n host: a\r\n\r\n"),
    bad("RFC 9110 §5.1: a field has a name", "GET / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n"),
    bad("RFC 9110 §5.1: a name is a token", "GET / HTTP/1.1\r\nhost: a\r\nx\0y: z\r\n\r\n"),
    bad("RFC 9110 §5.1: a name is a token", "GET / HTTP/1.1\r\nhost: a\r\nx\u{e9}: z\r\n\r\n"),
    bad("RFC 9110 §5.5: no NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n"),
    bad("RFC 9110 §5.5: no control character in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\u{1}z\r\n\r\n"),
    bad("RFC 9110 §5.5: no DEL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\u{7f}z\r\n\r\n"),
    bad("RFC 3986 §2: no NUL in a target", "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 3986 §2: no control character in a target", "GET /\u{7} HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3.2: no fragment", "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3.2.3: an authority is for CONNECT", "GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3.2.4: * is for OPTIONS", "GET * HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3.2.2: of http", "GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9110 §4.2.4: no userinfo", "GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3.2: a host", "GET / HTTP/1.1\r\n\r\n"),
    bad("RFC 9112 §3.2: one host", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
    bad("RFC 9112 §3.2: one host, of an absolute target too", "GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    bad("RFC 9112 §3.2: a host that is one", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
    bad("RFC 9112 §3.2: a host that is one", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n"),
    bad("RFC 9112 §3.2: a host that is one", "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n"),
    bad("RFC 9112 §3.2: a host that is one", "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n"),
    bad("RFC 9112 §3.2: a port that is one", "GET / HTTP/1.1\r\nhost: a:b\r\n\r\n"),
    bad("RFC 9112 §3.2: a port that is one", "GET / HTTP/1.1\r\nhost: a:65536\r\n\r\n"),
    bad("RFC 9112 §3.2: a host that is not empty", "GET / HTTP/1.1\r\nhost:\r\n\r\n"),
    bad(
        "RFC 9112 §6.1: no length beside a coding",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §6.1: in either order",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §6.3: one length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    ),
    bad(
        "RFC 9112 §6.3: one length, in one field too",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nhello",
    ),
    bad("RFC 9110 §8.6: digits", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello"),
    bad("RFC 9110 §8.6: digits", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\nhello"),
    bad("RFC 9110 §8.6: digits", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello"),
    bad("RFC 9110 §8.6: digits", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n"),
    bad(
        "RFC 9110 §8.6: that a number can hold",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\nhello",
    ),
    bad(
        "RFC 9112 §6.1: chunked comes last",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §6.1: chunked comes once",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §6.3: the last coding of a request is chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
    ),
    bad(
        "RFC 9112 §6.1: spelled as it is",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §6.1: without control characters",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    ),
    bad("RFC 9112 §6.1: not in HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    bad(
        "RFC 9112 §7.1: a chunk has a size",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §7.1: of hexadecimal digits",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §7.1: without a sign",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §7.1: that a number can hold",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\nx\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §7.1: and CR LF after it",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §7.1: and CR LF after the data",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    ),
    bad(
        "RFC 9112 §7.1.2: trailers are fields",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nno field\r\n\r\n",
    ),
    bad("RFC 3986 §2.1: an escape has two digits", "GET /% HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("normal form: an encoded slash", "GET /a%2f..%2fb HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("normal form: a backslash", "GET /a\\..\\b HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("normal form: an encoded backslash", "GET /a%5C..%5Cb HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("normal form: an encoded NUL", "GET /a%00b HTTP/1.1\r\nhost: a\r\n\r\n"),
    bad("no HTTP at all", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n"),
    other(
        "RFC 9112 §6.1: a coding that is not known",
        501,
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    other("RFC 9110 §9.3.6: a reverse proxy makes no tunnels", 501, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"),
];

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[test]
fn a_request_that_breaks_a_rule_is_refused_and_its_connection_closed() {
    let endpoint = Endpoint::answering(|request| {
        assert!(!request.start.contains("smuggled"), "{request:?}");
        crate::harness::ok("served")
    });
    let app = App::before(&endpoint);
    for Bad { request, status, rule } in BAD {
        let mut client = app.client();
        let answer = client.ask(&format!("{request}{SMUGGLED}"));
        assert_eq!(answer.status(), *status, "{rule}: {request:?}: {answer:?}");
        let code = if *status == 400 { "bad_request" } else { "method_not_supported" };
        assert_eq!(answer.json()["error"]["code"], code, "{rule}: {request:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{rule}: {request:?}");
        assert!(client.is_closed(), "{rule}: {request:?}");
    }
    // The same as the second request of a connection that has been good.
    for Bad { request, status, rule } in BAD {
        let mut client = app.client();
        assert_eq!(client.get("/", "u").status(), 200);
        assert_eq!(client.ask(request).status(), *status, "{rule}: {request:?}");
    }
    assert_eq!(app.outcomes("success"), BAD.len() as f64);
}

#[test]
fn chunk_extensions_and_trailers_are_bounded() {
    let endpoint = Endpoint::start(|mut wire| while wire.message().is_some() {});
    let app = App::before(&endpoint);
    let one_line = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(5 << 10));
    let in_all = format!("1;{}\r\nx\r\n", "e".repeat(1 << 10)).repeat(17) + "0\r\n\r\n";
    let trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(3000));
    for body in [one_line, in_all, trailers] {
        let mut client = app.client();
        let answer = client.ask(&format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
        assert_eq!((answer.status(), &answer.json()["error"]["code"]), (400, &"bad_request".into()));
        assert!(client.is_closed());
    }
}

#[test]
fn what_is_allowed_though_odd_passes() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    for (request, line) in [
        ("\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n", "GET /a HTTP/1.1"),
        ("GET /a HTTP/1.1\r\nhost: [2001:db8::1]:80\r\n\r\n", "host: [2001:db8::1]:80"),
        ("GET http://b/a HTTP/1.1\r\nhost: a\r\n\r\n", "host: b"),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx:y\t \r\n\r\n", "x: y"),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx:\r\n\r\n", "x: "),
        ("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2, 2\r\n\r\nhi", "content-length: 2"),
        ("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\n\r\n", "hi"),
        ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "OPTIONS * HTTP/1.1"),
        ("GET /a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.1"),
    ] {
        let answer = app.client().ask(request);
        assert!(answer.status() == 200 && answer.text().lines().any(|found| found == line), "{request:?}: {answer:?}");
    }
}

#[test]
fn what_is_forwarded_is_written_anew() {
    let endpoint = Endpoint::echo();
    let app = App::before(&endpoint);
    let answer = app.client().ask(
        "POST http://A.test:80/a HTTP/1.1\r\nHOST: other\r\nConnection: x-named, keep-alive\r\nX-Named: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: x\r\nTE: gzip\r\nX-Kept:   1  \r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\nhi",
    );
    let text = answer.text();
    assert!(text.starts_with("POST /a HTTP/1.1\nhost: A.test:80\n") && text.contains("x-kept: 1\n"), "{text}");
    assert_eq!(text.matches("content-length: 2\n").count(), 1, "{text}");
    for gone in ["x-named", "connection", "keep-alive", "te:", "other"] {
        assert!(!text.to_lowercase().contains(gone), "{gone}: {text}");
    }
}
