//! Conversations that keep their version: the table of pins.
//!
//! A pin says which version a conversation began on. The proxy's workers find and make pins, the control plane
//! counts, moves and evicts them; nobody waits for anybody for longer than it takes to look at one segment.
//! Pure: the time is handed in, in wall-clock seconds, so that pins may outlive the process.
//!
//! Bounds. At most `max` pins, 32 bytes each and one of the map's own, in at worst twice the room: 66 MiB for
//! a million. When the table is full, a new pin takes the place of the longest unused ones: of one segment
//! after the other a thirty-second is evicted, of its oldest pins as far as a sample tells, so that the cost of looking
//! is spread over as many pins. That is least recently used by sample, not exactly. Pins with a response in flight are never evicted; where nothing
//! else is left, a new pin is refused, and its conversation goes unpinned.

use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use dashmap::{DashMap, Entry};

use super::ids::{AgentId, EnvironmentId, VersionId};

mod hold;
mod key;
mod look;
mod manage;
mod place;
mod room;
mod seat;
pub(super) mod siphash;

pub use hold::Hold;
pub use key::{PinKey, PinSecret};
pub use manage::{Migrated, PinRecord};
pub use place::{PinAgent, Place};
pub use room::PinStats;
pub use seat::Seat;

/// Wall-clock seconds since 1970; good until 2106.
pub type Second = u32;

pub fn second(time: SystemTime) -> Second {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Second::try_from(since.as_secs()).unwrap_or(Second::MAX)
}

pub type SharedPins = Arc<Pins>;

/// The unit of eviction, of sweeping and of the checkpoint.
pub const SEGMENTS: usize = 256;

/// The table may be locked in so many places at a time, per segment. The least that the map allows.
const SHARDS_PER_SEGMENT: usize = 2;

/// A use is written down in the checkpoint no more often than this.
const TOUCH_SECONDS: Second = 64;

pub struct Pins {
    segments: Box<[Segment]>,
    names: place::Names,
    max: AtomicUsize,
    /// Pins that are there or about to be; never more than `max`, but for a while after that was lowered.
    taken: AtomicUsize,
    events: Events,
    next_victim: AtomicUsize,
    next_swept: AtomicUsize,
}

#[derive(Default)]
struct Segment {
    pins: Map,
    /// Since the checkpoint last asked.
    changed: AtomicBool,
}

type Map = DashMap<PinKey, Pin, BuildHasherDefault<key::AsItIs>>;

struct Pin {
    /// [`Place::number`]
    place: u32,
    created: Second,
    last_used: AtomicU32,
    in_flight: AtomicU32,
}

/// What has happened to pins so far.
#[derive(Default)]
struct Events {
    made: AtomicU64,
    found: AtomicU64,
    expired: AtomicU64,
    evicted: AtomicU64,
    dropped: AtomicU64,
    turned: AtomicU64,
    moved: AtomicU64,
    refused: AtomicU64,
}

/// Why a pin does not hold.
enum Lapse {
    /// Unused for longer than its time to live.
    Expired,
    /// Its version is gone or was rolled back.
    Dropped,
    /// Its turn is over, and the next one may be served by another version.
    Turned,
}

impl Pin {
    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// One used in the future was so by a clock that was ahead: it counts from now on, or it would never expire.
    fn idle_for(&self, now: Second) -> Second {
        let last_used = self.last_used.load(Ordering::Relaxed);
        if last_used > now {
            self.last_used.fetch_min(now, Ordering::Relaxed);
        }
        now.saturating_sub(last_used)
    }
}

impl Pins {
    /// `secret` is the instance's own: with another one, an earlier checkpoint's pins are never found again.
    pub fn new(secret: PinSecret, max: usize) -> SharedPins {
        let segment = || Segment {
            pins: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS_PER_SEGMENT),
            changed: AtomicBool::new(false),
        };
        Arc::new(Self {
            segments: (0..SEGMENTS).map(|_| segment()).collect(),
            names: place::Names::new(secret),
            max: AtomicUsize::new(max),
            taken: AtomicUsize::new(0),
            events: Events::default(),
            next_victim: AtomicUsize::new(0),
            next_swept: AtomicUsize::new(0),
        })
    }

    /// A new cap. Below what is there, the table grows no more, and gets smaller with each [`Pins::shrink`].
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// The version of an agent as pins name it.
    pub fn place(&self, environment: &EnvironmentId, agent: &AgentId, version: &VersionId) -> Arc<Place> {
        self.names.place(environment, agent, version)
    }

    /// The version that the conversation is held to, and a hold on it for the response that is to come.
    pub fn find(self: &Arc<Self>, seat: &Seat, key: PinKey, now: Second) -> Option<(Hold, usize)> {
        let segment = self.segment(key);
        let lapse = {
            let pin = segment.pins.get(&key)?;
            match seat.version_of(&pin, now) {
                Ok(version) => {
                    add(&self.events.found);
                    return Some((self.hold(segment, &pin, key, seat.place(version)?, now), version));
                }
                Err(lapse) => lapse,
            }
        };
        match lapse {
            // It stays, for the turn to come takes its place.
            Lapse::Turned => add(&self.events.turned),
            Lapse::Expired => self.forget(segment, key, seat, now, &self.events.expired),
            Lapse::Dropped => self.forget(segment, key, seat, now, &self.events.dropped),
        }
        None
    }

    /// The version that [`Pins::find`] would find. Holds nothing and counts nothing: for explanations.
    pub fn peek(&self, seat: &Seat, key: PinKey, now: Second) -> Option<usize> {
        let pin = self.segment(key).pins.get(&key)?;
        seat.version_of(&pin, now).ok()
    }

    /// Pins the conversation to `version`, if it is not pinned: of two requests that begin a conversation at the
    /// same time the first one's version counts for both. `None` where the table is full of pins in use.
    pub fn make(self: &Arc<Self>, seat: &Seat, key: PinKey, version: usize, now: Second) -> Option<(Hold, usize)> {
        let place = seat.place(version)?;
        if !self.take_room() {
            add(&self.events.refused);
            return None;
        }
        let segment = self.segment(key);
        let new =
            Pin { place: place.number, created: now, last_used: AtomicU32::new(now), in_flight: AtomicU32::new(0) };
        let made = match segment.pins.entry(key) {
            Entry::Vacant(entry) => entry.insert(new).downgrade(),
            Entry::Occupied(mut entry) => {
                // One pin for one conversation: the room is not needed after all.
                self.taken.fetch_sub(1, Ordering::Relaxed);
                if let Ok(version) = seat.version_of(entry.get(), now) {
                    let hold = self.hold(segment, entry.get(), key, seat.place(version)?, now);
                    return Some((hold, version));
                }
                self.left(entry.get());
                entry.insert(new);
                entry.into_ref().downgrade()
            }
        };
        place.conversations.fetch_add(1, Ordering::Relaxed);
        segment.changed.store(true, Ordering::Relaxed);
        add(&self.events.made);
        Some((self.hold(segment, &made, key, place, now), version))
    }

    fn segment(&self, key: PinKey) -> &Segment {
        &self.segments[key.segment(SEGMENTS)]
    }

    /// Under the pin's lock, so that nobody moves or evicts it meanwhile.
    fn hold(self: &Arc<Self>, segment: &Segment, pin: &Pin, key: PinKey, place: &Arc<Place>, now: Second) -> Hold {
        segment.touch(pin, now);
        pin.in_flight.fetch_add(1, Ordering::Relaxed);
        place.in_flight.fetch_add(1, Ordering::Relaxed);
        Hold::new(self.clone(), key, place.clone(), pin.created)
    }

    /// Removes a pin that does not hold any more, unless it was renewed meanwhile.
    fn forget(&self, segment: &Segment, key: PinKey, seat: &Seat, now: Second, event: &AtomicU64) {
        if let Some((_, pin)) = segment.pins.remove_if(&key, |_, pin| seat.version_of(pin, now).is_err()) {
            segment.changed.store(true, Ordering::Relaxed);
            self.left(&pin);
            self.taken.fetch_sub(1, Ordering::Relaxed);
            add(event);
        }
    }

    /// A conversation has left its version.
    fn left(&self, pin: &Pin) {
        if let Some(place) = self.names.by_number(pin.place) {
            place.conversations.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The end of a response that was held.
    fn release(&self, key: PinKey, place: &Place, created: Second, now: Option<Second>) {
        place.in_flight.fetch_sub(1, Ordering::Relaxed);
        let segment = self.segment(key);
        let Some(pin) = segment.pins.get(&key) else { return };
        // Another pin of the same conversation, if this one was dropped meanwhile, is none of ours.
        if (pin.place, pin.created) == (place.number, created) {
            // Never below zero: a pin dropped and made anew within one second looks the same.
            let _ = pin.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| held.checked_sub(1));
            if let Some(now) = now {
                segment.touch(&pin, now);
            }
        }
    }
}

impl Segment {
    fn touch(&self, pin: &Pin, now: Second) {
        let before = pin.last_used.fetch_max(now, Ordering::Relaxed);
        if before / TOUCH_SECONDS < now / TOUCH_SECONDS {
            self.changed.store(true, Ordering::Relaxed);
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
