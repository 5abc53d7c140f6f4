//! What an endpoint may not answer: the client gets 502, or an answer that cannot be taken for whole.

use crate::harness::{App, Endpoint, eventually, ok};

/// Heads that are refused, each with what is wrong.
const BAD_HEADS: &[(&str, &str)] = &[
    ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("another version", "HTTP/2 200 OK\r\n\r\n"),
    ("no status", "HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n"),
    ("a short status", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n"),
    ("a long status", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n"),
    ("a status under 100", "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n"),
    ("bare LF in the status line", "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n"),
    ("bare LF after a field", "HTTP/1.1 200 OK\r\nx: y\ncontent-length: 0\r\n\r\n"),
    ("bare CR in a value", "HTTP/1.1 200 OK\r\nx: y\rz: 1\r\ncontent-length: 0\r\n\r\n"),
    ("a folded line", "HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n"),
    ("a space before the colon", "HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 0\r\n\r\n"),
    ("a field without a name", "HTTP/1.1 200 OK\r\n: y\r\ncontent-length: 0\r\n\r\n"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n"),
    ("a control character in a value", "HTTP/1.1 200 OK\r\nx: \u{1}\r\ncontent-length: 0\r\n\r\n"),
    ("a control character in a name", "HTTP/1.1 200 OK\r\nx\u{1}: y\r\ncontent-length: 0\r\n\r\n"),
    ("a length and a coding", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"),
    ("two lengths in one field", "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nxx"),
    ("a length with a sign", "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx"),
    ("a length too large for a number", "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\nx"),
    ("another coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("a coding in HTTP/1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a coding where there is no body", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a length where there is no body", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello"),
    ("a switch that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"),
    ("a bad interim answer", "HTTP/1.1 103 Early Hints\r\nx y: 1\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
];

fn check_refused(what: &str, answer: String) {
    let endpoint = Endpoint::answering(move |_| answer.clone());
    let app = App::before(&endpoint);
    let mut client = app.client();
    for number in 1..=2 {
        // Not to be repeated, so that there is one attempt.
        client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").unwrap();
        // Interim answers that came before may have been passed on.
        let answer = std::iter::from_fn(|| client.message()).find(|answer| answer.status() >= 200).expect(what);
        assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"bad_response".into()), "{what}");
        assert_eq!(endpoint.connections(), number, "{what}: that connection is not used again");
    }
    assert_eq!(app.outcomes("bad_response"), 2.0, "{what}");
}

#[test]
fn a_head_that_breaks_a_rule_is_502() {
    for (what, answer) in BAD_HEADS {
        check_refused(what, (*answer).to_owned());
    }
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(33);
    check_refused("too many interim answers", format!("{hints}{}", ok("x")));
    check_refused("a head that is too large", format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70 << 10)));
    check_refused("a head of too many fields", format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200)));
}

#[test]
fn a_body_that_breaks_a_rule_never_looks_whole() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for rest in [
        "x\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "11111111111111111\r\n",
        "0\r\nno field\r\n\r\n",
        "0\r\nx: y\n\r\n",
    ] {
        let endpoint = Endpoint::answering(move |_| format!("{HEAD}{rest}"));
        let app = App::before(&endpoint);
        let mut client = app.client();
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert!(client.message().is_none(), "{rest:?}");
        eventually("it is counted", || app.outcomes("truncated") == 1.0);
        assert_eq!(endpoint.connections(), 1);
        app.client().write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        eventually("another connection is used", || endpoint.connections() == 2);
    }
}

#[test]
fn an_answer_without_a_body_says_nothing_of_one() {
    let endpoint = Endpoint::answering(|_| "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n".into());
    let app = App::before(&endpoint);
    let mut client = app.client();
    for _ in 0..3 {
        let answer = client.get("/", "u");
        assert_eq!((answer.status(), answer.header("content-length")), (204, None));
    }
    assert_eq!((app.outcomes("success"), endpoint.connections()), (3.0, 1));
}
