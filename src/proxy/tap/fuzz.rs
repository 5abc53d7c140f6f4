//! Answers as agents send them, broken in every way: what the tap says of one does not depend on how it was cut, and
//! what it counts was there.
//!
//! The first line of an input says what the answer is: its content type, the dialect, and how it is coded.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::*;
use crate::fuzz::{Target, pieces, run};

const MODEL_BYTES_MAX: usize = 256;

#[derive(Debug, PartialEq)]
struct Said {
    end: Option<StreamEnd>,
    events: u32,
    tokens: u32,
    usage: Usage,
    model: Option<String>,
}

fn tap(first_line: &str) -> Option<Tap> {
    let mut words = first_line.split(' ');
    let media = match words.next() {
        Some("ndjson") => "application/x-ndjson",
        Some("json") => "application/json",
        _ => "text/event-stream",
    };
    let dialect = match words.next() {
        Some("openai") => Dialect::OpenAi,
        Some("anthropic") => Dialect::Anthropic,
        Some("a2a") => Dialect::A2a,
        Some("mcp") => Dialect::Mcp,
        Some("plain") => Dialect::Plain,
        _ => Dialect::Auto,
    };
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    match words.next() {
        Some("gzip") => drop(fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
        Some("deflate") => drop(fields.insert(CONTENT_ENCODING, HeaderValue::from_static("deflate"))),
        _ => {}
    }
    Tap::of(dialect, Encoded::Decode, &fields, true)
}

fn said(mut tap: Tap, pieces: &[&[u8]]) -> Said {
    let (mut events, mut tokens) = (0, 0);
    for piece in pieces {
        let seen = tap.read(piece);
        tap.is_between_events();
        events += seen.events;
        tokens += seen.tokens;
    }
    let end = tap.end(Transport::Clean);
    Said { end, events, tokens, usage: tap.usage(), model: tap.model().map(str::to_owned) }
}

/// The answers that the tests know, in every form that they may come in.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![];
    for case in corpus::all() {
        let media = match case.media {
            Media::Events => "sse",
            Media::Lines => "ndjson",
            Media::Document => "json",
        };
        seeds.push([format!("{media} auto clear\n").as_bytes(), case.text.as_bytes()].concat());
    }
    let text = include_bytes!("corpus/openai_chat.sse");
    let mut gzip = GzEncoder::new(vec![], Compression::fast());
    let mut deflate = ZlibEncoder::new(vec![], Compression::fast());
    gzip.write_all(text).and_then(|()| deflate.write_all(text)).expect("memory takes it");
    seeds.push([b"sse auto gzip\n", &gzip.finish().expect("it was whole")[..]].concat());
    seeds.push([b"sse auto deflate\n", &deflate.finish().expect("it was whole")[..]].concat());
    seeds
}

#[test]
fn taps_fuzz() {
    let words = [
        "\n\n",
        "\r\n\r\n",
        "\r",
        "data:",
        "data: [DONE]\n\n",
        "event: error\n",
        ": ",
        "\u{feff}",
        "{",
        "}",
        "[",
        "]",
        "\\u0000",
        "\\\"",
        "\"usage\":",
        "\"error\":",
        "\"model\":",
        "1e999",
        "-1",
        "18446744073709551616",
        "\"choices\":[",
        "\"finish_reason\":\"stop\"",
        "\"type\":\"message_stop\"",
        "\"jsonrpc\":\"2.0\"",
        "\"result\":",
        "sse anthropic clear\n",
        "ndjson auto clear\n",
    ];
    run(Target { name: "taps", words: &words, seeds: seeds(), cases: 2500 }, |input| {
        let line_end = memchr::memchr(b'\n', input).unwrap_or(input.len());
        let (first, body) =
            (String::from_utf8_lossy(&input[..line_end]), input.get(line_end + 1..).unwrap_or_default());
        let Some(tap_of_whole) = tap(&first) else { return };
        let is_clear = matches!(tap_of_whole.source, Source::Clear(_));
        let whole = said(tap_of_whole, &[body]);
        let cut = said(tap(&first).expect("as before"), &pieces(body));
        assert!(whole.model.as_ref().is_none_or(|model| model.len() <= MODEL_BYTES_MAX), "{whole:?}");
        if is_clear {
            assert_eq!(cut, whole, "cut somewhere");
            assert_eq!(
                said(tap(&first).expect("as before"), &body.chunks(1).collect::<Vec<_>>()),
                whole,
                "byte by byte"
            );
            assert!(whole.events as usize <= body.len() && whole.tokens as usize <= body.len(), "{whole:?}");
        }
        for transport in [Transport::Broken, Transport::Stalled, Transport::Cancelled] {
            let mut broken = tap(&first).expect("as before");
            broken.read(body);
            let end = broken.end(transport);
            assert!(!matches!(end, Some(StreamEnd::Opaque)), "one that broke off is no clean one: {end:?}");
        }
    });
}
