//! How the mock agent behaves: delays, tokens and failures, and what they mean for the n-th request.
//!
//! Invariant: a [`Behaviour`] is within its bounds however it was made; its texts are `40ms` and `5%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// No answer is longer.
pub const MAX_TOKENS: u32 = 100_000;
/// No single delay is longer.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// Until the response head, of a plain and of a streamed answer.
    pub latency: Wait,
    /// Up to this much is added to `latency`, evenly spread.
    pub jitter: Wait,
    /// How many completions fail with 500, after their latency.
    pub error_rate: Percent,
    /// Length of an answer, unless the request asks for less.
    pub tokens: Tokens,
    /// In a stream, from the response head to the first token.
    pub first_token: Wait,
    /// In a stream, from one token to the next.
    pub token_interval: Wait,
    /// Same seed, same delays and failures.
    pub seed: u64,
}

impl Default for Behaviour {
    /// A healthy agent.
    fn default() -> Self {
        Self {
            latency: Wait(Duration::from_millis(40)),
            jitter: Wait(Duration::from_millis(20)),
            error_rate: Percent::ZERO,
            tokens: Tokens(40),
            first_token: Wait(Duration::ZERO),
            token_interval: Wait(Duration::from_millis(10)),
            seed: 1,
        }
    }
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    pub latency: Duration,
    pub fails: bool,
}

impl Behaviour {
    /// The fate of request `number`: a function of the behaviour, the seed and the number alone.
    pub fn fate(&self, number: u64) -> Fate {
        let jitter = self.jitter.get().mul_f64(self.draw(number, 0));
        Fate { latency: self.latency.get() + jitter, fails: self.draw(number, 1) < self.error_rate.as_fraction() }
    }

    /// This behaviour with the fields that a JSON object names replaced.
    pub fn with_changes(&self, body: &[u8]) -> Result<Self, serde_json::Error> {
        let changes: serde_json::Map<String, Value> = serde_json::from_slice(body)?;
        let mut whole = serde_json::to_value(self)?;
        if let Value::Object(fields) = &mut whole {
            fields.extend(changes);
        }
        serde_json::from_value(whole)
    }

    /// A number in 0..1, from the seed, the request and what it is drawn for.
    fn draw(&self, number: u64, purpose: u64) -> f64 {
        let bits = mix(mix(self.seed ^ purpose.rotate_left(32)).wrapping_add(number));
        // 53 bits are what a double holds exactly.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// SplitMix64's finaliser: neighbouring inputs give unrelated outputs.
fn mix(input: u64) -> u64 {
    let z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

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

    #[test]
    fn the_same_seed_has_the_same_fates_and_another_has_others() {
        let fates = |seed| {
            let behaviour = Behaviour { seed, error_rate: Percent(30.0), ..Behaviour::default() };
            (0..1000).map(|n| behaviour.fate(n)).collect::<Vec<_>>()
        };
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
    }

    #[test]
    fn the_error_rate_and_the_jitter_are_what_was_asked() {
        let behaviour = Behaviour { error_rate: Percent(30.0), ..Behaviour::default() };
        let fates: Vec<_> = (0..10_000).map(|n| behaviour.fate(n)).collect();
        let failures = fates.iter().filter(|f| f.fails).count();
        assert!((2_800..3_200).contains(&failures), "{failures}");
        let (shortest, longest) = (fates.iter().map(|f| f.latency).min(), fates.iter().map(|f| f.latency).max());
        assert!(shortest.unwrap() >= Duration::from_millis(40) && shortest.unwrap() < Duration::from_millis(41));
        assert!(longest.unwrap() <= Duration::from_millis(60) && longest.unwrap() > Duration::from_millis(59));
        assert!(fates.iter().filter(|f| f.fails).any(|f| f.latency > Duration::from_millis(50)), "drawn apart");
    }

    #[test]
    fn zero_never_fails_and_a_hundred_always_does() {
        let never = Behaviour::default();
        let always = Behaviour { error_rate: Percent(100.0), ..Behaviour::default() };
        assert!((0..1000).all(|n| !never.fate(n).fails && always.fate(n).fails));
    }

    #[test]
    fn a_change_keeps_the_rest_and_refuses_what_it_does_not_know() {
        let base = Behaviour { tokens: Tokens(7), ..Behaviour::default() };
        let changed = base.with_changes(br#"{"error_rate": "50%", "latency": "5ms"}"#).unwrap();
        let wanted = Behaviour { error_rate: Percent(50.0), latency: Wait::from_millis(5), ..base.clone() };
        assert_eq!(changed, wanted);
        for bad in [&br#"{"eror_rate": "50%"}"#[..], br#"{"error_rate": 0.5}"#, b"[]", b"", br#"{"tokens": 4000000}"#] {
            assert!(base.with_changes(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
