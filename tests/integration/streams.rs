//! Streams through the proxy: how each end is counted, and that what passes is what was sent.

use std::io::Write as _;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::harness::{App, Endpoint, Message, PATIENCE, Wire, eventually};

const REQUEST: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
const TEXT: &str = "data: {\"object\":\"chat.completion.chunk\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const USAGE: &str = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":3}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
const HEARTBEAT: &[u8] = b": heartbeat\n\n";

fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A whole stream of these frames; `fields` are more lines of its head.
fn stream(fields: &str, frames: &[&str]) -> Vec<u8> {
    let mut answer = format!("{HEAD}{fields}\r\n").into_bytes();
    frames.iter().for_each(|frame| answer.extend(chunk(frame)));
    answer.extend(b"0\r\n\r\n");
    answer
}

/// Answers each request with these bytes.
fn answering(answer: Vec<u8>) -> Endpoint {
    Endpoint::start(move |mut wire| {
        while wire.message().is_some() {
            if wire.write(&answer).is_err() {
                return;
            }
        }
    })
}

fn ask(app: &App) -> Message {
    app.client().ask(REQUEST)
}

fn streams(app: &App, end: &str) -> f64 {
    app.metric(&format!("pointsman_streams_total{{end=\"{end}\"}}"))
}

fn counted_once(app: &App, end: &str, outcome: &str) {
    eventually(&format!("it is counted as {end} and {outcome}"), || {
        streams(app, end) == 1.0 && app.outcomes(outcome) == 1.0
    });
    assert_eq!(app.metric("pointsman_streams_total"), 1.0);
    assert_eq!(app.metric("pointsman_requests_total"), 1.0);
}

#[test]
fn an_answer_is_counted_by_how_it_ended() {
    let json =
        "{\"object\":\"chat.completion\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}";
    let json =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}", json.len());
    for (answer, end, outcome) in [
        (stream("", &[TEXT, TEXT, USAGE, DONE]), "complete", "success"),
        (stream("", &[TEXT, ERROR]), "error", "stream_error"),
        (stream("", &[TEXT, TEXT]), "truncated", "truncated"),
        (stream("content-encoding: br\r\n", &["\u{1}"]), "opaque", "success"),
        (json.into_bytes(), "complete", "success"),
    ] {
        let endpoint = answering(answer);
        let app = App::before(&endpoint);
        assert_eq!(ask(&app).status(), 200);
        counted_once(&app, end, outcome);
    }
}

#[test]
fn what_is_no_stream_is_not_counted_as_one() {
    let head_only = format!("{HEAD}\r\n").into_bytes();
    let not_ok = String::from_utf8(stream("", &[ERROR])).unwrap().replace("200 OK", "429 Slow Down").into_bytes();
    for (method, answer, status) in [
        ("GET", b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi".to_vec(), 200),
        ("HEAD", head_only, 200),
        ("GET", not_ok, 429),
    ] {
        let endpoint = answering(answer);
        let app = App::before_with(&endpoint, "    streams: { dialect: openai }\n");
        let mut client = app.client();
        client.write(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        assert_eq!(client.head().unwrap().status(), status);
        eventually("it is counted as a success", || app.outcomes("success") == 1.0);
        assert_eq!(app.metric("pointsman_streams_total"), 0.0);
    }
}

#[test]
fn a_stream_whose_connection_breaks_is_truncated() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.message().unwrap();
        wire.write([format!("{HEAD}\r\n").as_bytes(), &chunk(TEXT)].concat()).unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write(REQUEST).unwrap();
    assert!(client.message().is_none());
    counted_once(&app, "truncated", "truncated");
}

/// An endpoint that sends these frames and then waits for its client to go.
fn holding(frames: &'static [&'static str]) -> Endpoint {
    Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.write(format!("{HEAD}\r\n")).unwrap();
        frames.iter().for_each(|frame| wire.write(chunk(frame)).unwrap());
        assert!(wire.is_closed());
    })
}

#[test]
fn a_client_that_leaves_is_counted_by_what_it_was_sent() {
    for (frames, end, outcome) in [
        (&[TEXT][..], "cancelled", "client_cancel"),
        // It had all that there is to have; and an error is one, whoever hangs up on it.
        (&[TEXT, DONE][..], "complete", "success"),
        (&[TEXT, ERROR][..], "error", "stream_error"),
    ] {
        let endpoint = holding(frames);
        let app = App::before(&endpoint);
        let mut client = app.client();
        client.write(REQUEST).unwrap();
        client.head().unwrap();
        frames.iter().for_each(|frame| assert_eq!(client.chunk(), Some(Some(frame.as_bytes().to_vec()))));
        drop(client);
        counted_once(&app, end, outcome);
    }
}

#[test]
fn a_stream_of_comments_alone_is_stalled() {
    let endpoint = Endpoint::start(|mut wire| {
        wire.message().unwrap();
        wire.write([format!("{HEAD}\r\n").as_bytes(), &chunk(TEXT)].concat()).unwrap();
        while wire.write(chunk(": ping\n\n")).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let app = App::before_with(&endpoint, "    streams: { stall_timeout: 1s }\n");
    let mut client = app.client();
    client.write(REQUEST).unwrap();
    assert!(client.message().is_none(), "the stream is cut");
    counted_once(&app, "stalled", "stalled");
}

#[test]
fn a_stream_that_has_said_its_last_word_does_not_stall() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.write([format!("{HEAD}\r\n").as_bytes(), &chunk(DONE)].concat()).unwrap();
        told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        wire.write("0\r\n\r\n").unwrap();
    });
    let app = App::before_with(&endpoint, "    streams: { stall_timeout: 1s }\n");
    let mut client = app.client();
    client.write(REQUEST).unwrap();
    client.head().unwrap();
    assert!(client.chunk().unwrap().is_some());
    std::thread::sleep(Duration::from_millis(1500));
    go_on.send(()).unwrap();
    assert_eq!(client.chunk(), Some(None));
    counted_once(&app, "complete", "success");
}

#[test]
fn each_frame_passes_at_once_and_as_it_is() {
    const FRAMES: usize = 100;
    let frame = |number: usize| format!("data: {number}{}\n\n", "x".repeat(number * 37 % 300));
    let (taken, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let endpoint = Endpoint::start(move |mut wire| {
        let told = told.lock().unwrap();
        wire.message().unwrap();
        wire.write(format!("{HEAD}\r\n")).unwrap();
        for number in 0..FRAMES {
            wire.write(chunk(frame(number))).unwrap();
            // The next one is not sent before the client has this one.
            told.recv_timeout(PATIENCE).unwrap();
        }
        wire.write("0\r\n\r\n").unwrap();
    });
    let app = App::before(&endpoint);
    let mut client = app.client();
    client.write(REQUEST).unwrap();
    client.head().unwrap();
    for number in 0..FRAMES {
        assert_eq!(client.chunk(), Some(Some(frame(number).into_bytes())));
        taken.send(()).unwrap();
    }
    assert_eq!(client.chunk(), Some(None));
    counted_once(&app, "complete", "success");
    assert_eq!(app.metric("pointsman_gen_ai_server_time_to_first_token_seconds_count"), 1.0);
    let gaps = app.metric("pointsman_gen_ai_client_operation_time_per_output_chunk_seconds_count");
    assert_eq!(gaps, (FRAMES - 1) as f64);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_coded_stream_is_opaque_or_read_and_passes_as_it_is() {
    for (settings, end, tokens) in [("opaque", "opaque", 0.0), ("decode", "complete", 3.0)] {
        let zipped = gzip(&[TEXT, USAGE, DONE].concat());
        let head = format!("{HEAD}content-encoding: gzip\r\n\r\n");
        let pieces = zipped.chunks(10).flat_map(chunk).collect::<Vec<_>>();
        let endpoint = answering([head.as_bytes(), &pieces, b"0\r\n\r\n"].concat());
        let app = App::before_with(&endpoint, &format!("    streams: {{ encoded: {settings} }}\n"));
        let answer = ask(&app);
        assert_eq!(answer.body, zipped);
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        counted_once(&app, end, "success");
        assert_eq!(app.metric("pointsman_gen_ai_tokens_total{gen_ai_token_type=\"output\"}"), tokens);
    }
}

#[test]
fn tokens_come_from_the_stream_or_from_fields_and_have_their_price() {
    let told = stream("x-in: 7\r\nx-out: 9\r\n", &[TEXT, DONE]);
    for (answer, input, output) in [(stream("x-in: 7\r\n", &[TEXT, USAGE, DONE]), 20.0, 3.0), (told, 7.0, 9.0)] {
        let endpoint = answering(answer);
        let url = endpoint.url();
        let app = App::with_yaml(&format!(
            "prices: {{ gpt-x: {{ input: 500000, output: 1000000 }} }}\nagents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{url}'] }}\n    stable: 1.0.0\n    streams: {{ input_tokens_header: x-in, output_tokens_header: x-out }}\n"
        ));
        ask(&app);
        counted_once(&app, "complete", "success");
        assert_eq!(app.metric("pointsman_gen_ai_tokens_total{gen_ai_token_type=\"input\"}"), input);
        assert_eq!(app.metric("pointsman_gen_ai_tokens_total{gen_ai_token_type=\"output\"}"), output);
        assert_eq!(app.metric("pointsman_cost_total"), 0.5 * input + output);
    }
}

/// Sends `text` cut at `cut`, the second part when it is told, or where `told` is `None` after some time.
fn send_in_two(wire: &mut Wire, text: &str, cut: usize, told: Option<&Receiver<()>>) {
    let (first, second) = text.as_bytes().split_at(cut);
    wire.write(format!("{HEAD}\r\n")).unwrap();
    if !first.is_empty() {
        wire.write(chunk(first)).unwrap();
    }
    match told {
        Some(told) => told.recv_timeout(PATIENCE).unwrap(),
        None => std::thread::sleep(Duration::from_millis(1500)),
    }
    if !second.is_empty() {
        wire.write(chunk(second)).unwrap();
    }
    wire.write("0\r\n\r\n").unwrap();
}

#[test]
fn a_silent_agent_s_client_gets_comments_between_events_only() {
    const STREAM: &str = ": c\n\nid: 1\ndata: a\n\nevent: x\r\ndata: b\r\n\r\n";
    let after = |part: &&str| STREAM.find(part).unwrap() + part.len();
    let between: Vec<_> = ["", ": c\n", ": c\n\n", "a\n\n", "b\r\n\r", "b\r\n\r\n"].iter().map(after).collect();
    let (filled, told): (Vec<_>, Vec<_>) = (0..=STREAM.len())
        .map(|_| mpsc::channel::<()>())
        .map(|(filled, told)| (filled, std::sync::Mutex::new(told)))
        .unzip();
    let fits = between.clone();
    let endpoint = Endpoint::start(move |mut wire| {
        let request = wire.message().unwrap();
        let cut: usize = request.start.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        let told = told[cut].lock().unwrap();
        send_in_two(&mut wire, STREAM, cut, fits.contains(&cut).then_some(&told));
    });
    let app = App::before_with(&endpoint, "    streams: { heartbeat: 1s }\n");
    std::thread::scope(|scope| {
        for (cut, filled) in filled.into_iter().enumerate() {
            let (app, fits) = (&app, between.contains(&cut));
            scope.spawn(move || {
                let mut client = app.client();
                client.write(format!("GET /{cut} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
                client.head().unwrap();
                let mut got = Vec::new();
                while let Some(frame) = client.chunk().unwrap() {
                    if frame != HEARTBEAT {
                        got.extend(frame);
                        continue;
                    }
                    // Nor does it come elsewhere when the agent is slow to begin or to end.
                    assert!(got.is_empty() || fits && got.len() == cut || got.len() == STREAM.len(), "cut at {cut}");
                    if got.len() == cut {
                        let _ = filled.send(());
                    }
                }
                assert_eq!(String::from_utf8_lossy(&got), STREAM, "cut at {cut}");
            });
        }
    });
}

#[test]
fn an_answer_of_known_length_gets_no_comments() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let endpoint = Endpoint::start(move |mut wire| {
        wire.message().unwrap();
        wire.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 18\r\n\r\n").unwrap();
        wire.write("data: a\n\n").unwrap();
        told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        wire.write("data: b\n\n").unwrap();
    });
    let app = App::before_with(&endpoint, "    streams: { heartbeat: 1s }\n");
    let mut client = app.client();
    client.write(REQUEST).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    go_on.send(()).unwrap();
    assert_eq!(client.message().unwrap().text(), "data: a\n\ndata: b\n\n");
}

#[test]
fn comments_of_our_own_do_not_keep_a_dead_stream_alive() {
    let endpoint = holding(&["data: a\n\n"]);
    let settings = "    streams: { heartbeat: 1s }\n    timeouts: { idle: 3s }\n";
    let app = App::before_with(&endpoint, settings);
    let mut client = app.client();
    client.write(REQUEST).unwrap();
    assert!(client.message().is_none());
    counted_once(&app, "stalled", "idle_timeout");
}
