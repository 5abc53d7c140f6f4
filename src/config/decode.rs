//! [`Node`] tree → file shapes, with every error and not just the first.
//!
//! serde stops at the first thing that does not fit. So: decode; on a fault note it with its place,
//! remove the part that is at fault, and decode again, until it fits. An agent is decoded on its own,
//! so that a second try costs one agent and not the file. What is missing only because it was removed
//! is not reported a second time. Each round removes at least one part or ends, and the report is bounded.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::errors::{Place, Report, shown, suggestion};
use super::node::{Entry, Kind, Node, Scalar, Tone};

/// Decodes `node`, which stands at `base` in the file. `None`: not even its outermost part fits.
pub(super) fn decode<T: de::DeserializeOwned>(
    node: &mut Node,
    base: &str,
    key: Place,
    report: &mut Report,
) -> Option<T> {
    while !node.removed {
        match T::deserialize(At(node)) {
            Ok(value) => return Some(value),
            Err(_) if report.is_full() => return None,
            Err(fault) => fault.report_and_remove(node, base, key, report),
        }
    }
    None
}

/// What does not fit, and where: the positions on the way down, the innermost first.
#[derive(Debug)]
struct Fault {
    way: Vec<usize>,
    /// The key itself is at fault, not its value.
    on_key: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    Message(String),
    Type { expected: String },
    Missing { key: &'static str },
}

impl Fault {
    fn new(what: What) -> Self {
        Self { way: Vec::new(), on_key: false, what }
    }

    fn below(mut self, position: usize) -> Self {
        self.way.push(position);
        self
    }

    /// Goes down the way to the part at fault.
    fn report_and_remove(mut self, node: &mut Node, path: &str, place: Place, report: &mut Report) {
        let Some(position) = self.way.pop() else { return self.settle(node, path, place, report) };
        match &mut node.kind {
            Kind::Seq(items) => {
                let item = &mut items[position];
                let place = item.at;
                self.report_and_remove(item, &format!("{path}[{position}]"), place, report);
            }
            Kind::Map(entries) => {
                let entry = &mut entries[position];
                let place = if self.on_key { entry.key.at } else { entry.place() };
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", shown(entry.key.text()));
                self.report_and_remove(&mut entry.value, &path, place, report);
            }
            // No way leads below these.
            Kind::Scalar(_) | Kind::Tagged(_) => node.removed = true,
        }
    }

    fn settle(self, node: &mut Node, path: &str, place: Place, report: &mut Report) {
        match self.what {
            What::Message(message) => report.error(place, path, message),
            What::Type { expected } => {
                report.error(place, path, format!("expected {expected}, found {}", node.described()));
            }
            // What it was is reported already.
            What::Missing { key } if node.has_lost(key) => {}
            What::Missing { key } => report.error(place, path, format!("the key `{key}` is missing")),
        }
        node.removed = true;
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Message(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Type { expected: in_our_words(expected.to_string()) })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::custom(unknown("key", key, known))
    }

    fn unknown_variant(value: &str, known: &'static [&'static str]) -> Self {
        Self::custom(unknown("value", value, known))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(What::Missing { key })
    }
}

fn unknown(what: &str, name: &str, known: &'static [&'static str]) -> String {
    format!("unknown {what} `{}`{}", shown(name), suggestion(name, known.iter().copied()))
}

/// serde's own words for the basic shapes, in those of the file.
fn in_our_words(expected: String) -> String {
    match expected.as_str() {
        "a sequence" => "a list".into(),
        "a boolean" => "true or false".into(),
        _ => expected,
    }
}

/// Deserializes from a part of the tree.
struct At<'a>(&'a Node);

impl<'de> At<'de> {
    fn mismatch<T>(&self, visitor: &dyn Expected) -> Result<T, Fault> {
        // What is there is described when the fault is reported: the node knows better than serde's types.
        Err(de::Error::invalid_type(Unexpected::Unit, visitor))
    }

    fn scalar(&self) -> Option<&'de Scalar> {
        match &self.0.kind {
            Kind::Scalar(scalar) if scalar.tone != Tone::Null => Some(scalar),
            _ => None,
        }
    }
}

impl<'de> Deserializer<'de> for At<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Seq(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Tagged(_) => self.mismatch(&visitor),
            Kind::Scalar(scalar) => match scalar.tone {
                Tone::Null => visitor.visit_unit(),
                Tone::Bool(value) => visitor.visit_bool(value),
                Tone::Integer(value) => visitor.visit_i64(value),
                Tone::Float | Tone::Text => visitor.visit_str(&scalar.text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar().map(|scalar| (scalar.tone, scalar.text.parse())) {
            Some((Tone::Bool(value), _) | (Tone::Text, Ok(value))) => visitor.visit_bool(value),
            _ => self.mismatch(&visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar().map(|scalar| (scalar.tone, scalar.text.trim().parse())) {
            Some((Tone::Integer(value), _) | (Tone::Text, Ok(value))) => visitor.visit_i64(value),
            _ => self.mismatch(&visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar() {
            Some(scalar) => visitor.visit_str(&scalar.text),
            None => self.mismatch(&visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Seq(items) => visitor.visit_seq(Items { items, next: 0 }),
            _ => self.mismatch(&visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            _ => self.mismatch(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.scalar() {
            Some(scalar) => {
                let name: StrDeserializer<'_, Fault> = scalar.text.as_str().into_deserializer();
                visitor.visit_enum(name)
            }
            None => Err(Fault::new(What::Type { expected: format!("one of {}", variants.join(", ")) })),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

struct Items<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        while let Some(item) = self.items.get(self.next) {
            let position = self.next;
            self.next += 1;
            if !item.removed {
                return seed.deserialize(At(item)).map(Some).map_err(|fault| fault.below(position));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    /// The value of the entry before it is the next value.
    next: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        while let Some(entry) = self.entries.get(self.next) {
            let position = self.next;
            self.next += 1;
            if !entry.value.removed {
                let key: StrDeserializer<'_, Fault> = entry.key.text().into_deserializer();
                let on_key = |fault: Fault| Fault { on_key: true, ..fault.below(position) };
                return seed.deserialize(key).map(Some).map_err(on_key);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let position = self.next.saturating_sub(1);
        match self.entries.get(position) {
            Some(entry) => seed.deserialize(At(&entry.value)).map_err(|fault| fault.below(position)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}
