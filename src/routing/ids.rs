//! Names as types, so that an agent can never be passed where a version is meant.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
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
