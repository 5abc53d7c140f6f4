//! Targeting rules over request attributes.
//!
//! Compiling a segment checks it whole and prepares every operand, so that a request only compares.
//! An absent attribute fails every test but `NotEq`, `NotIn` and `Exists(false)`.
//!
//! The order of `Gt`, `Gte`, `Lt` and `Lte`: as numbers where both sides are decimal numbers, else by SemVer
//! precedence where both are SemVer, else byte by byte. So `1.10` is less than `1.9` (they are numbers), and
//! `1.10.0` more than `1.9.0`.
//!
//! Not here: `json` and `request` attributes. A body is not read for targeting, and a random id targets
//! nobody.

use memchr::memmem::Finder;
use regex::Regex;
use semver::Version;
use std::cmp::Ordering;
use std::collections::HashSet;

use super::key::{self, Value};
use super::networks::Networks;
use super::spec::{Attribute, Condition, SegmentSpec, Test};
use super::table::Head;

/// A compiled segment.
pub struct Segment {
    all: Vec<Check>,
    any: Vec<Check>,
}

/// What is wrong with one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Below the segment: `all[0]`.
    pub field: String,
    pub message: String,
}

impl Segment {
    pub fn compile(spec: &SegmentSpec) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut compile = |list: &str, conditions: &[Condition]| {
            let checks = conditions.iter().enumerate().filter_map(|(index, condition)| {
                let fault = |message| faults.push(Fault { field: format!("{list}[{index}]"), message });
                Check::compile(condition).map_err(fault).ok()
            });
            checks.collect()
        };
        let (all, any) = (compile("all", &spec.all), compile("any", &spec.any));
        if faults.is_empty() { Ok(Self { all, any }) } else { Err(faults) }
    }

    /// Whether the request is in this segment.
    pub fn holds(&self, head: &Head<'_>) -> bool {
        let any = self.any.is_empty() || self.any.iter().any(|check| check.holds(head));
        any && self.all.iter().all(|check| check.holds(head))
    }
}

struct Check {
    attribute: Attribute,
    test: Prepared,
}

enum Prepared {
    Exists(bool),
    /// `Eq`, `NotEq`, `In`, `NotIn`: being among the values must be as `wanted`.
    Among {
        values: Values,
        wanted: bool,
    },
    Ordered {
        than: Operand,
        is: fn(Ordering) -> bool,
    },
    Contains(Finder<'static>),
    StartsWith(Vec<u8>),
    Matches(Regex),
}

enum Values {
    One(Vec<u8>),
    Many(HashSet<Vec<u8>>),
    Networks(Networks),
}

impl Check {
    fn compile(condition: &Condition) -> Result<Self, String> {
        let attribute = condition.attribute.clone();
        if matches!(attribute, Attribute::Json(_) | Attribute::Request) {
            return Err(format!("`{attribute}` serves as a bucketing key only, not in a segment"));
        }
        // The attribute's own text is lower case too.
        let text = |text: &String| match attribute {
            Attribute::Host => text.to_ascii_lowercase().into_bytes(),
            _ => text.clone().into_bytes(),
        };
        let among = |texts: &[String], wanted| {
            let values = match texts {
                _ if attribute == Attribute::ClientIp => Values::Networks(Networks::parse(texts)?),
                [only] => Values::One(text(only)),
                texts => Values::Many(texts.iter().map(text).collect()),
            };
            Ok::<_, String>(Prepared::Among { values, wanted })
        };
        let ordered = |than: &String, is| Prepared::Ordered { than: Operand::new(text(than)), is };
        let test = match &condition.test {
            Test::Exists(wanted) => Prepared::Exists(*wanted),
            Test::Eq(value) => among(std::slice::from_ref(value), true)?,
            Test::NotEq(value) => among(std::slice::from_ref(value), false)?,
            Test::In(values) => among(values, true)?,
            Test::NotIn(values) => among(values, false)?,
            Test::Gt(value) => ordered(value, Ordering::is_gt),
            Test::Gte(value) => ordered(value, Ordering::is_ge),
            Test::Lt(value) => ordered(value, Ordering::is_lt),
            Test::Lte(value) => ordered(value, Ordering::is_le),
            Test::Contains(value) => Prepared::Contains(Finder::new(&text(value)).into_owned()),
            Test::StartsWith(value) => Prepared::StartsWith(text(value)),
            Test::Matches(regex) => Prepared::Matches(regex.clone()),
        };
        Ok(Self { attribute, test })
    }

    fn holds(&self, head: &Head<'_>) -> bool {
        if let Prepared::Among { values: Values::Networks(networks), wanted } = &self.test {
            return networks.contain(head.client) == *wanted;
        }
        let value = key::resolve(&self.attribute, head);
        match (&self.test, &value) {
            (Prepared::Exists(wanted), value) => value.is_some() == *wanted,
            (Prepared::Among { wanted, .. }, None) => !wanted,
            (_, None) => false,
            (Prepared::Among { values, wanted }, Some(value)) => values.contain(value.as_bytes()) == *wanted,
            (Prepared::Ordered { than, is }, Some(value)) => is(than.compare(value)),
            (Prepared::Contains(needle), Some(value)) => needle.find(value.as_bytes()).is_some(),
            (Prepared::StartsWith(start), Some(value)) => value.as_bytes().starts_with(start),
            (Prepared::Matches(regex), Some(value)) => value.as_str().is_some_and(|text| regex.is_match(text)),
        }
    }
}

impl Values {
    fn contain(&self, value: &[u8]) -> bool {
        match self {
            Self::One(only) => only == value,
            Self::Many(values) => values.contains(value),
            // Compared as addresses before the attribute is made text.
            Self::Networks(_) => false,
        }
    }
}

/// The right side of a comparison, in every form that it may be compared in.
struct Operand {
    text: Vec<u8>,
    number: Option<f64>,
    version: Option<Version>,
}

impl Operand {
    fn new(text: Vec<u8>) -> Self {
        let read = std::str::from_utf8(&text).ok();
        let (number, version) = (read.and_then(number), read.and_then(|text| Version::parse(text).ok()));
        Self { text, number, version }
    }

    /// How `value` stands to this.
    fn compare(&self, value: &Value<'_>) -> Ordering {
        let text = value.as_str().unwrap_or_default();
        if let (Some(this), Some(value)) = (self.number, number(text)) {
            // Neither is NaN.
            return value.partial_cmp(&this).unwrap_or(Ordering::Equal);
        }
        if let (Some(this), Ok(value)) = (&self.version, Version::parse(text)) {
            return value.cmp_precedence(this);
        }
        value.as_bytes().cmp(&self.text)
    }
}

/// A decimal number; `inf` and `nan` are words here.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests;
