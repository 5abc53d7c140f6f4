//! Names as types, so that an agent can never be passed where a version is meant.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::parse::Misread;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The same text, shared rather than copied: for labels that live as long as the name.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer).map(Self::new)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A named service, e.g. `support-bot`.
    AgentId
);
name_type!(
    /// One immutable release of an agent, named by SemVer.
    VersionId
);
name_type!(
    /// `development`, `staging`, `production` or any name; a listener belongs to one.
    EnvironmentId
);
name_type!(
    /// A named set of targeting rules.
    SegmentId
);

/// How many buckets there are; a weight is a number of them.
pub const BUCKETS: u32 = 100_000;

/// A share of the traffic in 100,000ths. Never more than [`Weight::FULL`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Weight {
    pub const ZERO: Self = Self(0);
    pub const FULL: Self = Self(BUCKETS);

    /// `None` above 100 %.
    pub fn new(hundred_thousandths: u32) -> Option<Self> {
        (hundred_thousandths <= BUCKETS).then_some(Self(hundred_thousandths))
    }
    pub fn get(self) -> u32 {
        self.0
    }
    pub fn rest(self) -> Self {
        Self(BUCKETS - self.0)
    }
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / f64::from(BUCKETS)
    }
}

impl<'de> serde::Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hundred_thousandths = <u32 as serde::Deserialize>::deserialize(deserializer)?;
        Self::new(hundred_thousandths).ok_or_else(|| serde::de::Error::custom("a weight above 100 %"))
    }
}

impl fmt::Display for Weight {
    /// `5%`, `0.001%`, `12.5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, thousandths) = (self.0 / 1000, self.0 % 1000);
        if thousandths == 0 {
            return write!(f, "{whole}%");
        }
        let fraction = format!("{thousandths:03}");
        write!(f, "{whole}.{}%", fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Weight {
    type Err = Misread;

    /// `5%`, `0.001%`, `12.5%`: a decimal number of percent with at most three decimals.
    fn from_str(text: &str) -> Result<Self, Misread> {
        let wrong = |expected| Misread::new(text, expected);
        let Some(percent) = text.strip_suffix('%') else {
            return Err(wrong("a share with a percent sign, such as `5%` or `0.001%`"));
        };
        let percent = percent.trim_end();
        let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) {
            return Err(wrong("a decimal number of percent, such as `5%` or `12.5%`"));
        }
        if decimals.len() > 3 {
            return Err(wrong("at most three decimals: a share is counted in steps of 0.001%"));
        }
        // A whole part with too many digits for a number is above 100 % as well.
        let whole = whole.parse().unwrap_or(u32::MAX);
        let thousandths = format!("{decimals:0<3}").parse().unwrap_or(0);
        let weight = whole.checked_mul(1000).and_then(|w| w.checked_add(thousandths)).and_then(Self::new);
        weight.ok_or_else(|| wrong("at most `100%`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_to_a_thousandth_of_a_percent() {
        let table = [
            ("0%", 0),
            ("0.001%", 1),
            ("0.01%", 10),
            ("5%", 5_000),
            ("12.5%", 12_500),
            ("12.50%", 12_500),
            ("99.999%", 99_999),
            ("100%", 100_000),
            ("100.000%", 100_000),
            ("005 %", 5_000),
        ];
        for (text, weight) in table {
            assert_eq!(text.parse().map(Weight::get), Ok(weight), "{text}");
        }
    }

    #[test]
    fn what_is_no_share_is_refused_with_what_was_expected() {
        let table = [
            ("5", "percent sign"),
            ("", "percent sign"),
            ("%", "decimal number"),
            (".5%", "decimal number"),
            ("5.%", "decimal number"),
            ("-1%", "decimal number"),
            ("+1%", "decimal number"),
            ("1e2%", "decimal number"),
            ("0.0001%", "three decimals"),
            ("100.001%", "at most `100%`"),
            ("4294967296%", "at most `100%`"),
            ("99999999999999999999%", "at most `100%`"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Weight>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_share_reads_back_as_it_is_shown(weight in 0..=BUCKETS) {
            let weight = Weight::new(weight).expect("in range");
            proptest::prop_assert_eq!(weight.to_string().parse(), Ok(weight));
        }
    }
}
