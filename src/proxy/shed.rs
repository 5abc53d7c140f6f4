//! Too much to do: what is refused before anything is done for it, the least important first.
//!
//! A worker is one thread, so all that waits for it waits in one queue, but for those who have used up their turn (see
//! [`share`](super::share)) and hold nobody up. How long the queue is is seen by anything that was to happen at a known
//! moment: a heartbeat every [`BEAT`], which notes how late it is. As CoDel does with a queue, it is not one late moment
//! that counts but lateness that stays: for each `interval` without a beat in time the worker refuses one priority more,
//! for each without a late one it refuses one less.
//!
//! The exchanges in flight are the other measure, where they have a limit: each worker has its share, of which low
//! priority may fill [`LOW_SHARE`]. High priority is never refused; connections and streams bound it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use http::header::{HeaderValue, RETRY_AFTER};

use super::error::Fault;
use crate::routing::resilience::Priority;
use crate::telemetry::counters::ErrorCode;
use crate::telemetry::shedding::{Shedding, SheddingCounters};

const BEAT: Duration = Duration::from_millis(50);

/// Of a worker's share of the exchanges in flight, in percent.
const LOW_SHARE: usize = 80;

/// For how long those stay away who are refused, in seconds.
const RETRY_AFTER_SECONDS: u16 = 1;

/// When to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheddingOptions {
    /// `None`: however late.
    pub lateness: Option<Duration>,
    pub interval: Duration,
    /// Exchanges that a worker may have in flight.
    pub in_flight_per_worker: Option<usize>,
}

impl SheddingOptions {
    /// Whom so many exchanges in flight leave no room for.
    fn at(&self, in_flight: usize) -> Shedding {
        let Some(limit) = self.in_flight_per_worker else { return Shedding::Nobody };
        // The one that asks is among them.
        if in_flight > limit {
            Shedding::Normal
        } else if in_flight * 100 > limit * LOW_SHARE {
            Shedding::Low
        } else {
            Shedding::Nobody
        }
    }
}

/// A worker's load. One thread, so cells do.
#[derive(Default)]
pub(super) struct Load {
    shedding: Cell<Shedding>,
    /// From a whole request head to the end of the answer.
    in_flight: Cell<usize>,
}

impl Load {
    pub fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub fn end(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// Refuses a request that there is no time or room for. It is among those in flight already.
    pub fn check(
        &self,
        options: &SheddingOptions,
        priority: Priority,
        counters: &SheddingCounters,
    ) -> Result<(), Fault> {
        let level = self.shedding.get().max(options.at(self.in_flight.get()));
        let by = match priority {
            Priority::Low => Shedding::Low,
            Priority::Normal => Shedding::Normal,
            Priority::High => return Ok(()),
        };
        if level < by {
            return Ok(());
        }
        counters.refused(by);
        let mut fault = Fault::new(ErrorCode::Overloaded, "there is too much to do just now; try again later");
        fault.fields.push((RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)));
        Err(fault)
    }

    /// The worker's heartbeat, for as long as it lives.
    pub async fn watch(&self, worker: usize, options: impl Fn() -> SheddingOptions, counters: &SheddingCounters) {
        let mut trend = Trend::new(Instant::now());
        loop {
            let due = Instant::now() + BEAT;
            tokio::time::sleep_until(due.into()).await;
            let (now, options) = (Instant::now(), options());
            let lateness = now.saturating_duration_since(due);
            let level = match options.lateness {
                Some(most) => trend.note(lateness >= most, now, options.interval),
                None => trend.forget(now),
            };
            counters.set(lateness, level);
            let before = self.shedding.replace(level);
            if level != before {
                tell(worker, level, lateness);
            }
        }
    }
}

fn tell(worker: usize, level: Shedding, lateness: Duration) {
    match level {
        Shedding::Nobody => tracing::info!(worker, "a worker keeps up again and refuses no request"),
        Shedding::Low => tracing::warn!(worker, ?lateness, "a worker is late: it refuses requests of low priority"),
        Shedding::Normal => {
            tracing::warn!(worker, ?lateness, "a worker is late: it refuses all requests but those of high priority");
        }
    }
}

/// Whether a worker has been late, or in time, for long.
#[derive(Clone, Copy, Debug)]
struct Trend {
    late: bool,
    /// Since when it has been so, or when it last counted.
    since: Instant,
    level: Shedding,
}

impl Trend {
    fn new(now: Instant) -> Self {
        Self { late: false, since: now, level: Shedding::Nobody }
    }

    fn forget(&mut self, now: Instant) -> Shedding {
        *self = Self::new(now);
        self.level
    }

    fn note(&mut self, late: bool, now: Instant, interval: Duration) -> Shedding {
        if late != self.late {
            (self.late, self.since) = (late, now);
        } else if now.saturating_duration_since(self.since) >= interval {
            self.since = now;
            self.level = match (late, self.level) {
                (true, Shedding::Nobody) | (false, Shedding::Normal) => Shedding::Low,
                (true, _) => Shedding::Normal,
                (false, _) => Shedding::Nobody,
            };
        }
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interval_of_the_same_is_one_step() {
        use Shedding::{Low, Nobody, Normal};
        let start = Instant::now();
        let mut trend = Trend::new(start);
        for (ms, late, level) in [
            (0, false, Nobody),
            (600, true, Nobody),
            // Once late, for however long, is no trend.
            (9_000, false, Nobody),
            (9_600, true, Nobody),
            (10_200, true, Nobody),
            (10_600, true, Low),
            (11_300, true, Low),
            (11_600, true, Normal),
            (20_000, true, Normal),
            (20_050, false, Normal),
            (20_900, false, Normal),
            (21_050, false, Low),
            // One late beat begins it anew.
            (21_600, true, Low),
            (21_650, false, Low),
            (22_600, false, Low),
            (22_650, false, Nobody),
            (99_000, false, Nobody),
        ] {
            let now = start + Duration::from_millis(ms);
            assert_eq!(trend.note(late, now, Duration::from_secs(1)), level, "at {ms} ms");
        }
    }

    #[test]
    fn what_is_in_flight_leaves_room_for_the_more_important() {
        use Shedding::{Low, Nobody, Normal};
        let options = |limit| SheddingOptions { lateness: None, interval: Duration::ZERO, in_flight_per_worker: limit };
        for (limit, in_flight, level) in [
            (None, usize::MAX, Nobody),
            (Some(10), 8, Nobody),
            (Some(10), 9, Low),
            (Some(10), 10, Low),
            (Some(10), 11, Normal),
            (Some(1), 1, Low),
            (Some(1), 2, Normal),
        ] {
            assert_eq!(options(limit).at(in_flight), level, "{in_flight} of {limit:?}");
        }
    }

    #[tokio::test]
    async fn a_heartbeat_sees_a_blocked_worker_and_its_recovery() {
        let (lateness, interval) = (Duration::from_millis(50), Duration::from_millis(100));
        let options = SheddingOptions { lateness: Some(lateness), interval, in_flight_per_worker: None };
        let (load, counters) = (Load::default(), SheddingCounters::default());
        let passes = |priority| load.check(&options, priority, &counters).is_ok();
        let work = async {
            while load.shedding.get() != Shedding::Normal {
                // Nothing else of the worker runs meanwhile.
                std::thread::sleep(2 * interval);
                tokio::task::yield_now().await;
            }
            assert_eq!(Priority::ALL.map(passes), [false, false, true]);
            assert!(counters.lateness() >= lateness && counters.level() == 2);
            while load.shedding.get() != Shedding::Nobody {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(Priority::ALL.map(passes), [true; 3]);
        };
        tokio::select! {
            () = load.watch(0, || options, &counters) => unreachable!("it ends with its worker"),
            () = work => {}
        }
        assert_eq!([Shedding::Low, Shedding::Normal].map(|by| counters.refusals(by)), [1, 1]);
    }
}
