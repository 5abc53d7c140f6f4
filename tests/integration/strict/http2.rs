//! The same under HTTP/2, where a client of the library would not send it: frames written by hand.

use std::io::Read;

use crate::harness::{App, Endpoint, Wire, ok};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK literals without Huffman coding and without a place in the table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            // An integer with a prefix of seven bits.
            match u8::try_from(text.len()) {
                Ok(length) if length < 127 => out.push(length),
                _ => {
                    let mut rest = text.len() - 127;
                    out.push(127);
                    while rest >= 128 {
                        out.push((rest % 128 + 128) as u8);
                        rest /= 128;
                    }
                    out.push(rest as u8);
                }
            }
            out.extend(text.as_bytes());
        }
    }
    out
}

/// A connection whose settings have been exchanged.
pub fn connect(app: &App) -> Wire {
    let mut wire = Wire::connect(app.proxy);
    wire.write([PREFACE, &EMPTY_SETTINGS].concat()).unwrap();
    wire
}

/// Kind, flags, stream and payload of the next frame; `None` at the end of the connection.
pub fn next_frame(wire: &mut Wire) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    wire.stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    wire.stream.read_exact(&mut payload).ok()?;
    Some((kind, flags, u32::from_be_bytes(stream), payload))
}

const PLAIN: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&PLAIN[..], more].concat()
}

fn instead(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    PLAIN.into_iter().map(|(known, old)| (known, if known == name { value } else { old })).collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    PLAIN.into_iter().filter(|(known, _)| *known != name).collect()
}

#[derive(Debug, PartialEq)]
enum Refused {
    /// 400, of which the stream is told.
    Answered,
    /// A stream error, or one of the connection.
    Reset,
}

/// How the proxy refuses the request on stream 1; panics where it is served.
fn refusal(wire: &mut Wire, rule: &str) -> Refused {
    loop {
        match next_frame(wire) {
            None | Some((RST_STREAM | GOAWAY, ..)) => return Refused::Reset,
            Some((HEADERS, _, 1, head)) => {
                // `:status: 400` is an entry of HPACK's static table; any other head here is of an answer.
                assert_eq!(head.first(), Some(&0x8c), "{rule}: served, or another status: {head:x?}");
                return Refused::Answered;
            }
            Some(_) => {}
        }
    }
}

#[test]
fn a_request_that_breaks_a_rule_reaches_no_agent() {
    let endpoint = Endpoint::answering(|request| {
        assert!(request.start.contains("/good"), "{request:?}");
        ok("good")
    });
    let app = App::before(&endpoint);
    let cases = [
        ("RFC 9113 §8.2.1: names in lower case", with(&[("X-Upper", "1")]), Refused::Reset),
        ("RFC 9113 §8.2.1: no space in a name", with(&[("x y", "1")]), Refused::Reset),
        ("RFC 9113 §8.2.1: no NUL in a value", with(&[("x", "a\0b")]), Refused::Reset),
        ("RFC 9113 §8.2.1: no LF in a value", with(&[("x", "a\nb")]), Refused::Reset),
        ("RFC 9113 §8.2.1: no CR in a value", with(&[("x", "a\rb")]), Refused::Reset),
        ("RFC 9113 §8.2.1: a field has a name", with(&[("", "x")]), Refused::Reset),
        ("RFC 9113 §8.2.2: no connection", with(&[("connection", "close")]), Refused::Reset),
        ("RFC 9113 §8.2.2: no keep-alive", with(&[("keep-alive", "5")]), Refused::Reset),
        ("RFC 9113 §8.2.2: no proxy-connection", with(&[("proxy-connection", "close")]), Refused::Reset),
        ("RFC 9113 §8.2.2: no transfer-encoding", with(&[("transfer-encoding", "chunked")]), Refused::Reset),
        ("RFC 9113 §8.2.2: no upgrade", with(&[("upgrade", "websocket")]), Refused::Reset),
        ("RFC 9113 §8.2.2: no TE but trailers", with(&[("te", "gzip")]), Refused::Reset),
        ("RFC 9113 §8.3: no unknown pseudo field", with(&[(":other", "x")]), Refused::Reset),
        ("RFC 9113 §8.3: pseudo fields come first", [&[("x", "y")], &PLAIN[..]].concat(), Refused::Reset),
        ("RFC 9113 §8.3: each once", with(&[(":path", "/")]), Refused::Reset),
        ("RFC 9113 §8.3.1: a method", without(":method"), Refused::Reset),
        ("RFC 9113 §8.3.1: a scheme", without(":scheme"), Refused::Reset),
        ("RFC 9113 §8.3.1: a path", without(":path"), Refused::Reset),
        ("RFC 9113 §8.3.1: a path that is not empty", instead(":path", ""), Refused::Reset),
        ("RFC 9113 §8.3.1: no control character in it", instead(":path", "/\u{1}"), Refused::Reset),
        ("RFC 9113 §8.3.1: no userinfo", instead(":authority", "user@a"), Refused::Answered),
        ("RFC 9113 §8.3.1: an authority that is one", instead(":authority", "a:b:c"), Refused::Reset),
        ("RFC 9113 §8.3.1: one host", with(&[("host", "b")]), Refused::Answered),
        ("RFC 9110 §7.2: some host", without(":authority"), Refused::Answered),
        ("RFC 9110 §7.2: one host", with(&[("host", "a"), ("host", "a")]), Refused::Answered),
        ("RFC 9110 §4.2: of http", instead(":scheme", "ftp"), Refused::Answered),
        ("RFC 9113 §8.1.1: one length", with(&[("content-length", "1"), ("content-length", "2")]), Refused::Reset),
        ("RFC 9110 §9.3: * is for OPTIONS", instead(":path", "*"), Refused::Answered),
        ("normal form: an encoded slash", instead(":path", "/a%2fb"), Refused::Answered),
        ("normal form: NUL", instead(":path", "/a%00"), Refused::Answered),
    ];
    for (rule, fields, expected) in cases {
        let mut wire = connect(&app);
        wire.write(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))).unwrap();
        assert_eq!(refusal(&mut wire, rule), expected, "{rule}");
    }
    let mut wire = connect(&app);
    wire.write(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&instead(":path", "/good")))).unwrap();
    let served = loop {
        if let (HEADERS, _, 1, head) = next_frame(&mut wire).expect("is answered") {
            break head;
        }
    };
    assert_eq!(served.first(), Some(&0x88), ":status: 200");
}

#[test]
fn a_body_of_another_length_than_was_said_never_looks_whole() {
    let (told, seen) = std::sync::mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.message() {
            told.send(String::from_utf8_lossy(&request.body).into_owned()).unwrap();
            let _ = wire.write(ok("x"));
        }
    });
    let app = App::before(&endpoint);
    for (length, body) in [("5", "four"), ("3", "four")] {
        let fields = [&[(":method", "POST")], &PLAIN[1..], &[("content-length", length)]].concat();
        let mut wire = connect(&app);
        wire.write(frame(HEADERS, END_HEADERS, 1, &block(&fields))).unwrap();
        wire.write(frame(DATA, END_STREAM, 1, body.as_bytes())).unwrap();
        assert_eq!(refusal(&mut wire, "RFC 9113 §8.1.1"), Refused::Reset, "{length}");
    }
    assert!(seen.try_recv().is_err(), "it arrived as whole");
}
