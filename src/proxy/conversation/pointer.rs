//! One value out of a JSON text of which only the beginning may be here, by its pointer (RFC 6901).
//!
//! A value counts when what follows it shows that it is whole: of `{"id": 12` nobody knows the id yet.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The text of the string or number that `pointer` leads to; `None` where there is none, or not yet.
pub(super) fn find(text: &[u8], pointer: &str) -> Option<Vec<u8>> {
    let mut found = Found::default();
    // An error is how reading ends at the end of what is here, and where all is found that was looked for.
    let _ = At { path: Some(pointer), found: &mut found }.deserialize(&mut serde_json::Deserializer::from_slice(text));
    found.value.filter(|value| found.is_whole && !value.is_empty())
}

#[derive(Default)]
struct Found {
    value: Option<Vec<u8>>,
    is_whole: bool,
}

/// Reads a value on the way: `Some("")` has arrived, `None` is off the path.
struct At<'p, 'f> {
    path: Option<&'p str>,
    found: &'f mut Found,
}

impl At<'_, '_> {
    fn take(self, text: impl Into<Vec<u8>>) {
        if self.path == Some("") {
            self.found.value = Some(text.into());
        }
    }
}

/// The next step of a path, unescaped, and the path after it.
fn step(path: Option<&str>) -> Option<(String, &str)> {
    let rest = path?.strip_prefix('/')?;
    let (name, _) = rest.split_once('/').unwrap_or((rest, ""));
    Some((name.replace("~1", "/").replace("~0", "~"), &rest[name.len()..]))
}

impl<'de> DeserializeSeed<'de> for At<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            Some(_) => deserializer.deserialize_any(self),
            None => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
        }
    }
}

impl<'de> Visitor<'de> for At<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.take(text);
        Ok(())
    }
    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.take(number.to_string());
        Ok(())
    }
    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.take(number.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        // As in a request's body, so that a conversation has one id in both.
        self.take(serde_json::Number::from_f64(number).map(|number| number.to_string()).unwrap_or_default());
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let step = step(self.path);
        while let Some(name) = fields.next_key::<String>()? {
            let path = step.as_ref().filter(|(wanted, _)| *wanted == name).map(|(_, rest)| *rest);
            fields.next_value_seed(At { path, found: &mut *self.found })?;
            if self.found.value.is_some() {
                fields.next_key::<IgnoredAny>()?;
                self.found.is_whole = true;
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let step = step(self.path);
        for index in 0.. {
            let is_here = step.as_ref().filter(|(wanted, _)| *wanted == index.to_string());
            let path = is_here.map(|(_, rest)| *rest);
            if items.next_element_seed(At { path, found: &mut *self.found })?.is_none() {
                break;
            }
            if self.found.value.is_some() {
                items.next_element::<IgnoredAny>()?;
                self.found.is_whole = true;
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_pointer() {
        let text =
            r#"{"a": {"id": "x", "n": 12.5}, "list": [{"id": "one"}, {"id": 2}], "a/b": {"~": "t"}, "no": null}"#;
        let cases = [
            ("/a/id", Some("x")),
            ("/a/n", Some("12.5")),
            ("/list/0/id", Some("one")),
            ("/list/1/id", Some("2")),
            ("/a~1b/~0", Some("t")),
            ("/a", None),
            ("/no", None),
            ("/list/2/id", None),
            ("/a/id/more", None),
            ("/nothing", None),
            ("", None),
        ];
        for (pointer, value) in cases {
            assert_eq!(find(text.as_bytes(), pointer).as_deref(), value.map(str::as_bytes), "{pointer}");
        }
    }

    #[test]
    fn of_a_beginning_only_what_is_whole_counts() {
        let text = br#"{"object": "thread", "id": 1234, "more": "and so on"#;
        for end in 0..=text.len() {
            let found = find(&text[..end], "/id");
            // The number ends with its comma, and counts with the next key's quotes.
            let expected = (end >= b"{\"object\": \"thread\", \"id\": 1234, \"more\"".len()).then(|| b"1234".to_vec());
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(&text[..end]));
        }
        assert_eq!(find(br#"{"id": 12}"#, "/id"), Some(b"12".to_vec()));
        assert_eq!(find(br#"{"id": 12"#, "/id"), None);
        assert_eq!(find(br#"{"id": }"#, "/id"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text: Vec<u8>, pointer: String) {
            find(&text, &pointer);
        }
    }
}
