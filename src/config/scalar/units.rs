//! Shares, durations, sizes and plain numbers. What has a unit is refused without it.

use std::time::Duration;

use schemars::{Schema, json_schema};

use super::super::errors::shown;
use super::{FromText, pattern};
use crate::routing::ids::Weight;

/// A share of traffic or of time, finer than buckets: 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fraction(pub(crate) f64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bytes(pub(crate) u64);

/// The limit of a guard, in whichever unit it was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amount {
    Share(f64),
    Time(Duration),
    /// Without a unit: means and queries take one.
    Number(f64),
}

/// Any number of what needs no unit: tokens, or money in the currency that `prices` are in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

const SHARE: &str = r"[0-9]+(\.[0-9]+)?%";
const DURATION: &str = r"0|([0-9]+(ms|s|m|h|d) ?)+";

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

/// Rust would also take words such as `inf` for numbers.
fn number(text: &str) -> Option<f64> {
    let spelled = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse().ok().filter(|number: &f64| spelled && number.is_finite())
}

impl FromText for Number {
    const NAME: &'static str = "Number";
    const EXPECTED: &'static str = "a number such as 1500 or 0.05";
    fn from_text(text: &str) -> Result<Self, String> {
        number(text).map(Self).ok_or_else(|| format!("`{}` is no number; expected {}", shown(text), Self::EXPECTED))
    }
    fn schema() -> Schema {
        json_schema!({
            "description": "A number without a unit.",
            "type": ["string", "number"],
            "pattern": r"^([0-9].*|.*\$\{.*)$",
            "examples": [1500, 0.05],
        })
    }
}

impl FromText for Amount {
    const NAME: &'static str = "Amount";
    const EXPECTED: &'static str = "a share such as 5% or a duration such as 3s";
    fn from_text(text: &str) -> Result<Self, String> {
        if text.contains('%') {
            return Fraction::from_text(text).map(|fraction| Self::Share(fraction.0));
        }
        match number(text) {
            Some(number) => Ok(Self::Number(number)),
            None => Duration::from_text(text).map(Self::Time),
        }
    }
    fn schema() -> Schema {
        // A number is a number in JSON too, and not the text that the others are.
        json_schema!({
            "description": "A share for error rates, a duration for times, a number for means, any of these for a `query`.",
            "type": ["string", "number"],
            "pattern": format!(r"^({SHARE}|{DURATION}|-?[0-9].*|.*\$\{{.*)$"),
            "examples": ["5%", "3s", 0.05],
        })
    }
}
