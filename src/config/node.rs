//! The file as a tree in which every part knows its line and column.
//!
//! `serde_yaml` reads the text and decides what it means; [`super::marks`] says where each part
//! stands and how it was spelled (so that `1.10` does not become `1.1`). Aliases are followed; merge
//! keys and tags are refused. Nothing here knows what a configuration is.
//!
//! A part that turned out wrong is *removed*: it stays in the tree for its place, later stages pass
//! over it, and what depends on it can see that it was there.

use std::fmt;

use serde::de::{EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use zeroize::Zeroize;

use super::errors::{Place, Report, nearest, shown};
use super::marks;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) kind: Kind,
    pub(super) removed: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
    /// `!name value`: always refused.
    Tagged(String),
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    /// As it was spelled, without quotes.
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// It may be a secret.
impl Drop for Scalar {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// What YAML takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tone {
    Null,
    Bool(bool),
    Integer(i64),
    /// Also integers beyond 64 bits.
    Float,
    Text,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Node,
    pub(super) value: Node,
}

/// Reads `text`. `None`: it is no YAML, and the report says why.
pub(super) fn read(text: &str, report: &mut Report) -> Option<Node> {
    let mut tree: Node = match serde_yaml::from_str(text) {
        Ok(tree) => tree,
        Err(error) => {
            let (place, message) = marks::syntax_error(text, &error);
            report.error(place, "", message);
            return None;
        }
    };
    marks::place(&mut tree, text);
    Some(tree)
}

impl Node {
    fn new(kind: Kind) -> Self {
        Self { at: Place::START, kind, removed: false }
    }

    /// A map of one entry.
    pub(super) fn map_of(key: &str, value: Self) -> Self {
        Self::new(Kind::Map(vec![Entry { key: Self::scalar(key, Tone::Text), value }]))
    }

    fn scalar(text: impl Into<String>, tone: Tone) -> Self {
        Self::new(Kind::Scalar(Scalar { text: text.into(), tone }))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(Scalar { tone: Tone::Null, .. }))
    }

    /// The text of a scalar; empty for anything else.
    pub(super) fn text(&self) -> &str {
        match &self.kind {
            Kind::Scalar(scalar) => &scalar.text,
            _ => "",
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.text() == key)
    }

    /// Whether `key` may be missing only because something that stood for it was removed: itself, a merge,
    /// or a slip of its name.
    pub(super) fn has_lost(&self, key: &str) -> bool {
        let stands_for = |name: &str| name == key || name == "<<" || nearest(name, [key]).is_some();
        self.entries().iter().any(|entry| entry.value.removed && stands_for(entry.key.text()))
    }

    /// For messages: what is there instead of what was expected.
    pub(super) fn described(&self) -> String {
        match &self.kind {
            Kind::Seq(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Tagged(tag) => format!("the tag `{}`", shown(tag)),
            Kind::Scalar(scalar) => match scalar.tone {
                Tone::Null => "nothing".into(),
                Tone::Bool(_) => format!("`{}`", scalar.text),
                Tone::Integer(_) | Tone::Float => format!("the number {}", shown(&scalar.text)),
                Tone::Text => format!("the text `{}`", shown(&scalar.text)),
            },
        }
    }

    /// Whether something in it was removed: then what is left says little about the whole.
    pub(super) fn is_damaged(&self) -> bool {
        self.removed
            || match &self.kind {
                Kind::Scalar(_) | Kind::Tagged(_) => false,
                Kind::Seq(items) => items.iter().any(Self::is_damaged),
                Kind::Map(entries) => entries.iter().any(|e| e.value.is_damaged()),
            }
    }

    /// The node of a path below this one, such as `versions.1.4.2.endpoints[0]`; where a key holds
    /// dots, the longest that fits is taken.
    pub(super) fn find(&self, path: &str) -> Found<'_> {
        self.find_from(self.at, path)
    }

    /// The same, where errors about this node itself are shown at `own`.
    pub(super) fn find_from(&self, own: Place, path: &str) -> Found<'_> {
        let (mut node, mut place, mut rest, mut removed) = (self, own, path, self.removed);
        loop {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            if rest.is_empty() {
                return Found { place, node: Some(node), damaged: removed || node.is_damaged() };
            }
            match node.step(rest) {
                Some((child, at, left)) => (node, place, rest) = (child, at, left),
                None => return Found { place, node: None, damaged: removed },
            }
            removed |= node.removed;
        }
    }

    /// The child that `path` begins with, its place, and the rest of the path.
    fn step<'p>(&self, path: &'p str) -> Option<(&Self, Place, &'p str)> {
        match &self.kind {
            Kind::Seq(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, item.at, rest))
            }
            Kind::Map(entries) => {
                let fits = |entry: &&Entry| {
                    let rest = path.strip_prefix(entry.key.text());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                };
                let entry = entries.iter().filter(fits).max_by_key(|entry| entry.key.text().len())?;
                Some((&entry.value, entry.place(), &path[entry.key.text().len()..]))
            }
            Kind::Scalar(_) | Kind::Tagged(_) => None,
        }
    }
}

impl Entry {
    /// Where an error about the value is shown: at the value where it is one word, else at its key.
    pub(super) fn place(&self) -> Place {
        match &self.value.kind {
            Kind::Scalar(scalar) if scalar.tone != Tone::Null => self.value.at,
            _ => self.key.at,
        }
    }
}

/// Where a path leads.
pub(super) struct Found<'a> {
    /// Of the node, or of its nearest known ancestor.
    pub(super) place: Place,
    pub(super) node: Option<&'a Node>,
    /// It, a part of it or something on the way to it was removed.
    pub(super) damaged: bool,
}

/// A step from the root of the tree, linked to the steps before it; costs nothing until it is shown.
#[derive(Clone, Copy)]
pub(super) enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Trail::Root, key) => f.write_str(&shown(key)),
            Self::Key(parent, key) => write!(f, "{parent}.{}", shown(key)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::scalar("", Tone::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::scalar("", Tone::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::scalar(value.to_string(), Tone::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::scalar(value.to_string(), Tone::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        let tone = i64::try_from(value).map_or(Tone::Float, Tone::Integer);
        Ok(Node::scalar(value.to_string(), tone))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::scalar(value.to_string(), Tone::Float))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::scalar(value.to_string(), Tone::Float))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::scalar(value.to_string(), Tone::Float))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::scalar(value, Tone::Text))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::scalar(value, Tone::Text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::new(Kind::Seq(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.push(Entry { key, value });
        }
        Ok(Node::new(Kind::Map(entries)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        let (tag, content) = data.variant::<String>()?;
        content.newtype_variant::<serde::de::IgnoredAny>()?;
        Ok(Node::new(Kind::Tagged(tag)))
    }
}

#[cfg(test)]
mod tests;
