//! What a body is, by the media type that its message names (RFC 9110 §8.3).

use http::HeaderMap;
use http::header::CONTENT_TYPE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Server-sent events.
    Events,
    /// One JSON document a line.
    Lines,
    /// One JSON document.
    Document,
}

impl Media {
    /// `None`: nothing that is read.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.as_bytes();
        let name = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
        let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        if is(&["text/event-stream"]) {
            return Some(Self::Events);
        }
        if is(&["application/json"]) || name.len() > 5 && name[name.len() - 5..].eq_ignore_ascii_case(b"+json") {
            // Of the structured suffixes, one is of lines.
            return Some(if is(&["application/stream+json"]) { Self::Lines } else { Self::Document });
        }
        is(&["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"])
            .then_some(Self::Lines)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn it_is_known_by_its_name_alone() {
        for (content_type, expected) in [
            ("text/event-stream", Some(Media::Events)),
            ("Text/Event-Stream ; charset=utf-8", Some(Media::Events)),
            ("text/event-streams", None),
            ("application/json", Some(Media::Document)),
            ("application/problem+json", Some(Media::Document)),
            ("application/x-ndjson", Some(Media::Lines)),
            ("application/stream+json", Some(Media::Lines)),
            ("application/jsonl", Some(Media::Lines)),
            ("text/html", None),
            ("application/jsonx", None),
            ("+json", None),
            ("", None),
        ] {
            let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(Media::of(&fields), expected, "{content_type}");
        }
        assert_eq!(Media::of(&HeaderMap::new()), None);
    }
}
