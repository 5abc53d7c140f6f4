//! What this room reads of a request: keys and cookies, tokens of others, segments, seals of its own.
//!
//! The inputs of the first three are texts: a line for the target itself, then a request: its target, its fields, an
//! empty line and a body.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value as Json;

use super::bucket::Bucketer;
use super::fixture::{agent, agent_with, pins};
use super::key::{self, Value};
use super::overrides::{Grant, Overrides};
use super::path::{EncodedSlash, normalise};
use super::seal::{KeyRing, Purpose};
use super::segment::Segment;
use super::spec::{Attribute, Condition, Scheme, SegmentSpec, Test};
use super::table::Head;
use super::token;
use crate::fuzz::{Target, run};

/// A request head that owns its parts; whatever is no valid line is left out, as it would have been refused.
struct Request {
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    json: Option<Json>,
}

impl Request {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let target = lines.next().unwrap_or("/");
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value.trim()).ok());
            let Some((name, value)) = field else { continue };
            headers.append(name, value);
        }
        let (path, query) = (path.to_owned(), query.map(str::to_owned));
        Self { path, query, headers, json: serde_json::from_str(body).ok() }
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &Method::POST,
            host: "Agent.Example",
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client: [192, 0, 2, 7].into(),
            certificate: None,
            json: self.json.as_ref(),
            nonce: 7,
        }
    }
}

fn bytes(value: Option<Value<'_>>) -> Option<Vec<u8>> {
    value.map(|value| value.as_bytes().to_vec())
}

#[test]
fn keys_fuzz() {
    let words = [
        "cookie: ", "sid=", "query:", "cookie:", "json:/", "header:", "~1", "~0", "%2B", "%00", "+", "&", ";", "\"",
        "\n\n",
    ];
    run(Target { name: "keys", words: &words, seeds: vec![], cases: 3000 }, |input| {
        let text = String::from_utf8_lossy(input);
        let (attribute, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let request = Request::read(rest);
        let Ok(attribute) = attribute.parse::<Attribute>() else { return };
        let head = request.head();
        let found = bytes(key::resolve(&attribute, &head));
        match &attribute {
            Attribute::Cookie(name) => assert_eq!(found, cookie(&request.headers, name)),
            Attribute::Query(name) => {
                assert_eq!(found, query(head.query.unwrap_or(""), name).filter(|_| head.query.is_some()))
            }
            Attribute::Json(pointer) => {
                assert_eq!(found, request.json.as_ref().and_then(|json| scalar(json.pointer(pointer)?)))
            }
            Attribute::Header(name) => {
                assert_eq!(found, request.headers.get(name).map(|value| value.as_bytes().to_vec()))
            }
            _ => {}
        }
        let sources = [attribute, Attribute::ClientIp];
        let (place, key) = key::find(&sources, &head).expect("a client has an address");
        let key = key.as_bytes();
        assert_eq!(place == 0, found.as_ref().is_some_and(|found| !found.is_empty()));
        for scheme in Scheme::ALL {
            let bucketer = Bucketer::new(scheme, "flag", "salt", None);
            assert!(bucketer.bucket(key).bucket < 100_000);
            assert_eq!(bucketer.bucket(key).bucket, bucketer.bucket(key).bucket);
        }
    });
}

/// As RFC 6265 has it, word for word.
fn cookie(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    for line in headers.get_all("cookie") {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (&pair[..equals], &pair[equals + 1..]);
            if key == name.as_bytes() {
                let quoted = value.len() > 1 && value.starts_with(b"\"") && value.ends_with(b"\"");
                return Some(if quoted { &value[1..value.len() - 1] } else { value }.to_vec());
            }
        }
    }
    None
}

/// As forms are decoded.
fn query(query: &str, name: &str) -> Option<Vec<u8>> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', "%20")).collect::<Vec<u8>>();
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| decoded(key) == name.as_bytes()).map(|(_, value)| decoded(value))
}

fn scalar(json: &Json) -> Option<Vec<u8>> {
    match json {
        Json::String(text) => Some(text.clone().into_bytes()),
        Json::Number(_) | Json::Bool(_) => Some(json.to_string().into_bytes()),
        _ => None,
    }
}

#[test]
fn jwt_fuzz() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let words = ["\"sub\":", "\\u0000", "\\ud800", "1e999", "-0", "null", "{}", "[[", "\"a.b\"", "\"\"", "true"];
    // An input is the payload of a token; one that begins with `!` is a whole value of `Authorization`.
    run(Target { name: "jwt", words: &words, seeds: vec![], cases: 3000 }, |input| {
        let raw = input.strip_prefix(b"!");
        let value = match raw {
            Some(raw) => raw.to_vec(),
            None => format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(input)).into_bytes(),
        };
        let Ok(value) = HeaderValue::from_bytes(&value) else { return };
        let too_long = value.len() > 7 + key::JWT_BYTES_MAX;
        let request =
            Request { headers: [(http::header::AUTHORIZATION, value)].into_iter().collect(), ..Request::read("/") };
        for path in ["sub", "a", "a.b", ""] {
            let claim = bytes(key::resolve(&Attribute::Jwt(path.into()), &request.head()));
            assert!(!too_long || claim.is_none());
            // Whatever another reader finds of a plain name, this one finds, and the same.
            let Ok(payload) = serde_json::from_slice::<BTreeMap<String, Json>>(input) else { continue };
            if raw.is_none() && !too_long && !path.contains('.') && !path.is_empty() {
                assert_eq!(claim, payload.get(path).and_then(scalar), "{path}");
            }
        }
    });
}

#[test]
fn segments_fuzz() {
    let words = [
        "header:x-a",
        "path",
        "client_ip",
        "1.10",
        "1.10.0",
        "-0",
        "1e9",
        "nan",
        "inf",
        "10.0.0.0/8",
        "::/0",
        "x-a: ",
        "(a|b)*",
        "\\d+",
    ];
    run(Target { name: "segments", words: &words, seeds: vec![], cases: 2000 }, |input| {
        let text = String::from_utf8_lossy(input);
        let mut lines = text.splitn(3, '\n');
        let (attribute, operand) = (lines.next().unwrap_or(""), lines.next().unwrap_or("").to_owned());
        let request = Request::read(lines.next().unwrap_or(""));
        let Ok(attribute) = attribute.parse::<Attribute>() else { return };
        let holds = |test: Test| {
            let condition = Condition { attribute: attribute.clone(), test };
            let segment = Segment::compile(&SegmentSpec { all: vec![condition], any: vec![] });
            segment.ok().map(|segment| segment.holds(&request.head()))
        };
        let text = || operand.clone();
        let there = holds(Test::Exists(true));
        assert_eq!(there.map(|there| !there), holds(Test::Exists(false)));
        // A test and its opposite never agree; an order is one.
        let opposite = |one: Test, other: Test| assert_eq!(holds(one).map(|holds| !holds), holds(other));
        opposite(Test::Eq(text()), Test::NotEq(text()));
        opposite(Test::In(vec![text(), "b".into()]), Test::NotIn(vec![text(), "b".into()]));
        if there == Some(true) {
            opposite(Test::Gt(text()), Test::Lte(text()));
            opposite(Test::Lt(text()), Test::Gte(text()));
            assert!(!(holds(Test::Gt(text())) == Some(true) && holds(Test::Lt(text())) == Some(true)));
        }
        // What is equal begins with it and contains it; addresses are compared as such.
        if holds(Test::Eq(text())) == Some(true) && attribute != Attribute::ClientIp {
            assert_eq!([holds(Test::StartsWith(text())), holds(Test::Contains(text()))], [Some(true); 2]);
        }
        if let Ok(pattern) = regex::RegexBuilder::new(&operand).size_limit(1 << 18).build() {
            holds(Test::Matches(pattern));
        }
    });
}

#[test]
fn paths_fuzz() {
    let words = [
        "/", "//", "/./", "/../", "%2e", "%2E%2e", "%2f", "%5c", "%00", "%25", "%", "%zz", "\\", ";", "..;", "?", "#",
        "é",
    ];
    run(Target { name: "paths", words: &words, seeds: vec![], cases: 6000 }, |input| {
        let path = String::from_utf8_lossy(input);
        for slashes in [EncodedSlash::Refuse, EncodedSlash::Keep] {
            let Ok(normal) = normalise(&path, slashes) else { continue };
            assert_eq!(normalise(&normal, slashes).as_deref(), Ok(&*normal), "it is its own normal form");
            if path.starts_with('/') && slashes == EncodedSlash::Refuse {
                // An agent that decodes first and resolves then arrives at the place that we have matched.
                let place = |path: &str| resolved(&percent_encoding::percent_decode_str(path).collect::<Vec<u8>>());
                assert_eq!(place(&normal), place(&path));
                assert_eq!(percent_encoding::percent_decode_str(&normal).collect::<Vec<u8>>(), place(&path));
            }
        }
    });
}

/// As a file system would have it: no empty segments, no dots.
fn resolved(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = vec![];
    let segments: Vec<_> = path.split(|byte| *byte == b'/').skip(1).collect();
    for segment in &segments {
        match *segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let is_directory = segments.last().is_some_and(|last| [&b""[..], b".", b".."].contains(last));
    let end: &[u8] = if is_directory && !kept.is_empty() { b"/" } else { b"" };
    [b"/", &kept.join(&b'/')[..], end].concat()
}

const NOW: u32 = 1_800_000_000;

#[test]
fn seals_fuzz() {
    let keys = KeyRing::new([
        ("2026-01", "a secret of at least thirty-two bytes"),
        ("", "another secret of thirty-two bytes, or more"),
    ]);
    let keys = keys.expect("two keys");
    let (talks, silent) = (agent(), agent_with(|spec| spec.conversations = None, &[]));
    let pins = pins(10);
    let (_, seat) = talks.conversations(&pins).expect("it has conversations");
    let pin = token::sign(&keys, &talks, seat, 1, 42, NOW).expect("a version");
    let grant = Grant { environment: "production", agent: "support-bot", version: "1.5.0", expires: NOW + 60 };
    let signature = grant.sign(&keys).expect("short names");
    let overrides = Overrides { keys: keys.clone(), forward: false };
    let seeds = vec![pin.clone().into_bytes(), signature.clone().into_bytes()];
    let words = ["=", "==", "_", "-", "A", "AAAA", "BzIwMjYtMDE"];
    run(Target { name: "seals", words: &words, seeds, cases: 3000 }, |input| {
        // Nobody without the key makes one, not even a second spelling of one that is known.
        for (purpose, made) in [(Purpose::Pin, &pin), (Purpose::Override, &signature)] {
            assert_eq!(keys.open(purpose, input).is_ok(), input == made.as_bytes(), "{purpose:?}");
        }
        let expected = (input == pin.as_bytes()).then_some(1);
        assert_eq!(token::read(&keys, &talks, seat, input, NOW).ok().map(|token| token.version), expected);
        let expected = (input == signature.as_bytes()).then_some(1);
        assert_eq!(overrides.version(&silent, None, input, NOW).ok(), expected);

        // And whatever somebody with the key has sealed is read without a fault, and says one thing only.
        let _ = token::read(&keys, &talks, seat, keys.seal(Purpose::Pin, input).as_bytes(), NOW);
        let sealed = keys.seal(Purpose::Override, input);
        if overrides.version(&silent, None, sealed.as_bytes(), NOW).is_ok() {
            assert_eq!(overrides.version(&silent, Some(b"9.9.9"), sealed.as_bytes(), NOW).ok(), None);
        }
    });
}
