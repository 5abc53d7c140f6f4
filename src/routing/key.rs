//! Where a value comes from: the bucketing key's sources, and the attributes that segments test.
//!
//! A value is borrowed from the request where it stands there as it is; short made-up ones (an address, a
//! number) live in the value itself, so that the usual keys cost no allocation. Values are bytes: a header
//! need not be UTF-8, and the hash does not care.
//!
//! A request can be malformed in any way a client likes. Whatever cannot be read is absent; nothing here
//! fails, and every read is bounded by the request head's own limit, the cookie and query being scanned
//! once and a token being read up to [`JWT_BYTES_MAX`]. Not here: reading the body ([`Head::json`] comes
//! parsed), and verifying tokens (that is the agent's).

use std::borrow::Cow;
use std::fmt::Write;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName};

use super::spec::{Attribute, TlsAttribute};
use super::table::{ClientCertificate, Head};

mod jwt;

pub use jwt::JWT_BYTES_MAX;

/// Names a request; the `request` key.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Long enough for an IPv6 address and for any JSON number.
const SHORT_BYTES: usize = 46;

/// What an attribute says in one request.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Borrowed(&'a [u8]),
    Short(Short),
    Owned(Vec<u8>),
}

/// A text made on the spot, kept in place.
#[derive(Clone, Copy, Debug)]
pub struct Short {
    bytes: [u8; SHORT_BYTES],
    len: u8,
}

impl Value<'_> {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Short(short) => &short.bytes[..usize::from(short.len)],
            Self::Owned(bytes) => bytes,
        }
    }

    /// `None` where it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    fn copied(text: &[u8]) -> Value<'static> {
        let mut bytes = [0; SHORT_BYTES];
        match bytes.get_mut(..text.len()) {
            Some(space) => {
                space.copy_from_slice(text);
                Value::Short(Short { bytes, len: text.len() as u8 })
            }
            None => Value::Owned(text.to_vec()),
        }
    }

    fn shown(what: impl std::fmt::Display) -> Value<'static> {
        let mut short = Short { bytes: [0; SHORT_BYTES], len: 0 };
        match write!(short, "{what}") {
            Ok(()) => Value::Short(short),
            Err(_) => Value::Owned(what.to_string().into_bytes()),
        }
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let start = usize::from(self.len);
        let space = self.bytes.get_mut(start..start + text.len()).ok_or(std::fmt::Error)?;
        space.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

/// What `attribute` says in this request; `None` where it is absent or unreadable.
///
/// Of several headers, cookies or query fields of one name the first counts.
pub fn resolve<'a>(attribute: &Attribute, head: &Head<'a>) -> Option<Value<'a>> {
    match attribute {
        Attribute::Header(name) => head.headers.get(name).map(|value| Value::Borrowed(value.as_bytes())),
        Attribute::Cookie(name) => cookie(head.headers, name.as_bytes()).map(Value::Borrowed),
        Attribute::Query(name) => query(head.query?, name),
        Attribute::Json(pointer) => json(head.json?, pointer),
        Attribute::Jwt(claim) => jwt::claim(bearer_token(head.headers)?, claim),
        // One text for one client, whether or not the listener's socket maps IPv4 into IPv6.
        Attribute::ClientIp => Some(Value::shown(head.client.to_canonical())),
        Attribute::Tls(what) => certificate(head.certificate?, *what).map(|text| Value::Borrowed(text.as_bytes())),
        Attribute::Request => Some(request_id(head)),
        Attribute::Path => Some(Value::Borrowed(head.path.as_bytes())),
        Attribute::Method => Some(Value::Borrowed(head.method.as_str().as_bytes())),
        Attribute::Host => Some(host(head.host)).filter(|host| !host.as_bytes().is_empty()),
    }
}

/// The bucketing key: the first source that is present and not empty, and which one it was.
pub fn find<'a>(sources: &[Attribute], head: &Head<'a>) -> Option<(usize, Value<'a>)> {
    let present = |(index, source)| Some((index, resolve(source, head)?));
    sources.iter().enumerate().filter_map(present).find(|(_, value)| !value.as_bytes().is_empty())
}

fn certificate(certificate: &ClientCertificate, what: TlsAttribute) -> Option<&str> {
    match what {
        TlsAttribute::Subject => Some(&certificate.subject),
        TlsAttribute::San => certificate.san.as_deref(),
        TlsAttribute::Fingerprint => Some(&certificate.fingerprint),
    }
}

fn request_id<'a>(head: &Head<'a>) -> Value<'a> {
    match head.headers.get(REQUEST_ID) {
        Some(id) if !id.is_empty() => Value::Borrowed(id.as_bytes()),
        _ => Value::shown(format_args!("{:016x}", head.nonce)),
    }
}

/// Host names are the same in any case, so a test or a key sees lower case.
fn host(host: &str) -> Value<'_> {
    if !host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Value::Borrowed(host.as_bytes());
    }
    let mut lower = Value::copied(host.as_bytes());
    match &mut lower {
        Value::Short(short) => short.bytes.make_ascii_lowercase(),
        Value::Owned(bytes) => bytes.make_ascii_lowercase(),
        Value::Borrowed(_) => {}
    }
    lower
}

/// RFC 6265: `name=value` pairs between semicolons; a value may stand in double quotes.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let lines = headers.get_all(COOKIE).iter().map(http::HeaderValue::as_bytes);
    let mut pairs = lines.flat_map(|line| line.split(|b| *b == b';')).map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))?;
    Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
}

/// The form encoding of browsers: pairs between `&`, percent escapes, `+` for a space.
fn query<'a>(query: &'a str, name: &str) -> Option<Value<'a>> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| same_decoded(key, name))?;
    Some(match form_decoded(value) {
        Cow::Borrowed(bytes) => Value::Borrowed(bytes),
        Cow::Owned(bytes) => Value::Owned(bytes),
    })
}

fn is_encoded(text: &str) -> bool {
    memchr::memchr2(b'%', b'+', text.as_bytes()).is_some()
}

fn same_decoded(encoded: &str, name: &str) -> bool {
    if is_encoded(encoded) { *form_decoded(encoded) == *name.as_bytes() } else { encoded == name }
}

fn form_decoded(text: &str) -> Cow<'_, [u8]> {
    if !is_encoded(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    // Spaces first: a `+` that was escaped as `%2B` must stay one.
    let spaced: Vec<u8> = text.bytes().map(|b| if b == b'+' { b' ' } else { b }).collect();
    Cow::Owned(percent_encoding::percent_decode(&spaced).collect())
}

/// RFC 6901. Text, numbers and booleans have a text; null, objects and arrays count as absent.
fn json<'a>(document: &'a serde_json::Value, pointer: &str) -> Option<Value<'a>> {
    let mut at = document;
    for name in pointer.split('/').skip(1) {
        at = match at {
            serde_json::Value::Object(fields) if name.contains('~') => {
                fields.get(&name.replace("~1", "/").replace("~0", "~"))?
            }
            serde_json::Value::Object(fields) => fields.get(name)?,
            serde_json::Value::Array(items) => items.get(array_index(name)?)?,
            _ => return None,
        };
    }
    match at {
        serde_json::Value::String(text) => Some(Value::Borrowed(text.as_bytes())),
        serde_json::Value::Number(number) => Some(Value::shown(number)),
        serde_json::Value::Bool(truth) => Some(boolean(*truth)),
        _ => None,
    }
}

/// No sign, no leading zero: `/items/01` names nothing.
fn array_index(name: &str) -> Option<usize> {
    let plain = name == "0" || (!name.starts_with('0') && name.bytes().all(|b| b.is_ascii_digit()));
    name.parse().ok().filter(|_| plain)
}

fn boolean(truth: bool) -> Value<'static> {
    Value::Borrowed(if truth { b"true" } else { b"false" })
}

fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests;
