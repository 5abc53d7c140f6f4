//! The single values of the file: shares, durations, sizes, names. Each is read once, into the type
//! that the rest of the program uses, or refused with what was expected.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::errors::shown;
use crate::routing::ids::{AgentId, EnvironmentId, SegmentId, VersionId, Weight};
use crate::routing::spec::{Attribute, EndpointAddress, HostPolicy, Scheme};

/// A value that is written as one word.
pub(super) trait FromText: Sized {
    const NAME: &'static str;
    /// As in "expected …, found a list".
    const EXPECTED: &'static str;
    /// The error is a whole message: what was found, and what was expected.
    fn from_text(text: &str) -> Result<Self, String>;
    /// For editors.
    fn schema() -> Schema;
}

/// Any [`FromText`] as a part of a file shape.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<T>(PhantomData<T>);
        impl<T: FromText> Visitor<'_> for TextVisitor<T> {
            type Value = Text<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
                T::from_text(text).map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

impl<T: FromText> JsonSchema for Text<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::NAME.into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// Names to values, in the order of the file.
#[derive(Clone, Debug)]
pub(super) struct Ordered<K, V>(pub(super) Vec<(K, V)>);

impl<'de, K: FromText, V: Deserialize<'de>> Deserialize<'de> for Ordered<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrderedVisitor<K, V>(PhantomData<(K, V)>);
        impl<'de, K: FromText, V: Deserialize<'de>> Visitor<'de> for OrderedVisitor<K, V> {
            type Value = Ordered<K, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a map whose keys are each {}", K::EXPECTED)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Text(key)) = map.next_key::<Text<K>>()? {
                    pairs.push((key, map.next_value()?));
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(OrderedVisitor(PhantomData))
    }
}

impl<K: FromText, V: JsonSchema> JsonSchema for Ordered<K, V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}To{}", K::NAME, V::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<V>();
        let mut schema = json_schema!({ "type": "object", "additionalProperties": value });
        if let Some(pattern) = K::schema().get("pattern") {
            schema.insert("propertyNames".into(), serde_json::json!({ "pattern": pattern }));
        }
        schema
    }
}

/// A whole number; a text of digits is one too, because that is what `${NAME}` gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E>(self, value: i64) -> Result<Whole, E> {
                Ok(Whole(value))
            }
        }
        deserializer.deserialize_i64(WholeVisitor)
    }
}

impl JsonSchema for Whole {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Whole".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer" })
    }
}

/// A share of traffic or of time, finer than buckets: 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fraction(pub(super) f64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bytes(pub(super) u64);

/// The limit of a guard, in whichever unit it was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    Share(f64),
    Time(Duration),
}

/// A text that a condition compares with; numbers and booleans as they are spelled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand(pub(super) String);

const SHARE: &str = r"[0-9]+(\.[0-9]+)?%";
const DURATION: &str = r"0|([0-9]+(ms|s|m|h|d) ?)+";

/// `pattern`, or anything with a reference to the environment in it.
fn pattern(pattern: &str, description: &str, examples: &[&str]) -> Schema {
    json_schema!({
        "type": "string",
        "description": description,
        "pattern": format!(r"^({pattern}|.*\$\{{.*)$"),
        "examples": examples,
    })
}

impl FromText for Weight {
    const NAME: &'static str = "Share";
    const EXPECTED: &'static str = "a share such as 5% or 0.001%";
    fn from_text(text: &str) -> Result<Self, String> {
        let weight = text.parse::<Self>();
        weight.map_err(|error| {
            if text.parse::<f64>().is_ok() { format!("{error}; did you mean `{text}%`?") } else { error.to_string() }
        })
    }
    fn schema() -> Schema {
        let description = "A share of the traffic, in steps of 0.001%.";
        pattern(r"[0-9]+(\.[0-9]{1,3})?%", description, &["5%", "0.001%", "12.5%"])
    }
}

impl FromText for Fraction {
    const NAME: &'static str = "Fraction";
    const EXPECTED: &'static str = "a percentage such as 1% or 99.9%";
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{}` {what}; expected {}", shown(text), Self::EXPECTED);
        let Some(number) = text.strip_suffix('%') else { return Err(wrong("has no percent sign")) };
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(wrong("is no percentage"));
        }
        // By the exponent and not by division: 99.9% is then the number nearest to 0.999.
        let fraction: f64 = format!("{number}e-2").parse().map_err(|_| wrong("is no percentage"))?;
        if fraction > 1.0 { Err(wrong("is more than 100%")) } else { Ok(Self(fraction)) }
    }
    fn schema() -> Schema {
        pattern(SHARE, "A percentage, as fine as you like.", &["1%", "99.9%"])
    }
}

impl FromText for Duration {
    const NAME: &'static str = "Duration";
    const EXPECTED: &'static str = "a duration such as 500ms, 30s, 10m, 1h30m or 2d";
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{}` {what}; expected {}", shown(text), Self::EXPECTED);
        if text == "0" {
            return Ok(Self::ZERO);
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{}; did you mean `{text}s` or `{text}m`?", wrong("has no unit")));
        }
        let (mut total, mut rest) = (Some(Self::ZERO), text);
        while !rest.is_empty() {
            let (number, after) = split_at_first(rest, |c| !c.is_ascii_digit());
            let (unit, after) = split_at_first(after, |c| !c.is_ascii_alphabetic());
            let unit_ms = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong("is no duration")),
            };
            let count: u64 = number.parse().map_err(|_| wrong("is no duration"))?;
            let part = count.checked_mul(unit_ms).map(Self::from_millis);
            total = total.zip(part).and_then(|(total, part)| total.checked_add(part));
            rest = after.trim_start();
        }
        if text.is_empty() {
            return Err(wrong("is no duration"));
        }
        total.ok_or_else(|| wrong("is too long"))
    }
    fn schema() -> Schema {
        pattern(
            DURATION,
            "A time: a number with `ms`, `s`, `m`, `h` or `d`; several add up.",
            &["10m", "1h30m", "500ms"],
        )
    }
}

fn split_at_first(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

impl FromText for Bytes {
    const NAME: &'static str = "Size";
    const EXPECTED: &'static str = "a size such as 512B, 64KiB, 16MiB or 1GiB";
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{}` {what}; expected {}", shown(text), Self::EXPECTED);
        let (number, unit) = split_at_first(text, |c| !c.is_ascii_digit());
        let shift = match unit.trim_start() {
            _ if number.is_empty() => return Err(wrong("is no size")),
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            other => {
                let meant = match other.chars().next() {
                    None => format!("; did you mean `{number}B` or `{number}KiB`?"),
                    Some(letter @ ('k' | 'K' | 'm' | 'M' | 'g' | 'G')) => {
                        format!("; did you mean `{number}{}iB`?", letter.to_ascii_uppercase())
                    }
                    Some(_) => String::new(),
                };
                return Err(wrong("has no unit of size") + &meant);
            }
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| wrong("is no size"))
    }
    fn schema() -> Schema {
        pattern("[0-9]+ ?(B|KiB|MiB|GiB)", "A number of bytes.", &["64KiB", "16MiB"])
    }
}

impl FromText for Amount {
    const NAME: &'static str = "Amount";
    const EXPECTED: &'static str = "a share such as 5% or a duration such as 3s";
    fn from_text(text: &str) -> Result<Self, String> {
        if text.contains('%') {
            return Fraction::from_text(text).map(|fraction| Self::Share(fraction.0));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(format!("`{}` has no unit; expected {}", shown(text), Self::EXPECTED));
        }
        Duration::from_text(text).map(Self::Time)
    }
    fn schema() -> Schema {
        let description = "A share for `error_rate`, a duration for latencies.";
        pattern(&format!("{SHARE}|{DURATION}"), description, &["5%", "3s"])
    }
}

impl FromText for VersionId {
    const NAME: &'static str = "Version";
    const EXPECTED: &'static str = "a SemVer version such as 1.4.2";
    fn from_text(text: &str) -> Result<Self, String> {
        let valid = |text: &str| text.len() <= 128 && semver::Version::parse(text).is_ok();
        if valid(text) {
            return Ok(Self::new(text));
        }
        let bare = text.trim_start_matches(['v', 'V', '=']);
        let meant = [bare.to_owned(), format!("{bare}.0"), format!("{bare}.0.0")].into_iter().find(|m| valid(m));
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        Err(format!("`{}` is no SemVer version; expected three numbers such as 1.4.2{meant}", shown(text)))
    }
    fn schema() -> Schema {
        let semver = r"[0-9]+\.[0-9]+\.[0-9]+([-+].*)?";
        pattern(semver, "A version by the rules of SemVer.", &["1.4.2", "2.0.0-rc.1"])
    }
}

/// What names appear in URLs, metric labels and YAML paths can hold without quoting.
fn name(text: &str, what: &str) -> Result<String, String> {
    const LONGEST: usize = 128;
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let all = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if first && all && text.len() <= LONGEST {
        return Ok(text.to_owned());
    }
    let text = shown(text);
    Err(format!(
        "`{text}` is no name for {what}; expected up to 128 letters, digits, `-`, `_` and `.`, a letter or digit first"
    ))
}

macro_rules! named {
    ($type:ty, $name:literal, $expected:literal, $what:literal, $example:literal) => {
        impl FromText for $type {
            const NAME: &'static str = $name;
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, String> {
                name(text, $what).map(Self::new)
            }
            fn schema() -> Schema {
                pattern("[A-Za-z0-9][A-Za-z0-9._-]{0,127}", concat!("The name of ", $what, "."), &[$example])
            }
        }
    };
}
named!(AgentId, "AgentName", "the name of an agent", "an agent", "support-bot");
named!(EnvironmentId, "EnvironmentName", "the name of an environment", "an environment", "production");
named!(SegmentId, "SegmentName", "the name of a segment", "a segment", "beta-users");

macro_rules! parsed {
    ($type:ty, $name:literal, $expected:literal, $schema:expr) => {
        impl FromText for $type {
            const NAME: &'static str = $name;
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }
            fn schema() -> Schema {
                $schema
            }
        }
    };
}
parsed!(
    Attribute,
    "Attribute",
    "an attribute such as header:x-user-id",
    pattern(
        "(header|cookie|query|json|jwt):.+|client_ip|request|path|method|host",
        "Where a value is taken from. `json` and `request` serve as bucketing keys only.",
        &["header:x-user-id", "cookie:sid", "query:user", "json:/user", "jwt:sub", "client_ip", "request"],
    )
);
parsed!(
    EndpointAddress,
    "Endpoint",
    "an address such as http://127.0.0.1:7001 or unix:/run/agent.sock",
    pattern(
        "http://.+|unix:/.+",
        "An address that serves a version.",
        &["http://127.0.0.1:7001", "unix:/run/agent.sock"]
    )
);
parsed!(
    Scheme,
    "Scheme",
    "a bucketing scheme such as sha1",
    json_schema!({
        "type": "string",
        "description": "How flag, salt and key become a bucket.",
        "enum": Scheme::ALL.map(Scheme::as_str),
    })
);

impl FromText for SocketAddr {
    const NAME: &'static str = "Address";
    const EXPECTED: &'static str = "an address with a port, such as 127.0.0.1:8080";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            let meant = match text.split_once(':') {
                Some(("", port)) if port.parse::<u16>().is_ok() => format!("; did you mean `0.0.0.0:{port}`?"),
                Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
                    format!("; did you mean `127.0.0.1:{port}`?")
                }
                None if text.parse::<u16>().is_ok() => format!("; did you mean `127.0.0.1:{text}`?"),
                _ => String::new(),
            };
            format!(
                "`{}` is no address to listen on; expected an IP address and a port, such as 127.0.0.1:8080{meant}",
                shown(text)
            )
        })
    }
    fn schema() -> Schema {
        pattern(r".+:[0-9]+", "An IP address and a port.", &["127.0.0.1:8080", "[::]:8080"])
    }
}

impl FromText for HeaderName {
    const NAME: &'static str = "HeaderName";
    const EXPECTED: &'static str = "the name of a header";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{}` is no name of a header; expected one such as x-user-id", shown(text)))
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" })
    }
}

impl FromText for HostPolicy {
    const NAME: &'static str = "HostPolicy";
    const EXPECTED: &'static str = "`pass`, `endpoint` or a host name";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "pass" => return Ok(Self::Pass),
            "endpoint" => return Ok(Self::Endpoint),
            _ => {}
        }
        let authority = text.parse::<http::uri::Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
        let fixed = authority.map(|authority| Self::Fixed(authority.to_string()));
        fixed
            .ok_or_else(|| format!("`{}` is no host; expected {}, such as agent.internal", shown(text), Self::EXPECTED))
    }
    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "What the agent sees as `Host`: `pass` what the client sent, `endpoint` the endpoint's own, or a fixed name.",
            "examples": ["pass", "endpoint", "agent.internal"],
        })
    }
}

impl FromText for Operand {
    const NAME: &'static str = "Operand";
    const EXPECTED: &'static str = "a text or a number";
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl FromText for String {
    const NAME: &'static str = "Text";
    const EXPECTED: &'static str = "a text";
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
#[path = "scalar/tests.rs"]
mod tests;
