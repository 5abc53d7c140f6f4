//! The corpus, cut in every way; and what no corpus holds.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use proptest::prelude::*;

use super::corpus::{BREAKS, Case, Report, all};
use super::*;

fn fields(content_type: &'static str, coding: Option<&'static str>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(coding) = coding {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    fields
}

fn content_type(media: Media) -> &'static str {
    match media {
        Media::Events => "text/event-stream; charset=utf-8",
        Media::Lines => "application/x-ndjson",
        Media::Document => "application/json",
    }
}

pub(super) fn tap(media: Media, dialect: Dialect) -> Tap {
    Tap::of(dialect, Encoded::Opaque, &fields(content_type(media), None), true).expect("there is something to read")
}

pub(super) fn report<'a>(mut tap: Tap, pieces: impl IntoIterator<Item = &'a [u8]>, transport: Transport) -> Report {
    let (mut events, mut tokens) = (0, 0);
    for piece in pieces {
        let seen = tap.read(piece);
        events += seen.events;
        tokens += seen.tokens;
    }
    let end = tap.end(transport);
    let Usage { input_tokens: input, output_tokens: output } = tap.usage();
    Report { end, events, tokens, input, output, model: tap.model().map(str::to_owned) }
}

/// Every case, with the dialect told and with it to be found.
fn runs() -> Vec<(Case, Dialect)> {
    let found = all().into_iter().filter(|case| case.is_known_by_itself).map(|case| (case, Dialect::Auto));
    all().into_iter().map(|case| (case.dialect, case)).map(|(dialect, case)| (case, dialect)).chain(found).collect()
}

#[test]
fn each_answer_is_read_alike_however_it_is_cut() {
    for (case, dialect) in runs() {
        let bytes = case.text.as_bytes();
        let read = |pieces: &[&[u8]]| report(tap(case.media, dialect), pieces.iter().copied(), Transport::Clean);
        assert_eq!(read(&[bytes]), case.report, "{} as {dialect:?}", case.name);
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(read(&[first, second]), case.report, "{} as {dialect:?}, cut at {cut}", case.name);
        }
        let singly: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(read(&singly), case.report, "{} as {dialect:?}, byte by byte", case.name);
    }
}

#[test]
fn line_ends_comments_and_a_byte_order_mark_make_no_difference() {
    for (case, dialect) in runs().into_iter().filter(|(case, _)| case.media == Media::Events) {
        for text in [
            case.text.replace('\n', "\r\n"),
            case.text.replace('\n', "\r"),
            format!("\u{feff}{}", case.text),
            case.text.replace("\n\n", "\n\n: ping\n\n:\n"),
            case.text.replace("data: ", ":x\ndata:"),
        ] {
            let read = report(tap(case.media, dialect), text.as_bytes().chunks(1), Transport::Clean);
            assert_eq!(read, case.report, "{} as {dialect:?}: {text:?}", case.name);
        }
    }
}

#[test]
fn a_stream_that_ends_cleanly_is_truncated_up_to_its_last_word_exactly() {
    for case in all() {
        let Some(last_word) = case.last_word else { continue };
        let said = case.text.find(last_word).expect("it is there") + last_word.len();
        for end in 0..=case.text.len() {
            let read = report(tap(case.media, case.dialect), [&case.text.as_bytes()[..end]], Transport::Clean);
            let expected = if end < said { StreamEnd::Truncated } else { StreamEnd::Complete };
            assert_eq!(read.end, Some(expected), "{} ends at {end}, its last word at {said}", case.name);
        }
        // With the dialect to be found, from its first event on.
        let first = case.text.find("\n\n").expect("it has an event");
        for end in first..said {
            let read = report(tap(case.media, Dialect::Auto), [&case.text.as_bytes()[..end]], Transport::Clean);
            assert_eq!(read.end, Some(StreamEnd::Truncated), "{} ends at {end}", case.name);
        }
    }
}

#[test]
fn a_choice_that_begins_later_takes_back_the_last_word() {
    let text = include_str!("corpus/openai_choices_in_turn.sse");
    let events: Vec<_> = text.split_inclusive("\n\n").map(str::as_bytes).collect();
    for (count, end) in [(2, StreamEnd::Truncated), (3, StreamEnd::Complete), (5, StreamEnd::Truncated)] {
        let read = report(tap(Media::Events, Dialect::Auto), events[..count].iter().copied(), Transport::Clean);
        assert_eq!(read.end, Some(end), "after {count} events");
    }
}

#[test]
fn a_stream_that_breaks_off_says_how() {
    for case in all() {
        let bytes = case.text.as_bytes();
        let Some(last_word) = case.last_word else { continue };
        let said = case.text.find(last_word).expect("it is there");
        for (transport, end) in BREAKS {
            for at in 0..said {
                let read = report(tap(case.media, case.dialect), [&bytes[..at]], transport);
                assert_eq!(read.end, Some(end), "{} at {at}, {transport:?}", case.name);
            }
        }
        // A client need not wait for the end of the body.
        let after = report(tap(case.media, case.dialect), [bytes], Transport::Cancelled);
        assert_eq!(after.end, Some(StreamEnd::Complete), "{}", case.name);
        let broken = report(tap(case.media, case.dialect), [bytes], Transport::Broken);
        assert_eq!(broken.end, Some(StreamEnd::Truncated), "{}", case.name);
    }
}

#[test]
fn an_error_within_the_stream_is_one_however_the_stream_ended() {
    for case in all().iter().filter(|case| case.report.end == Some(StreamEnd::Error)) {
        for transport in [Transport::Clean, Transport::Broken, Transport::Stalled, Transport::Cancelled] {
            let read = report(tap(case.media, case.dialect), [case.text.as_bytes()], transport);
            assert_eq!(read.end, Some(StreamEnd::Error), "{} {transport:?}", case.name);
        }
    }
}

#[test]
fn a_whole_body_that_is_cut_short_is_truncated_once_it_shows_a_dialect() {
    let text = include_str!("corpus/openai_chat.json");
    let marked = text.find("\"chat.completion\"").expect("it is there") + "\"chat.completion\"".len();
    for end in 0..text.len() {
        let read = report(tap(Media::Document, Dialect::Auto), [&text.as_bytes()[..end]], Transport::Clean);
        assert_eq!(read.end, (end >= marked).then_some(StreamEnd::Truncated), "at {end}");
    }
}

fn gzip(text: &str, piece: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for bytes in text.as_bytes().chunks(piece) {
        encoder.write_all(bytes).and_then(|()| encoder.flush()).expect("memory takes all");
    }
    encoder.finish().expect("memory takes all")
}

fn coded(media: Media, dialect: Dialect, encoded: Encoded, coding: &'static str) -> Tap {
    Tap::of(dialect, encoded, &fields(content_type(media), Some(coding)), true).expect("there is something to read")
}

#[test]
fn coded_answers_are_read_alike_where_that_is_asked_for() {
    for (case, dialect) in runs() {
        let zipped = gzip(case.text, 100);
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflated.write_all(case.text.as_bytes()).expect("memory takes all");
        let deflated = deflated.finish().expect("memory takes all");
        for (coding, bytes) in [("gzip", &zipped), ("X-GZip", &zipped), ("deflate", &deflated)] {
            for size in [1, 7, bytes.len()] {
                let tap = coded(case.media, dialect, Encoded::Decode, coding);
                let read = report(tap, bytes.chunks(size), Transport::Clean);
                assert_eq!(read, case.report, "{} as {dialect:?}, {coding} by {size}", case.name);
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_opaque_and_its_transport_still_tells() {
    let text = include_str!("corpus/anthropic.sse");
    let zipped = gzip(text, 50);
    let broken: Vec<u8> = zipped.iter().enumerate().map(|(at, byte)| if at > 60 { !byte } else { *byte }).collect();
    for (encoded, coding, bytes) in [
        (Encoded::Opaque, "gzip", &zipped),
        (Encoded::Opaque, "br", &zipped),
        (Encoded::Decode, "br", &zipped),
        (Encoded::Decode, "gzip, br", &zipped),
        (Encoded::Decode, "gzip", &broken),
        (Encoded::Decode, "deflate", &zipped),
    ] {
        let end =
            |transport| report(coded(Media::Events, Dialect::Auto, encoded, coding), bytes.chunks(9), transport).end;
        assert_eq!(end(Transport::Clean), Some(StreamEnd::Opaque), "{coding} {encoded:?}");
        for (transport, expected) in BREAKS {
            assert_eq!(end(transport), Some(expected), "{coding} {encoded:?}");
        }
    }
    // Each piece is a sign of life.
    let mut opaque = coded(Media::Events, Dialect::Auto, Encoded::Opaque, "zstd");
    assert_eq!(opaque.read(b"x"), Seen { events: 1, tokens: 0 });
}

#[test]
fn an_answer_that_grows_without_measure_is_given_up() {
    let zipped = gzip(&"\n".repeat(64 << 20), 64 << 20);
    let read = report(coded(Media::Events, Dialect::OpenAi, Encoded::Decode, "gzip"), [&zipped[..]], Transport::Clean);
    assert_eq!(read.end, Some(StreamEnd::Opaque));
}

#[test]
fn a_body_beyond_the_bound_is_passed_over() {
    let long = format!("{{\"object\":\"chat.completion\",\"x\":\"{}\"}}", "x".repeat(DOCUMENT_BYTES));
    let read = report(tap(Media::Document, Dialect::Auto), long.as_bytes().chunks(64 << 10), Transport::Clean);
    assert_eq!(read.end, None);
}

#[test]
fn only_what_can_be_read_is_tapped() {
    let of = |dialect, content_type| Tap::of(dialect, Encoded::Opaque, &fields(content_type, None), true).is_some();
    assert!(!of(Dialect::Off, "text/event-stream"));
    assert!(of(Dialect::Plain, "text/event-stream") && !of(Dialect::Plain, "application/json"));
    assert!(Tap::of(Dialect::Auto, Encoded::Opaque, &HeaderMap::new(), true).is_none());
}

#[test]
fn a_channel_that_was_opened_without_a_request_has_no_last_word() {
    let text = include_str!("corpus/mcp.sse").split_inclusive("\n\n").next().expect("it has an event");
    for (awaits_result, end) in [(true, StreamEnd::Truncated), (false, StreamEnd::Complete)] {
        let fields = fields("text/event-stream", None);
        let tap = Tap::of(Dialect::Auto, Encoded::Opaque, &fields, awaits_result).expect("it is a stream");
        assert_eq!(report(tap, [text.as_bytes()], Transport::Clean).end, Some(end));
    }
}

#[test]
fn a_comment_fits_between_two_events_and_nowhere_else() {
    let text = "\u{feff}: c\n\nid: 1\ndata: a\n\ndata: b\r\n\r\nevent: x\r\rdata";
    let mut tap = tap(Media::Events, Dialect::Plain);
    let mut fits = vec![0];
    for (at, byte) in text.bytes().enumerate() {
        tap.read(&[byte]);
        if tap.is_between_events() {
            fits.push(at + 1);
        }
    }
    let after = |part: &str| text.find(part).expect("it is there") + part.len();
    let (mark, comment) = (after("\u{feff}"), after(": c\n"));
    // Within CR LF too: the LF left over is one more blank line.
    let ends = [after("a\n\n"), after("b\r\n\r"), after("b\r\n\r\n"), after("x\r\r")];
    let expected: Vec<_> = [0, mark, comment, comment + 1].into_iter().chain(ends).collect();
    assert_eq!(fits, expected);
}

#[test]
fn the_state_of_a_stream_is_small() {
    let bytes = size_of::<Tap>() + size_of::<super::memo::Template>();
    assert!(bytes < 768, "{bytes}");
    assert!(bytes + super::memo::TEMPLATE_BYTES < 1792, "{bytes}");
}

/// Text that looks like what is read, and is broken in every way.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::sample::select(all().iter().map(|case| case.text.as_bytes().to_vec()).collect::<Vec<_>>()),
        prop::sample::select(vec!["data: ", "event: error\n", "\n\n", "\r", "{", "[", "}", "]", "\"", "\\", "\\u00"])
            .prop_map(|text| text.as_bytes().to_vec()),
        prop::sample::select(vec!["\"choices\":[", "\"usage\":{", "\"error\":", "99999999999999999999", "[DONE]", ","])
            .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec((part, any::<prop::sample::Index>()), 0..12).prop_map(|parts| {
        parts.into_iter().flat_map(|(part, end)| part[..end.index(part.len() + 1)].to_vec()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn noise_is_read_alike_however_it_is_cut(
        bytes in noise(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        media in prop::sample::select(vec![Media::Events, Media::Lines, Media::Document]),
        dialect in prop::sample::select(
            vec![Dialect::Auto, Dialect::OpenAi, Dialect::Anthropic, Dialect::A2a, Dialect::Mcp],
        ),
        coding in prop::sample::select(vec![None, Some("gzip")]),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let tap = || {
            Tap::of(dialect, Encoded::Decode, &fields(content_type(media), coding), true).expect("there is some")
        };
        if coding.is_none() {
            prop_assert_eq!(
                report(tap(), pieces, Transport::Clean),
                report(tap(), [&bytes[..]], Transport::Clean)
            );
        } else {
            report(tap(), pieces, Transport::Clean);
        }
    }
}
