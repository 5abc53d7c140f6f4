//! A client's bytes as requests, held against other readers: hyper's, and careless ones. Where they would see another
//! request than we do, there must be none to see: that is how requests are smuggled.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::head::{self, Limits};
use crate::fuzz::{Target, pieces, run};
use crate::proxy::fuzz::{Sloppy, WORDS, read_body};
use crate::proxy::read::{normalise_target, unknown_coding};
use crate::routing::path::PathPolicy;

const LIMITS: Limits = Limits { bytes: 16 << 10, fields: 50 };

/// One request as somebody understood it.
#[derive(Debug, PartialEq)]
struct Seen {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// The requests that a connection with these bytes carries, each with where it begins and ends; nothing after the first
/// that is refused, cut short or asks to close.
fn ours(input: &[u8]) -> Vec<(Seen, usize, usize)> {
    let (mut requests, mut at) = (vec![], 0);
    while let Ok(Some(head)) = head::read(&input[at..], LIMITS) {
        let (mut parts, mut framing) = (head.parts, head.framing);
        let (method, target) = (parts.method.to_string(), parts.uri.to_string());
        if unknown_coding(&parts).is_some() || normalise_target(&mut parts, PathPolicy::default()).is_err() {
            break;
        }
        let rest = &input[at + head.length..];
        let Ok((body, _, left)) = read_body(&mut framing, &pieces(rest)) else { break };
        let end = input.len() - left;
        requests.push((Seen { method, target, body }, at, end));
        at = end;
        if !head.keep_alive {
            break;
        }
    }
    requests
}

#[test]
fn request_heads_fuzz() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    run(Target { name: "request_heads", words: &WORDS, seeds: vec![], cases: 3000 }, |input| {
        let requests = ours(input);
        for (_, start, _) in &requests {
            whole_heads_only(&input[*start..]);
        }
        for (request, start, end) in &requests {
            for sloppy in Sloppy::ALL {
                careless_readers_agree(sloppy, request, &input[*start..*end]);
            }
        }
        let theirs = runtime.block_on(hyper_s(input));
        for (number, ((ours, ..), theirs)) in requests.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "hyper reads request {number} otherwise");
        }
    });
}

/// What is held of each input above is of something.
#[test]
fn all_requests_of_a_connection_are_held_against_each_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let input = include_bytes!("../../../../tests/corpus/request_heads/pipelined");
    let ours: Vec<_> = ours(input).into_iter().map(|(request, ..)| request).collect();
    let bodies: Vec<_> = ours.iter().map(|request| request.body.escape_ascii().to_string()).collect();
    assert_eq!(bodies, ["abc", "xyz", ""]);
    assert_eq!(runtime.block_on(hyper_s(input)), ours);
}

fn whole_heads_only(input: &[u8]) {
    let Ok(Some(head)) = head::read(input, LIMITS) else { panic!("it was one") };
    for cut in [0, 1, head.length / 3, head.length / 2, head.length - 2, head.length - 1] {
        assert!(matches!(head::read(&input[..cut], LIMITS), Ok(None)), "cut at {cut} of {}", head.length);
    }
}

fn careless_readers_agree(sloppy: Sloppy, request: &Seen, message: &[u8]) {
    let taken = sloppy.read(message).unwrap_or_else(|| panic!("{sloppy:?} waits for more of {request:?}"));
    let start: Vec<_> = taken.start.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    assert_eq!(start.len(), 3, "{sloppy:?} {start:?}");
    assert_eq!((&start[0], &taken.body), (&request.method, &request.body), "{sloppy:?}");
    assert_eq!(taken.end, message.len(), "{sloppy:?}: the next request begins elsewhere");
    let head = head::read(message, LIMITS).ok().flatten().expect("it was one");
    for name in head.parts.headers.keys().filter(|name| *name != "content-length") {
        let ours: Vec<_> = head.parts.headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect();
        let theirs = taken.fields.iter().filter(|(other, _)| *other == name.as_str()).map(|(_, value)| value.clone());
        assert_eq!(ours, theirs.collect::<Vec<_>>(), "{sloppy:?} {name}");
    }
}

/// What hyper's server makes of the same bytes.
async fn hyper_s(input: &[u8]) -> Vec<Seen> {
    let seen = Rc::new(RefCell::new(vec![]));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (method, target) = (request.method().to_string(), request.uri().to_string());
            if let Ok(body) = request.into_body().collect().await {
                seen.borrow_mut().push(Seen { method, target, body: body.to_bytes().to_vec() });
            }
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let serve =
        hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
    let ask = async {
        let _ = client.write_all(input).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut vec![]).await;
    };
    let _ = tokio::join!(serve, ask);
    seen.take()
}
