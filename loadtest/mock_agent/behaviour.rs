//! How the mock agent behaves: delays, tokens and failures, and what they mean for the n-th request.
//!
//! Invariant: a [`Behaviour`] is within its bounds however it was made (see `units`).

use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::units::{Percent, Tokens, Wait};

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
    /// How a stream fails, half of its tokens sent.
    pub fault: Fault,
    /// How many streams meet the fault.
    pub fault_rate: Percent,
    /// Same seed, same delays and failures.
    pub seed: u64,
}

impl Default for Behaviour {
    /// A healthy agent.
    fn default() -> Self {
        Self {
            latency: Wait::from_millis(40),
            jitter: Wait::from_millis(20),
            error_rate: Percent::ZERO,
            tokens: Tokens::new(40),
            first_token: Wait::from_millis(0),
            token_interval: Wait::from_millis(10),
            fault: Fault::None,
            fault_rate: Percent::HUNDRED,
            seed: 1,
        }
    }
}

/// What goes wrong in a stream that began well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[default]
    None,
    /// An error event takes the place of the rest, and the stream ends properly
    Error,
    /// The stream ends properly, but without its last events
    End,
    /// The connection closes in the middle of an event
    Cut,
    /// Nothing more comes, and the connection stays open
    Stall,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    pub latency: Duration,
    /// It is answered with 500.
    pub fails: bool,
    /// Of the stream, if it is answered with one.
    pub fault: Fault,
}

impl Behaviour {
    /// The fate of request `number`: a function of the behaviour, the seed and the number alone.
    pub fn fate(&self, number: u64) -> Fate {
        let jitter = self.jitter.get().mul_f64(self.draw(number, 0));
        let fault = if self.draw(number, 2) < self.fault_rate.as_fraction() { self.fault } else { Fault::None };
        let fails = self.draw(number, 1) < self.error_rate.as_fraction();
        Fate { latency: self.latency.get() + jitter, fails, fault }
    }

    /// This behaviour with the fields that a JSON object names replaced.
    pub fn with_changes(&self, body: &[u8]) -> Result<Self, serde_json::Error> {
        self.with_fields(serde_json::from_slice(body)?)
    }

    /// This behaviour with the fields that a query names replaced: `tokens=3&token_interval=1s`.
    pub fn with_query(&self, query: &str) -> Result<Self, serde_json::Error> {
        let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let fields = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            // What is a number in JSON is one here.
            (decode(name), value.parse::<u64>().map_or(Value::String(value), Value::from))
        });
        self.with_fields(fields.collect())
    }

    fn with_fields(&self, changes: Map<String, Value>) -> Result<Self, serde_json::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(share: f64) -> Percent {
        Percent::new(share).expect("a share")
    }

    #[test]
    fn the_same_seed_has_the_same_fates_and_another_has_others() {
        let fates = |seed| {
            let behaviour = Behaviour { seed, error_rate: percent(30.0), ..Behaviour::default() };
            (0..1000).map(|n| behaviour.fate(n)).collect::<Vec<_>>()
        };
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
    }

    #[test]
    fn the_error_rate_and_the_jitter_are_what_was_asked() {
        let behaviour = Behaviour { error_rate: percent(30.0), ..Behaviour::default() };
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
        let always = Behaviour { error_rate: percent(100.0), ..Behaviour::default() };
        assert!((0..1000).all(|n| !never.fate(n).fails && always.fate(n).fails));
    }

    #[test]
    fn a_change_keeps_the_rest_and_refuses_what_it_does_not_know() {
        let base = Behaviour { tokens: Tokens::new(7), ..Behaviour::default() };
        let changed = base.with_changes(br#"{"error_rate": "50%", "latency": "5ms"}"#).unwrap();
        let wanted = Behaviour { error_rate: percent(50.0), latency: Wait::from_millis(5), ..base.clone() };
        assert_eq!(changed, wanted);
        for bad in [&br#"{"eror_rate": "50%"}"#[..], br#"{"error_rate": 0.5}"#, b"[]", b"", br#"{"tokens": 4000000}"#] {
            assert!(base.with_changes(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_query_changes_it_for_one_request() {
        let base = Behaviour::default();
        let changed = base.with_query("tokens=3&token_interval=1s&fault=stall&fault_rate=50%25").unwrap();
        let interval = Wait::from_millis(1000);
        let wanted =
            Behaviour { tokens: Tokens::new(3), token_interval: interval, fault: Fault::Stall, ..base.clone() };
        assert_eq!(changed, Behaviour { fault_rate: percent(50.0), ..wanted });
        assert_eq!(base.with_query("").unwrap(), base);
        for bad in ["token=3", "tokens=many", "fault=crash", "tokens"] {
            assert!(base.with_query(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fault_meets_the_share_that_was_asked() {
        let behaviour = Behaviour { fault: Fault::Cut, fault_rate: percent(20.0), ..Behaviour::default() };
        let met = (0..10_000).filter(|n| behaviour.fate(*n).fault == Fault::Cut).count();
        assert!((1_850..2_150).contains(&met), "{met}");
        assert!((0..1000).all(|n| Behaviour::default().fate(n).fault == Fault::None));
    }
}
