//! What the users saw: every answer, by the version that gave it.
//!
//! Bounds: single answers are kept for [`WINDOW`] and never more than [`MAX_RECENT`]; all else is counts
//! and one entry per user.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::traffic::USERS;

/// What the live figures are taken over.
pub const WINDOW: Duration = Duration::from_secs(1);
/// More answers than this within the window are left out of the live figures.
const MAX_RECENT: usize = 10_000;

/// Which of the two versions answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    Stable,
    Canary,
}

/// One exchange as its user saw it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub user: usize,
    pub sent: Instant,
    pub ended: Instant,
    /// `None`: no answer, or one of the proxy's own.
    pub arm: Option<Arm>,
    pub failed: bool,
}

#[derive(Clone, Debug)]
pub struct Ledger {
    recent: VecDeque<Seen>,
    /// Which version each user saw last.
    last: Vec<Option<Arm>>,
    pub answers: u64,
    /// Failed answers of the canary, and who got them.
    pub failed: u64,
    pub hurt: BTreeSet<usize>,
    /// Failed answers that no version gave or that stable gave, and exchanges that broke.
    pub other_failures: u64,
    pub first_failure: Option<Instant>,
    pub last_sent_to_canary: Option<Instant>,
    /// Users whom the ramp took back from the canary while it was healthy. Bucketing promises none.
    pub moved_back: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            last: vec![None; USERS],
            answers: 0,
            failed: 0,
            hurt: BTreeSet::new(),
            other_failures: 0,
            first_failure: None,
            last_sent_to_canary: None,
            moved_back: 0,
        }
    }
}

/// The figures of the last [`WINDOW`].
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub stable: ArmView,
    pub canary: ArmView,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmView {
    /// Answers in the window.
    pub answers: usize,
    /// Of the answers of both arms, 0..=1.
    pub share: f64,
    /// Of this arm's answers, 0..=1.
    pub failed: f64,
    pub p50: Option<Duration>,
    pub p95: Option<Duration>,
    /// How many users saw this version last.
    pub users: usize,
}

impl Ledger {
    pub fn record(&mut self, seen: Seen) {
        self.answers += 1;
        match seen.arm {
            Some(Arm::Canary) => self.record_canary(seen),
            _ if seen.failed => self.other_failures += 1,
            _ => {}
        }
        if let (Some(arm), Some(last)) = (seen.arm, self.last.get_mut(seen.user)) {
            if arm == Arm::Stable && *last == Some(Arm::Canary) && self.first_failure.is_none() {
                self.moved_back += 1;
            }
            *last = Some(arm);
        }
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
    }

    fn record_canary(&mut self, seen: Seen) {
        self.last_sent_to_canary = self.last_sent_to_canary.max(Some(seen.sent));
        if seen.failed {
            self.failed += 1;
            self.hurt.insert(seen.user);
            self.first_failure.get_or_insert(seen.ended);
        }
    }

    /// The live figures; answers older than the window are let go.
    pub fn view(&mut self, now: Instant) -> View {
        while self.recent.front().is_some_and(|seen| now.saturating_duration_since(seen.ended) > WINDOW) {
            self.recent.pop_front();
        }
        View { stable: self.arm(Arm::Stable), canary: self.arm(Arm::Canary) }
    }

    fn arm(&self, arm: Arm) -> ArmView {
        let by_versions = self.recent.iter().filter(|seen| seen.arm.is_some()).count();
        let seen: Vec<_> = self.recent.iter().filter(|seen| seen.arm == Some(arm)).collect();
        let mut latencies: Vec<_> = seen.iter().map(|s| s.ended.saturating_duration_since(s.sent)).collect();
        latencies.sort_unstable();
        ArmView {
            answers: seen.len(),
            share: fraction(seen.len(), by_versions),
            failed: fraction(seen.iter().filter(|s| s.failed).count(), seen.len()),
            p50: quantile(&latencies, 0.5),
            p95: quantile(&latencies, 0.95),
            users: self.last.iter().filter(|last| **last == Some(arm)).count(),
        }
    }
}

fn fraction(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn quantile(sorted: &[Duration], q: f64) -> Option<Duration> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The users write, the screen reads.
#[derive(Clone, Default)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Nothing panics while it is held; figures of a demo are no reason to fall over if something did.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
