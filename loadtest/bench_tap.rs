//! What reading an answer as it passes costs: `cargo bench --bench tap`.
//!
//! Streams of some 1 MiB, a frame an event as agents send them, and in frames of 16 KiB as a slow client gets them.
//! `valgrind --tool=callgrind BENCH --test openai/tap/frame_per_event` counts instructions, however busy the machine is:
//! those of `read`, all in all, for 1 MiB.
//! Beside each reader stands a plain search for line ends over the same frames: the least that any reader does.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use pointsman::proxy::tap::{Seen, Tap, Transport};
use pointsman::routing::spec::{Dialect, Encoded};

const BYTES: usize = 1 << 20;
const LARGE_FRAME: usize = 16 << 10;

fn tap(dialect: Dialect, content_type: &'static str) -> Tap {
    let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    Tap::of(dialect, Encoded::Opaque, &fields, true).expect("there is something to read")
}

#[inline(never)]
fn read<'a>(mut tap: Tap, frames: impl Iterator<Item = &'a [u8]>) -> u32 {
    let seen = frames
        .map(|frame| tap.read(frame))
        .fold(Seen::default(), |sum, seen| Seen { events: sum.events + seen.events, tokens: sum.tokens + seen.tokens });
    black_box(tap.end(Transport::Clean));
    seen.tokens
}

fn lines<'a>(frames: impl Iterator<Item = &'a [u8]>) -> usize {
    frames.map(|frame| memchr::memchr2_iter(b'\n', b'\r', frame).count()).sum()
}

/// `event` over and over, with another word and another number each time.
fn stream(event: &str) -> Vec<String> {
    let words = [" points", " the", " a", "\\n", " set", "s", ".", " said", " \\\"Jack", "\\\"", " of", " Geneva", ","];
    let mut room = BYTES;
    let events = (17..).zip(words.iter().cycle());
    let events = events.map(|(number, word)| event.replace("WORD", word).replace("NUMBER", &number.to_string()));
    let fits = |event: &String| room.checked_sub(event.len()).map(|left| room = left).is_some();
    events.take_while(fits).collect()
}

fn readers(c: &mut Criterion) {
    let openai = "data: {\"id\":\"chatcmpl-BqZ3kX9\",\"object\":\"chat.completion.chunk\",\"created\":1752700001,\
        \"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\",\
        \"choices\":[{\"index\":0,\"delta\":{\"content\":\"WORD\"},\"logprobs\":null,\"finish_reason\":null}],\
        \"usage\":null}\n\n";
    let obfuscated = openai.replace("}\n\n", ",\"obfuscation\":\"WORD WORD\"}\n\n");
    let likely = "\"logprobs\":{\"content\":[{\"token\":\"WORD\",\"logprob\":-0.NUMBER,\"bytes\":[32,NUMBER],\
        \"top_logprobs\":[]}]}";
    let logprobs = openai.replace("\"logprobs\":null", likely);
    let responses = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\
        \"sequence_number\":NUMBER,\"item_id\":\"msg_68a1\",\"output_index\":0,\"content_index\":0,\
        \"delta\":\"WORD\",\"logprobs\":[],\"obfuscation\":\"WORD\"}\n\n";
    let anthropic = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\"WORD\"}}\n\n";
    let a2a = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"taskId\":\"t-1\",\"contextId\":\"c-1\",\
        \"artifact\":{\"artifactId\":\"a-1\",\"parts\":[{\"kind\":\"text\",\"text\":\"WORD are set\"}]},\
        \"append\":true,\"lastChunk\":false,\"kind\":\"artifact-update\"}}\n\n";
    let ollama = "{\"model\":\"llama3.2\",\"created_at\":\"2025-07-01T10:00:00.NUMBERZ\",\
        \"message\":{\"role\":\"assistant\",\"content\":\"WORD\"},\"done\":false}\n";
    let sse = "text/event-stream";
    for (name, event, dialect, content_type) in [
        ("openai", openai, Dialect::Auto, sse),
        ("openai_obfuscated", obfuscated.as_str(), Dialect::Auto, sse),
        ("openai_logprobs", logprobs.as_str(), Dialect::Auto, sse),
        ("openai_responses", responses, Dialect::Auto, sse),
        ("anthropic", anthropic, Dialect::Auto, sse),
        ("a2a", a2a, Dialect::Auto, sse),
        ("plain", openai, Dialect::Plain, sse),
        ("ndjson", ollama, Dialect::Auto, "application/x-ndjson"),
    ] {
        let events = stream(event);
        let bytes = events.concat();
        let each: Vec<_> = events.iter().map(String::as_bytes).collect();
        let large: Vec<_> = bytes.as_bytes().chunks(LARGE_FRAME).collect();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for (frame, frames) in [("frame_per_event", &each), ("large_frames", &large)] {
            let frames = || black_box(frames).iter().copied();
            group.bench_function(format!("tap/{frame}"), |b| b.iter(|| read(tap(dialect, content_type), frames())));
            group.bench_function(format!("line_ends/{frame}"), |b| b.iter(|| lines(frames())));
        }
        group.finish();
    }
}

fn whole_bodies(c: &mut Criterion) {
    let vector = "0.0123456789,".repeat(1536);
    let text = "All work and no play, said \\\"Jack\\\". ".repeat(500);
    let mut group = c.benchmark_group("json");
    for (name, body) in [
        (
            "embedding",
            format!(
                "{{\"object\":\"list\",\"data\":[{{\"embedding\":[{vector}0]}}],\"usage\":{{\"prompt_tokens\":8}}}}"
            ),
        ),
        (
            "message",
            format!("{{\"object\":\"chat.completion\",\"choices\":[{{\"message\":{{\"content\":\"{text}\"}}}}]}}"),
        ),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| read(tap(Dialect::Auto, "application/json"), black_box(body.as_bytes()).chunks(LARGE_FRAME)));
        });
    }
    group.finish();
}

criterion_group!(benches, readers, whole_bodies);
criterion_main!(benches);
