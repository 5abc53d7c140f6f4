//! An endpoint that does everything that it should not, at random.

use std::io::Write;
use std::time::Duration;

use super::{Holdings, agent, good, is_well, measured, random, while_others_are_served};
use crate::binary::process::Proxy;
use crate::harness::{Endpoint, Message, Wire, eventually, unused_address};

/// What a client must get of each kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// The whole answer, and the right one.
    Arrive,
    /// An error of the proxy's own, or an answer that is seen to break off: nothing that looks whole.
    Fail,
}

const KINDS: [(&str, Must); 17] = [
    ("plain", Must::Arrive),
    ("too_much", Must::Arrive),
    ("unasked", Must::Arrive),
    ("closes", Must::Arrive),
    ("closes_later", Must::Arrive),
    ("interim", Must::Arrive),
    ("endless_interim", Must::Fail),
    ("reset_at_once", Must::Fail),
    ("reset_head", Must::Fail),
    ("cut_head", Must::Fail),
    ("reset_body", Must::Fail),
    ("cut_body", Must::Fail),
    ("cut_chunk", Must::Fail),
    ("stalled_head", Must::Fail),
    ("too_little", Must::Fail),
    ("garbage", Must::Fail),
    ("huge_head", Must::Fail),
];

/// What the whole answer to this target is.
fn text(target: &str) -> String {
    format!("the answer to {target};").repeat(40)
}

const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";

/// What an endpoint does when it has said what it says.
enum Then {
    GoOn,
    Close,
    CloseLater,
    Reset,
    /// Neither a word nor an end.
    Stall,
}

fn hostile(mut wire: Wire) {
    while let Some(request) = wire.message() {
        let target = request.start.split(' ').nth(1).unwrap_or("");
        let (said, then) = misbehaviour(target.split('/').nth(2).unwrap_or(""), &text(target));
        if wire.write(said).is_err() {
            return;
        }
        match then {
            Then::GoOn => continue,
            Then::Close => {}
            Then::CloseLater => std::thread::sleep(Duration::from_millis(3)),
            Then::Reset => socket2::SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap(),
            Then::Stall => drop(wire.is_closed()),
        }
        return;
    }
}

fn misbehaviour(kind: &str, text: &str) -> (String, Then) {
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let head_half = whole[..24].to_owned();
    let body_half = whole[..whole.len() - text.len() / 2].to_owned();
    match kind {
        "plain" => (whole, Then::GoOn),
        "too_much" => (whole + "and something more", Then::Close),
        // A second answer must never be taken for the answer to the next request.
        "unasked" => (whole + "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Then::GoOn),
        "closes" => (whole, Then::Close),
        "closes_later" => (whole, Then::CloseLater),
        "interim" => (INTERIM.repeat(4) + &whole, Then::GoOn),
        "endless_interim" => (INTERIM.repeat(10_000), Then::Close),
        "reset_at_once" => (String::new(), Then::Reset),
        "reset_head" => (head_half, Then::Reset),
        "cut_head" => (head_half, Then::Close),
        "reset_body" => (body_half, Then::Reset),
        "cut_body" => (body_half, Then::Close),
        "cut_chunk" => ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nonly this".into(), Then::Close),
        "stalled_head" => (head_half, Then::Stall),
        "too_little" => (body_half, Then::Stall),
        "garbage" => ("\0\0\u{1f4a9} 200 OK\r\n\r\n".into(), Then::Close),
        "huge_head" => (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(100 << 10)), Then::Close),
        _ => panic!("no kind {kind}"),
    }
}

/// The final answer on this connection, if there is a whole one.
fn asked(wire: &mut Wire, target: &str) -> Option<Message> {
    wire.write(format!("GET {target} HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n\r\n")).ok()?;
    loop {
        let answer = wire.message()?;
        if answer.status() >= 200 {
            return Some(answer);
        }
    }
}

#[test]
fn an_endpoint_that_does_everything_wrong_harms_nobody_else_and_never_looks_right() {
    const CLIENTS: u64 = 6;
    const REQUESTS: u64 = 60;
    let (fine, bad) = (good(), Endpoint::start(hostile));
    let impatient = "    timeouts: { response: 300ms, idle: 300ms }\n";
    let dead = unused_address();
    let proxy = Proxy::with_yaml(&format!(
        "agents:\n{}{}  dead: {{ match: [{{ path_prefix: /dead }}], versions: {{ 1.0.0: {{ endpoints: ['http://{dead}'] }} }}, stable: 1.0.0 }}\n",
        agent("good", &fine, ""),
        agent("bad", &bad, impatient)
    ));
    is_well(&proxy);
    let before = Holdings::of(&proxy.process);
    let (random, seed) = random("a hostile endpoint");
    let address = proxy.proxy;
    while_others_are_served(address, || {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut random = random.fork(client);
                scope.spawn(move || {
                    for number in 0..REQUESTS {
                        let (kind, must) = KINDS[random.below(KINDS.len() as u64) as usize];
                        let target = format!("/bad/{kind}/{client}-{number}");
                        let answer = asked(&mut Wire::connect(address), &target);
                        let context = format!("{target}, seed {seed}: {answer:?}");
                        let arrived = answer.is_some_and(|answer| {
                            // Never another's answer, never a part of it that looks like all.
                            assert!(answer.status() != 200 || answer.text() == text(&target), "{context}");
                            assert!([200, 502, 504].contains(&answer.status()), "{context}");
                            answer.status() == 200
                        });
                        assert_eq!(arrived, must == Must::Arrive, "{context}");
                    }
                });
            }
        });
        assert_eq!(asked(&mut Wire::connect(address), "/dead").map(|answer| answer.status()), Some(502));
    });
    is_well(&proxy);
    let outcomes =
        |outcome: &str| proxy.metric(&format!("pointsman_requests_total{{agent=\"bad\",outcome=\"{outcome}\"}}"));
    let all = (CLIENTS * REQUESTS) as f64;
    eventually("each request is counted once", || proxy.metric("pointsman_requests_total{agent=\"bad\"}") == all);
    let causes = ["reset", "truncated", "bad_response", "response_timeout", "idle_timeout"];
    for cause in causes {
        assert!(outcomes(cause) > 0.0, "{cause}, seed {seed}");
    }
    let known = outcomes("success") + causes.map(outcomes).iter().sum::<f64>();
    let others = ["client_cancel", "client_error", "server_error", "stream_error", "stalled", "connect_failed"];
    assert_eq!(known, all, "seed {seed}; of others: {:?}", others.map(|cause| (cause, outcomes(cause))));
    assert_eq!(proxy.metric("pointsman_requests_total{agent=\"dead\",outcome=\"connect_failed\"}"), 1.0);
    // What may stay: idle connections to the endpoints, until they are too old.
    before.are_back(&proxy, 16, 32);
    let context = format!("seed {seed}");
    assert!(!proxy.stop().err.contains("panicked"), "{context}");
    measured(format_args!("{all} requests to a hostile endpoint, none of whose answers was taken for another"));
}

#[test]
fn bodies_that_an_endpoint_does_not_want_do_not_stay() {
    // It answers before it has read, and closes; what is still on its way has nowhere to go.
    let (fine, bad) = (
        good(),
        Endpoint::start(|mut wire| {
            if wire.head().is_some() {
                let _ = wire.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
            }
        }),
    );
    let proxy = Proxy::with_yaml(&format!("agents:\n{}{}", agent("good", &fine, ""), agent("bad", &bad, "")));
    is_well(&proxy);
    let before = Holdings::of(&proxy.process);
    while_others_are_served(proxy.proxy, || {
        for _ in 0..20 {
            let mut wire = proxy.client();
            let head = format!("POST /bad HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 8 << 20);
            let mut writer = wire.writer();
            let sender = std::thread::spawn(move || {
                let piece = vec![b'x'; 64 << 10];
                // It may be told to stop by a close.
                writer.write_all(head.as_bytes()).is_ok() && (0..128).all(|_| writer.write_all(&piece).is_ok())
            });
            let status = wire.message().map(|answer| answer.status());
            assert!(matches!(status, None | Some(403 | 502)), "{status:?}");
            drop(wire);
            let _ = sender.join().unwrap();
        }
    });
    is_well(&proxy);
    before.are_back(&proxy, 16, 32);
}
