//! What endpoints may do on the wire, well and badly: the proxy's own HTTP/1.1 towards them.

use std::time::Duration;

use crate::harness::{App, Endpoint, Message, Wire, ok};

fn get(client: &mut Wire) -> Message {
    client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
}

#[test]
fn an_answer_may_arrive_in_any_pieces() {
    let endpoint = Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            let size: usize = request.header("x-piece").and_then(|size| size.parse().ok()).unwrap_or(1);
            let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
                          x-a: 1\r\n\r\n5;e=1\r\nhello\r\n006\r\n world\r\n0\r\nx-t: 1\r\n\r\n";
            for piece in answer.as_bytes().chunks(size) {
                if wire.write(piece).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    for piece in [1, 2, 3, 7, 1000] {
        client.write(format!("GET / HTTP/1.1\r\nhost: a\r\nx-piece: {piece}\r\n\r\n")).unwrap();
        assert_eq!(client.head().map(|hints| hints.status()), Some(103), "{piece}");
        let answer = client.message().unwrap_or_else(|| panic!("no answer in pieces of {piece}"));
        assert_eq!((answer.status(), answer.header("x-a"), answer.text()), (200, Some("1"), "hello world"), "{piece}");
    }
    assert_eq!((endpoint.connections(), app.outcomes("success")), (1, 5.0));
}

#[test]
fn what_follows_an_answer_unasked_never_reaches_the_next_client() {
    let endpoint = Endpoint::start(|mut wire| {
        while wire.message().is_some() {
            if wire.write(format!("{}{}", ok("mine"), ok("smuggled"))).is_err() {
                return;
            }
        }
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    for _ in 0..20 {
        assert_eq!(get(&mut client).text(), "mine");
    }
    assert_eq!(endpoint.connections(), 20, "none is used again");
}

#[test]
fn an_endpoint_may_refuse_before_the_body_is_sent() {
    // It reads the head alone, answers, and closes after the answer is read.
    let endpoint = Endpoint::start(|mut wire| {
        if wire.head().is_some() {
            let _ = wire.write("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno");
            let mut rest = [0; 4096];
            while std::io::Read::read(&mut wire.stream, &mut rest).is_ok_and(|count| count > 0) {}
        }
    });
    let app = App::before(&endpoint);
    for _ in 0..3 {
        let mut client = app.client();
        client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegin").unwrap();
        let answer = client.message().expect("does not wait for the body");
        assert_eq!((answer.status(), answer.text()), (413, "no"));
    }
    assert_eq!(app.outcomes("success"), 3.0);
}

#[test]
fn large_bodies_pass_unaltered_both_ways() {
    let endpoint = Endpoint::start(|mut wire| {
        while let Some(request) = wire.message() {
            let body = &request.body;
            let head = match request.header("x-framing") {
                Some("length") => format!("content-length: {}\r\n\r\n", body.len()),
                Some("close") => "connection: close\r\n\r\n".to_owned(),
                _ => "transfer-encoding: chunked\r\n\r\n".to_owned(),
            };
            let mut answer = format!("HTTP/1.1 200 OK\r\n{head}").into_bytes();
            if head.starts_with("transfer") {
                for chunk in body.chunks(100_003) {
                    answer.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    answer.extend(chunk);
                    answer.extend(b"\r\n");
                }
                answer.extend(b"0\r\n\r\n");
            } else {
                answer.extend(body);
            }
            if wire.write(&answer).is_err() || head.starts_with("connection") {
                return;
            }
        }
    });
    let app = App::before(&endpoint);
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for framing in ["length", "chunked", "close", "length"] {
        for chunked in [false, true] {
            let mut client = app.client();
            let coding = if chunked {
                "transfer-encoding: chunked".to_owned()
            } else {
                format!("content-length: {}", body.len())
            };
            client.write(format!("PUT / HTTP/1.1\r\nhost: a\r\nx-framing: {framing}\r\n{coding}\r\n\r\n")).unwrap();
            if chunked {
                for chunk in body.chunks(7_777) {
                    client.write([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).unwrap();
                }
                client.write("0\r\n\r\n").unwrap();
            } else {
                client.write(&body).unwrap();
            }
            let answer = client.message().unwrap_or_else(|| panic!("no answer: {framing}, {chunked}"));
            assert!(answer.body == body, "{framing}, {chunked}: {} bytes", answer.body.len());
        }
    }
}

#[test]
fn an_answer_that_two_readers_could_take_differently_is_502() {
    let heads = [
        "content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "content-length: 3, 4\r\n\r\nabcd",
        "content-length: +3\r\n\r\nabc",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "x y: 1\r\ncontent-length: 0\r\n\r\n",
        "x : 1\r\ncontent-length: 0\r\n\r\n",
    ];
    for head in heads {
        let endpoint = Endpoint::answering(move |_| format!("HTTP/1.1 200 OK\r\n{head}"));
        let app = App::before(&endpoint);
        let answer = get(&mut app.client());
        assert_eq!((answer.status(), &answer.json()["error"]["code"]), (502, &"bad_response".into()), "{head:?}");
        assert_eq!(app.outcomes("bad_response"), 1.0, "{head:?}");
    }
}
