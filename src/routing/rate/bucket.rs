//! What one caller has used of one limit.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pace::{Fill, Nanos, Pace, left};
use super::spec::TokenPace;

/// An average moves by this part of what is new.
const AVERAGE_PART: u64 = 4;

#[derive(Default)]
pub(super) struct Bucket {
    requests: Fill,
    tokens: Fill,
    /// Of the tokens that answers cost; zero before the first.
    average: AtomicU64,
    in_flight: AtomicU32,
}

/// What is left for a caller after its request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub units: u64,
    /// Until all of it is there again; `None` where time does not bring it.
    pub full_in: Option<Nanos>,
}

/// What was taken, to be given back or settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub units: u64,
    until: Nanos,
}

impl Taken {
    pub fn left(self, pace: Pace, now: Nanos) -> Left {
        Left { units: left(pace, self.until, now), full_in: Some(self.until.saturating_sub(now)) }
    }
}

impl Bucket {
    pub fn take_request(&self, pace: Pace, now: Nanos) -> Result<Taken, Nanos> {
        Ok(Taken { units: 1, until: self.requests.take(pace, 1, now)? })
    }

    pub fn give_request_back(&self, pace: Pace, taken: Taken, now: Nanos) {
        self.requests.give_back(pace, taken.units, taken.until, now);
    }

    /// Reserves what an answer of this caller costs on average.
    pub fn reserve(&self, tokens: TokenPace, now: Nanos) -> Result<Taken, Nanos> {
        let average = self.average.load(Ordering::Relaxed);
        // Never more than there can be, or the caller would be locked out by one great answer.
        let units = if average > 0 { average } else { tokens.estimate }.min(tokens.pace.burst);
        Ok(Taken { units, until: self.tokens.take(tokens.pace, units, now)? })
    }

    /// The answer cost so many tokens in truth.
    pub fn settle(&self, tokens: TokenPace, taken: Taken, cost: u64, now: Nanos) {
        match cost.checked_sub(taken.units) {
            Some(more) => self.tokens.charge(tokens.pace, more, now),
            None => self.tokens.give_back(tokens.pace, taken.units - cost, taken.until, now),
        }
    }

    /// An answer told what it cost. Of two at a time one may be missed: it is an estimate.
    pub fn learn(&self, cost: u64) {
        let average = self.average.load(Ordering::Relaxed);
        let next = if average == 0 { cost } else { average - average / AVERAGE_PART + cost / AVERAGE_PART };
        self.average.store(next.max(1), Ordering::Relaxed);
    }

    /// How many more there may be, then.
    pub fn enter(&self, most: u32) -> Result<u32, ()> {
        let one_more = |held: u32| held.checked_add(1).filter(|held| *held <= most);
        let before = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        before.map(|held| most - held - 1).map_err(|_| ())
    }

    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether all that may be used is there.
    pub fn is_full(&self, now: Nanos) -> bool {
        self.requests.is_full(now) && self.tokens.is_full(now) && self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Whether it has been full for so long.
    pub fn is_full_for(&self, long: Nanos, now: Nanos) -> bool {
        let latest = self.requests.full_at().max(self.tokens.full_at());
        self.is_full(now) && now - latest.min(now) >= long
    }
}
