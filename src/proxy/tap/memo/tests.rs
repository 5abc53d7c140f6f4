//! What is known by its shape, what is not, and that nothing is read otherwise for it.

use proptest::prelude::*;

use super::super::Transport;
use super::super::sse::Lines;
use super::super::tests::{report, tap};
use super::*;
use crate::proxy::media::Media;
use crate::routing::spec::Dialect;

/// An event as agents send them, its texts and numbers in place of `#`.
const OPENAI: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":#,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"#\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"#\"}\n\n";
const RESPONSES: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":#,\"item_id\":\"msg_1\",\"output_index\":0,\"delta\":\"#\",\"logprobs\":[],\"obfuscation\":\"#\"}\n\n";
const ANTHROPIC: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":#,\"delta\":{\"type\":\"text_delta\",\"text\":\"#\"}}\n\n";
const A2A: &str = "id: #\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"kind\":\"artifact-update\",\"artifact\":{\"artifactId\":\"a\",\"parts\":[{\"kind\":\"text\",\"text\":\"#\"}]},\"append\":true}}\r\n\r\n";
const OLLAMA: &str = "{\"model\":\"llama3.2\",\"created_at\":\"2025-07-01T10:00:#.#Z\",\"message\":{\"role\":\"assistant\",\"content\":\"#\"},\"done\":false}\n";

fn filled(shape: &str, fillings: &[&str]) -> String {
    let mut fillings = fillings.iter().cycle();
    let parts = shape.split_inclusive('#').map(|part| match part.strip_suffix('#') {
        Some(before) => format!("{before}{}", fillings.next().expect("there is one")),
        None => part.to_owned(),
    });
    parts.collect()
}

fn after<'a>(events: impl IntoIterator<Item = &'a str>) -> Memo {
    let (mut memo, mut lines, mut answer) = (Memo::default(), Lines::default(), Answer::new(Dialect::Auto));
    for event in events {
        memo.read(event.as_bytes(), &mut lines, &mut answer);
    }
    memo
}

fn knows(memo: &Memo, event: &str) -> bool {
    let split = memo.0.as_ref().and_then(|template| template.split(event.as_bytes(), |_, _| {}));
    split.is_some_and(|(_, rest)| rest.is_empty())
}

#[test]
fn the_events_of_a_stream_are_known_whatever_fills_them() {
    for shape in [OPENAI, RESPONSES, ANTHROPIC, A2A] {
        // The very first one may follow a byte order mark, and is none.
        let events = ["1", "20", "31"].map(|filling| filled(shape, &[filling]));
        let memo = after(events.iter().map(String::as_str));
        for filling in ["7", "12345"] {
            assert!(knows(&memo, &filled(shape, &[filling])), "{shape} {filling}");
        }
    }
    let memo = after(
        [[" the", "x"], [" a", "yz"], ["\\n", "z"]]
            .map(|texts| filled(&OPENAI.replacen('#', "5", 1), &texts))
            .iter()
            .map(String::as_str),
    );
    let texts = filled(&OPENAI.replacen('#', "5", 1), &["said \\\"\u{e4}\\\\", "xx"]);
    assert!(knows(&memo, &texts));
}

#[test]
fn lines_of_json_are_known_too() {
    let (mut memo, mut records, mut answer) =
        (Memo::default(), super::super::lines::Records::default(), Answer::new(Dialect::Auto));
    for fillings in [["1", "22", "a"], ["3", "4", " b"], ["5", "66", "c"]] {
        memo.read(filled(OLLAMA, &fillings).as_bytes(), &mut records, &mut answer);
    }
    assert!(knows(&memo, &filled(OLLAMA, &["07", "123", "\\u00e4 ."])));
    assert!(!knows(&memo, &filled(OLLAMA, &["07", "123", "x"]).replace("false", "true")));
}

#[test]
fn what_may_mean_something_else_is_not_known() {
    let events = ["1", "20", "31"].map(|filling| filled(OPENAI, &[filling]));
    let memo = after(events.iter().map(String::as_str));
    let known = filled(OPENAI, &["6"]);
    assert!(knows(&memo, &known));
    for (part, other) in [
        ("\"content\":\"6\"", "\"content\":\"\""),
        ("\"content\":\"6\"", "\"content\":\"6\n\""),
        ("\"content\":\"6\"", "\"content\":\"6\r\""),
        ("\"content\":\"6\"", "\"content\":\"6\"\""),
        ("\"content\":\"6\"", "\"content\":\"6\\\""),
        ("\"content\":\"6\"", "\"content\":null"),
        ("\"index\":0", "\"index\":1"),
        ("\"created\":6", "\"created\":"),
        ("\"created\":6", "\"created\":-6"),
        ("\"finish_reason\":null", "\"finish_reason\":\"stop\""),
        ("\"usage\":null", "\"usage\":{\"completion_tokens\":6}"),
        ("\"usage\":null", "\"error\":{}"),
        ("data: ", "event: error\ndata: "),
        ("}\n\n", "}\n"),
    ] {
        assert!(known.contains(part));
        assert!(!knows(&memo, &known.replace(part, other)), "{other}");
    }
}

#[test]
fn tokens_that_each_event_tells_anew_are_told() {
    let shape = OPENAI.replace("\"usage\":null", "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":@}");
    let events: Vec<_> = (9..30).map(|number| filled(&shape.replace('@', &number.to_string()), &["1", " x"])).collect();
    let memo = after(events.iter().map(String::as_str));
    assert!(knows(&memo, &events[0]));
    assert!(!knows(&memo, &events[0].replace(":9}", ":9.0}")) && !knows(&memo, &events[0].replace(":9}", ":-9}")));
    let read = report(tap(Media::Events, Dialect::Auto), events.iter().map(String::as_bytes), Transport::Clean);
    assert_eq!((read.input, read.output), (Some(19), Some(29)));
}

#[test]
fn an_event_that_is_too_long_is_no_template_but_is_known() {
    let long = "x".repeat(TEMPLATE_BYTES);
    let events = ["1", "20", &long, "31"].map(|filling| filled(ANTHROPIC, &["0", filling]));
    let memo = after(events.iter().map(String::as_str));
    assert!(knows(&memo, &filled(ANTHROPIC, &["0", &long])));
    let memo = after(events[2..3].iter().map(String::as_str));
    assert!(memo.0.is_none());
}

/// What differs from event to event: harmless, or not at all.
const FILLINGS: [&str; 26] = [
    "",
    " points",
    "a",
    "1",
    "22",
    "007",
    "-1",
    "1.5",
    "null",
    "true",
    "[]",
    "{\"x\":\"",
    "\"",
    "\\\"",
    "\\\\",
    "\\",
    "\\n",
    "\n",
    "\r\n",
    "\n\n",
    "}",
    "]}",
    "stop",
    "error",
    "\u{e4}\u{1f682}",
    "a text that is longer than a word or two, by far",
];

const SHAPES: [&str; 14] = [
    OPENAI,
    RESPONSES,
    ANTHROPIC,
    A2A,
    OLLAMA,
    "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":#,\"delta\":{\"content\":\"#\"},\"finish_reason\":\"#\"}],\"usage\":{\"prompt_tokens\":#,\"completion_tokens\":#}}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":#,\"function\":{\"arguments\":\"#\"}}]},\"finish_reason\":#}]}\n\n",
    "event: #\ndata: {\"type\":\"message_#\",\"usage\":{\"output_tokens\":#}}\n\n",
    "id: #\nretry: #\ndata: {\"jsonrpc\":\"2.0\",\"result\":{\"status\":{\"state\":\"#\",\"message\":\"#\"},\"final\":#}}\n\n",
    "\ndata: {\"delta\":\"#\",\"type\":\"response.#\",\"#\":\"x\"}\n\n",
    "data: {\"model\":\"#\",\"message\":{\"#\":\"#\"},\"done\":#}\n",
    "data: {\"error\":{\"message\":\"#\"}}\n\n",
    ": #\n\ndata: #\n\n",
    "data: [DONE]\n\n",
];

/// Events of which each differs from the one before it in one place at most, and what reads them.
fn stream() -> impl Strategy<Value = (Vec<String>, Media, Dialect)> {
    // Mostly such that the event stays whole.
    let filling = || prop_oneof![8 => prop::sample::select(&FILLINGS[..6]), 1 => prop::sample::select(&FILLINGS[..])];
    let shapes = prop::collection::vec(prop::sample::select(SHAPES.to_vec()), 1..3);
    let changes = prop::collection::vec((0usize..8, 0usize..5, filling()), 1..24);
    let dialects = vec![Dialect::Auto, Dialect::OpenAi, Dialect::Anthropic, Dialect::A2a, Dialect::Mcp];
    let media = prop::sample::select(vec![Media::Events, Media::Events, Media::Lines]);
    let fillings = prop::collection::vec(filling(), 5);
    (shapes, fillings, changes, media, prop::sample::select(dialects)).prop_map(
        |(shapes, mut fillings, changes, media, dialect)| {
            let event = |(shape, place, filling): (usize, usize, &'static str)| {
                fillings[place] = filling;
                // Mostly the same one again and again.
                filled(shapes.get(shape).unwrap_or(&shapes[0]), &fillings)
            };
            (changes.into_iter().map(event).collect(), media, dialect)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Byte by byte there is never a whole event in a piece, and so no memo.
    #[test]
    fn nothing_is_read_otherwise_than_without_it(
        (events, media, dialect) in stream(),
        joined in 1usize..4,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        transport in prop::sample::select(vec![Transport::Clean, Transport::Cancelled]),
    ) {
        let text = events.concat();
        let bytes = text.as_bytes();
        let mut ends = vec![0, bytes.len()];
        let mut end = 0;
        for events in events.chunks(joined) {
            end += events.iter().map(String::len).sum::<usize>();
            ends.push(end);
        }
        ends.extend(cuts.iter().map(|cut| cut.index(bytes.len() + 1)));
        ends.sort_unstable();
        let pieces = ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
        prop_assert_eq!(
            report(tap(media, dialect), pieces, transport),
            report(tap(media, dialect), bytes.chunks(1), transport)
        );
    }
}
