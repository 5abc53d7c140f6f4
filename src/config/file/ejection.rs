//! The shape of when endpoints are ejected.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::Duration;
use crate::config::scalar::{Text, Whole};
use crate::routing::ids::Weight;

/// When an endpoint that fails requests gets none for a while; `off`: never.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(in crate::config) enum Ejection {
    Off(Off),
    On(Rule),
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(in crate::config) enum Off {
    Off,
}

/// After how many failures, and for how long.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `consecutive_failures`")]
pub(in crate::config) struct Rule {
    /// So many failures in a row eject it: no connection, a connection that is reset before the answer, an answer that
    /// is no HTTP or does not come in time, a status of `statuses`. Counted apart: answers that break off or stall.
    /// Default: 5.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) consecutive_failures: Option<Whole>,
    /// The statuses that are failures; none: no status is. Default: 502, 503, 504.
    #[schemars(length(max = 32), inner(range(min = 400, max = 599)))]
    pub(in crate::config) statuses: Option<Vec<Whole>>,
    /// How long the first ejection lasts; each further one in a row lasts twice as long. After so long without, one
    /// is forgotten. Default: 10s.
    pub(in crate::config) base_time: Option<Duration>,
    /// The longest that an ejection lasts. Default: 5m.
    pub(in crate::config) max_time: Option<Duration>,
    /// The share of a version's endpoints that may be out at a time, also by `checks`. At least one may be where there
    /// are several, and never all. Default: 50%.
    pub(in crate::config) max_ejected: Option<Text<Weight>>,
}

impl<'de> Deserialize<'de> for Ejection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Ejection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a map with `consecutive_failures`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Ejection, E> {
                match text {
                    "off" => Ok(Ejection::Off(Off::Off)),
                    _ => Err(E::invalid_type(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ejection, A::Error> {
                Rule::deserialize(MapAccessDeserializer::new(map)).map(Ejection::On)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
