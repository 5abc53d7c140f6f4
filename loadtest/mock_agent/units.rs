//! The texts of a behaviour, `40ms`, `5%` and a number of tokens: each within its bounds however it was made.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// No answer is longer.
pub const MAX_TOKENS: u32 = 100_000;
/// No single delay is longer.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);

/// A delay of at most [`MAX_WAIT`], written `40ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wait(Duration);

/// How many tokens an answer has, at most [`MAX_TOKENS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Tokens(u32);

/// A share, 0 to 100, written `5%`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(f64);

/// Why a text is no part of a behaviour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBehaviour {
    #[error("`{0}` is no duration of at most an hour; expected for example `40ms`")]
    Wait(String),
    #[error("`{0}` is no number of tokens from 0 to {MAX_TOKENS}")]
    Tokens(String),
    #[error("`{0}` is no share; expected `0%` to `100%`")]
    Percent(String),
}

impl Wait {
    /// A longer delay is cut to [`MAX_WAIT`].
    pub fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis).min(MAX_WAIT))
    }
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Tokens {
    /// More is cut to [`MAX_TOKENS`].
    pub fn new(tokens: u32) -> Self {
        Self(tokens.min(MAX_TOKENS))
    }
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Percent {
    pub const ZERO: Self = Self(0.0);
    pub const HUNDRED: Self = Self(100.0);

    /// `None` outside 0 to 100.
    pub fn new(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then_some(Self(percent))
    }
    pub fn as_fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Wait {
    type Err = BadBehaviour;
    fn from_str(text: &str) -> Result<Self, BadBehaviour> {
        match humantime::parse_duration(text) {
            Ok(wait) if wait <= MAX_WAIT => Ok(Self(wait)),
            _ => Err(BadBehaviour::Wait(text.to_owned())),
        }
    }
}

impl FromStr for Tokens {
    type Err = BadBehaviour;
    fn from_str(text: &str) -> Result<Self, BadBehaviour> {
        let tokens = text.parse::<u32>().map_err(|_| BadBehaviour::Tokens(text.to_owned()))?;
        Self::try_from(tokens)
    }
}

impl FromStr for Percent {
    type Err = BadBehaviour;
    fn from_str(text: &str) -> Result<Self, BadBehaviour> {
        let number = text.strip_suffix('%').and_then(|n| n.trim_end().parse().ok());
        number.and_then(Self::new).ok_or_else(|| BadBehaviour::Percent(text.to_owned()))
    }
}

impl TryFrom<u32> for Tokens {
    type Error = BadBehaviour;
    fn try_from(tokens: u32) -> Result<Self, BadBehaviour> {
        if tokens > MAX_TOKENS { Err(BadBehaviour::Tokens(tokens.to_string())) } else { Ok(Self(tokens)) }
    }
}

impl TryFrom<String> for Wait {
    type Error = BadBehaviour;
    fn try_from(text: String) -> Result<Self, BadBehaviour> {
        text.parse()
    }
}

impl TryFrom<String> for Percent {
    type Error = BadBehaviour;
    fn try_from(text: String) -> Result<Self, BadBehaviour> {
        text.parse()
    }
}

impl From<Tokens> for u32 {
    fn from(tokens: Tokens) -> Self {
        tokens.0
    }
}

impl From<Wait> for String {
    fn from(wait: Wait) -> Self {
        wait.to_string()
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.to_string()
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_bounds_hold() {
        for text in ["40ms", "0s", "1h", "1s 500ms"] {
            assert_eq!(text.parse::<Wait>().unwrap().to_string(), text);
        }
        for text in ["0%", "0.5%", "100%"] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), text);
        }
        for text in ["", "5", "101%", "-1%", "NaN%", "%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        for text in ["", "40", "61m", "-1ms"] {
            assert!(text.parse::<Wait>().is_err(), "{text}");
        }
        assert!("100001".parse::<Tokens>().is_err());
    }
}
