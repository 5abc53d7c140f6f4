//! Whether a request may go on, and what it holds while it does.

use std::sync::Arc;

use super::bucket::{Bucket, Left, Taken};
use super::pace::{Nanos, SECOND};
use super::seat::Seat;
use super::spec::{Kind, RateLimitSpec};
use crate::routing::table::{Agent, Head};

/// Nobody knows when another request ends.
const CONCURRENT_WAIT: Nanos = SECOND;

/// A request that may go on. Dropping it gives its places among those at a time back, and the tokens reserved for it
/// unless it has ended: then nobody was asked.
pub struct Admitted {
    holds: Vec<Hold>,
    at: Nanos,
    ended: bool,
}

/// What a request holds of one limit.
struct Hold {
    spec: Arc<RateLimitSpec>,
    /// Of the seat, in the order that it was asked in.
    seat: usize,
    bucket: Arc<Bucket>,
    request: Option<Taken>,
    tokens: Option<Taken>,
    /// How many more there could be.
    place: Option<u32>,
}

/// A request that may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index into the seats.
    pub seat: usize,
    pub kind: Kind,
    pub wait: Nanos,
}

/// What an exchange turned out to cost in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    Exactly(u64),
    /// The answer broke off, and said so much until then.
    AtLeast(u64),
    /// As much as was reserved, for nobody knows better.
    Unknown,
}

/// Asks all limits that are for the request. A refusal is counted, and leaves them as they were.
pub fn admit(seats: &[Seat], agent: &Agent, head: &Head<'_>, now: Nanos) -> Result<Admitted, Refused> {
    let mut admitted = Admitted { holds: Vec::with_capacity(seats.len()), at: now, ended: false };
    for (index, seat) in seats.iter().enumerate().filter(|(_, seat)| seat.is_for(agent, head)) {
        let mut hold = Hold::new(seat, index, seat.bucket(head, now));
        let taken = hold.take(now);
        admitted.holds.push(hold);
        if let Err((kind, wait)) = taken {
            admitted.undo(now);
            seat.limit.count_refusal(kind);
            return Err(Refused { seat: index, kind, wait });
        }
    }
    Ok(admitted)
}

impl Admitted {
    /// The exchange is over.
    pub fn end(mut self, spent: Spent, now: Nanos) {
        self.ended = true;
        self.holds.iter().for_each(|hold| hold.settle(spent, now));
    }

    fn undo(mut self, now: Nanos) {
        self.ended = true;
        self.holds.iter().for_each(|hold| hold.undo(now));
    }

    /// What was left when the request was let in: for each limit and kind, with the index of its seat.
    pub fn left(&self, now: Nanos) -> impl Iterator<Item = (usize, Kind, Left)> {
        self.holds.iter().flat_map(move |hold| hold.left(now).map(|(kind, left)| (hold.seat, kind, left)))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.ended {
            self.holds.iter().for_each(|hold| hold.settle(Spent::Exactly(0), self.at));
        }
        self.holds.iter().filter(|hold| hold.place.is_some()).for_each(|hold| hold.bucket.leave());
    }
}

impl Hold {
    fn new(seat: &Seat, index: usize, bucket: Arc<Bucket>) -> Self {
        Self { spec: seat.spec.clone(), seat: index, bucket, request: None, tokens: None, place: None }
    }

    /// Takes one after the other; what was taken before a refusal stays, to be undone.
    fn take(&mut self, now: Nanos) -> Result<(), (Kind, Nanos)> {
        if let Some(most) = self.spec.concurrent {
            self.place = Some(self.bucket.enter(most).map_err(|()| (Kind::Concurrent, CONCURRENT_WAIT))?);
        }
        if let Some(pace) = self.spec.requests {
            self.request = Some(self.bucket.take_request(pace, now).map_err(|wait| (Kind::Requests, wait))?);
        }
        if let Some(tokens) = self.spec.tokens {
            self.tokens = Some(self.bucket.reserve(tokens, now).map_err(|wait| (Kind::Tokens, wait))?);
        }
        Ok(())
    }

    fn undo(&self, now: Nanos) {
        if let (Some(pace), Some(taken)) = (self.spec.requests, self.request) {
            self.bucket.give_request_back(pace, taken, now);
        }
        self.settle(Spent::Exactly(0), now);
    }

    fn settle(&self, spent: Spent, now: Nanos) {
        let (Some(tokens), Some(taken)) = (self.spec.tokens, self.tokens) else { return };
        match spent {
            Spent::Exactly(cost) => self.bucket.settle(tokens, taken, cost, now),
            Spent::AtLeast(cost) => self.bucket.settle(tokens, taken, cost.max(taken.units), now),
            Spent::Unknown => {}
        }
        if let Spent::Exactly(cost) = spent
            && cost > 0
        {
            self.bucket.learn(cost);
        }
    }

    fn left(&self, now: Nanos) -> impl Iterator<Item = (Kind, Left)> {
        let requests = self.spec.requests.zip(self.request).map(|(pace, taken)| taken.left(pace, now));
        let tokens = self.spec.tokens.zip(self.tokens).map(|(tokens, taken)| taken.left(tokens.pace, now));
        let places = self.place.map(|more| Left { units: u64::from(more), full_in: None });
        let all = [(Kind::Requests, requests), (Kind::Tokens, tokens), (Kind::Concurrent, places)];
        all.into_iter().filter_map(|(kind, left)| Some((kind, left?)))
    }
}
