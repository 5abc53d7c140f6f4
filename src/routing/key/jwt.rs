//! One claim out of a bearer token, without building the whole document.
//!
//! Read, not verified: the agent verifies. A forged claim can choose the forger's own bucket or segment,
//! which is why an access rule has no place in a segment. A token that is too long or malformed in any
//! way has no claims.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Value, boolean};

/// The longest token that is read: as long as most servers let a header be.
pub const JWT_BYTES_MAX: usize = 8 << 10;

/// Three bytes for each four of the token.
const PAYLOAD_BYTES_MAX: usize = JWT_BYTES_MAX / 4 * 3;

/// The claim's text: a string, number or boolean. Dots in `path` go deeper; a claim whose own name has
/// dots (`https://example.com/tenant`) wins over going deeper.
pub(super) fn claim(token: &[u8], path: &str) -> Option<Value<'static>> {
    if token.len() > JWT_BYTES_MAX {
        return None;
    }
    let mut parts = token.split(|b| *b == b'.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let mut space = [0; PAYLOAD_BYTES_MAX];
    let length = URL_SAFE_NO_PAD.decode_slice(payload, &mut space).ok()?;
    let mut json = serde_json::Deserializer::from_slice(space.get(..length)?);
    let value = At { path: Some(path) }.deserialize(&mut json).ok()?;
    // Anything after the document makes it no document.
    json.end().ok()?;
    value
}

/// Reads a JSON value on the way to a claim: `Some(path)` looks for the path inside an object, `None` has
/// arrived and takes the value's text.
struct At<'p> {
    path: Option<&'p str>,
}

impl At<'_> {
    fn here(&self, value: Value<'static>) -> Option<Value<'static>> {
        self.path.is_none().then_some(value)
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Value<'static>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Value<'static>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.here(Value::copied(text.as_bytes())))
    }
    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(self.here(boolean(truth)))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.here(Value::shown(number)))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.here(Value::shown(number)))
    }
    /// Written as in a JSON body, so that a claim and a body field of the same number have the same text.
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(serde_json::Number::from_f64(number).and_then(|number| self.here(Value::shown(number))))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let (mut whole, mut deeper) = (None, None);
        while let Some(step) = fields.next_key_seed(Step { path: self.path })? {
            match step {
                Step { path: Some("") } => whole = fields.next_value_seed(At { path: None })?,
                Step { path: Some(rest) } => deeper = fields.next_value_seed(At { path: Some(rest) })?.or(deeper),
                Step { path: None } => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(whole.or(deeper))
    }
}

/// How far a field's name leads: before reading it the path, after it what remains; `Some("")` at the claim
/// itself, `None` off the path.
struct Step<'p> {
    path: Option<&'p str>,
}

impl<'de, 'p> DeserializeSeed<'de> for Step<'p> {
    type Value = Step<'p>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, 'p> Visitor<'de> for Step<'p> {
    type Value = Step<'p>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let after = self.path.and_then(|path| path.strip_prefix(name));
        let path = after.and_then(|rest| if rest.is_empty() { Some("") } else { rest.strip_prefix('.') });
        // A path that ends in a dot must not be taken for one that has arrived.
        Ok(Step { path: path.filter(|rest| !rest.is_empty() || after == Some("")) })
    }
}
