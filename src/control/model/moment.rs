//! Time, on both clocks.
//!
//! In a document a moment is its wall time alone. Read back, it is placed on the monotonic clock by its distance
//! from now, so that a hold time goes on over a restart. Where the wall clock was set back in between, what has
//! passed counts as not yet passed: a hold then lasts longer, never shorter.

use std::time::{Duration, Instant, SystemTime};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One moment on both clocks: the monotonic one is for planning, the wall is for people and documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Moment {
    /// The runtime's clock, so that a test which pauses it pauses rollouts too.
    pub fn now() -> Self {
        Self { instant: tokio::time::Instant::now().into_std(), wall: SystemTime::now() }
    }

    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }

    /// `None` where a clock cannot say it: further away than any rollout will live.
    pub fn checked_add(self, by: Duration) -> Option<Self> {
        Some(Self { instant: self.instant.checked_add(by)?, wall: self.wall.checked_add(by)? })
    }

    pub fn checked_sub(self, by: Duration) -> Option<Self> {
        Some(Self { instant: self.instant.checked_sub(by)?, wall: self.wall.checked_sub(by)? })
    }

    /// The moment of a wall time, as seen from this one.
    pub fn at_wall(self, wall: SystemTime) -> Self {
        let placed = match wall.duration_since(self.wall) {
            Ok(ahead) => self.checked_add(ahead),
            Err(behind) => self.checked_sub(behind.duration()),
        };
        // A clock that cannot say it: the wall time stays true, and the hold begins anew.
        placed.unwrap_or(Self { instant: self.instant, wall })
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let wall = self.wall.clamp(SystemTime::UNIX_EPOCH, last);
        serializer.collect_str(&humantime::format_rfc3339_nanos(wall))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wall = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        Ok(Self::now().at_wall(wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_goes_on_where_a_document_left_it() {
        let now = Moment::now();
        let began = now.checked_sub(Duration::from_secs(600)).expect("not long ago");
        let text = serde_json::to_string(&began).expect("a text");
        let read: Moment = serde_json::from_str(&text).expect("the same text");
        assert_eq!(read.wall, began.wall);
        let held = Moment::now().since(read);
        // Whatever the test takes, it counts as well.
        assert!(held >= Duration::from_secs(600) && held < Duration::from_secs(700), "{held:?}");
        let ahead = now.at_wall(now.wall + Duration::from_secs(60));
        assert_eq!(ahead.since(now), Duration::from_secs(60));
    }
}
