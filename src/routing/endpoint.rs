//! Which of a version's endpoints are fit to be sent requests, as far as requests and checks have shown.
//! Pure: times and randomness are handed in.
//!
//! - So many failures in a row eject an endpoint: so many attempts without the head of a good answer, or so many
//!   answers that broke off, counted apart, for a long answer says late how it ends. The time that it is out doubles with each ejection in a row, up to a
//!   limit, and is a little random, so that what failed together does not come back together.
//! - When that time is over, one request goes there as a probe. It brings the endpoint back, or ejects it again.
//! - What is back and stays good lives its past down: one ejection for each `base_time`.
//! - A standing check that fails takes its endpoint out until it passes.
//! - At most `max_ejected` of a version's endpoints are out, and never all: with one, none ever is. Beyond that a bad
//!   endpoint is kept, and goes as soon as another one comes back.
//!
//! Bounds: 48 bytes an endpoint, shared by all workers and by all tables that have the endpoint. In service and without
//! a failure it is only ever read.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use super::table::Endpoint;
use crate::telemetry::endpoints::EjectionReason;

mod rule;
#[cfg(test)]
mod tests;

pub use rule::EjectionSpec;

/// Milliseconds of a clock that never goes back and begins when it is first read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    pub fn at(now: Instant) -> Self {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let since = now.saturating_duration_since(*FIRST.get_or_init(|| now));
        Self(1).after(since)
    }

    fn after(self, time: Duration) -> Self {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms).min(!CHECK))
    }
}

/// What is known of one endpoint of a version.
#[derive(Debug, Default)]
pub struct EndpointHealth {
    /// 0: in service. Else [`CHECK`], the [`Tick`] until which it is ejected, or both.
    out: AtomicU64,
    /// Attempts in a row without a good head.
    failures: AtomicU32,
    /// Answers in a row that broke off.
    broken: AtomicU32,
    /// In a row.
    ejections: AtomicU32,
    /// When it last came back from an ejection.
    returned: AtomicU64,
    /// The last word of its checks.
    fails_checks: AtomicBool,
    /// Why it was last ejected, as an index.
    reason: AtomicU8,
}

/// Taken out by a check.
const CHECK: u64 = 1 << 63;

/// What a request is to the endpoint that it is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// One of many to an endpoint in service.
    Plain,
    /// The first after the time of an ejection.
    Probe,
    /// To an endpoint that is out, for there is none better.
    Anyway,
}

/// An endpoint was ejected, or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    pub time: Duration,
    /// With this one.
    pub in_a_row: u32,
}

/// What an endpoint is to who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndpointState {
    InService,
    /// It would be out, but `max_ejected` are.
    Kept,
    Ejected,
    /// Its standing checks fail.
    Unhealthy,
}

impl EndpointState {
    pub const ALL: [Self; 4] = [Self::InService, Self::Kept, Self::Ejected, Self::Unhealthy];

    /// The stable code of metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InService => "in_service",
            Self::Kept => "kept",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One endpoint at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    pub state: EndpointState,
    /// What is left of its ejection; zero where it waits for its probe.
    pub ejected_for: Option<Duration>,
    /// Why it was last ejected, unless that is lived down.
    pub reason: Option<EjectionReason>,
    pub failures_in_a_row: u32,
    pub ejections_in_a_row: u32,
}

impl EndpointHealth {
    pub fn is_in_service(&self) -> bool {
        self.out.load(Relaxed) == 0
    }

    /// Whether the time of its ejection is over, and this caller is the one to send the probe. If no word comes of
    /// it, there is another one after `base_time`.
    pub fn take_probe(&self, spec: &EjectionSpec, now: Tick) -> bool {
        let until = self.out.load(Relaxed);
        let due = until != 0 && until & CHECK == 0 && until <= now.0;
        due && self.out.compare_exchange(until, now.after(spec.base_time).0, Relaxed, Relaxed).is_ok()
    }

    /// The head of an answer that is no failure.
    pub fn answered(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Its end. Whether that brings the endpoint back.
    pub fn completed(&self, sent: Sent, now: impl FnOnce() -> Tick) -> bool {
        if self.broken.load(Relaxed) != 0 {
            self.broken.store(0, Relaxed);
        }
        sent != Sent::Plain && self.come_back(now)
    }

    fn come_back(&self, now: impl FnOnce() -> Tick) -> bool {
        let before = self.out.fetch_and(CHECK, SeqCst);
        if before & !CHECK != 0 {
            self.returned.store(now().0, Relaxed);
        }
        before != 0 && before & CHECK == 0
    }

    /// Those that are not lived down yet.
    fn ejections_at(&self, spec: &EjectionSpec, now: Tick) -> u32 {
        let good = now.0.saturating_sub(self.returned.load(Relaxed));
        let base = u64::try_from(spec.base_time.as_millis()).unwrap_or(u64::MAX).max(1);
        let lived_down = u32::try_from(good / base).unwrap_or(u32::MAX);
        self.ejections.load(Relaxed).saturating_sub(lived_down)
    }

    /// It is out for `time`, after so many ejections in a row.
    fn ejected(&self, time: Duration, before: u32, reason: EjectionReason) -> Ejected {
        let in_a_row = before.saturating_add(1);
        self.failures.store(0, Relaxed);
        self.broken.store(0, Relaxed);
        self.reason.store(reason as u8, Relaxed);
        self.ejections.store(in_a_row, Relaxed);
        Ejected { time, in_a_row }
    }

    pub fn view(&self, spec: &EjectionSpec, now: Tick) -> EndpointView {
        let (out, failures) = (self.out.load(Relaxed), self.failures.load(Relaxed).max(self.broken.load(Relaxed)));
        let is_bad =
            self.fails_checks.load(Relaxed) || spec.consecutive_failures.is_some_and(|limit| failures >= limit);
        let state = match out {
            0 if is_bad => EndpointState::Kept,
            0 => EndpointState::InService,
            out if out & CHECK != 0 => EndpointState::Unhealthy,
            _ => EndpointState::Ejected,
        };
        let until = out & !CHECK;
        let ejections_in_a_row = if until == 0 { self.ejections_at(spec, now) } else { self.ejections.load(Relaxed) };
        let reason = EjectionReason::ALL.get(usize::from(self.reason.load(Relaxed))).copied();
        EndpointView {
            state,
            ejected_for: (until != 0).then(|| Duration::from_millis(until.saturating_sub(now.0))),
            reason: reason.filter(|_| ejections_in_a_row > 0),
            failures_in_a_row: failures,
            ejections_in_a_row,
        }
    }
}

/// All endpoints of one version, and the rule that they are under.
#[derive(Clone, Copy)]
pub struct Endpoints<'a> {
    pub all: &'a [Endpoint],
    pub rule: &'a EjectionSpec,
}

impl<'a> Endpoints<'a> {
    pub fn health(&self, index: usize) -> &'a EndpointHealth {
        &self.all[index].health
    }

    fn are_too_many_out(&self) -> bool {
        let out = self.all.iter().filter(|endpoint| endpoint.health.out.load(SeqCst) != 0).count();
        out > self.rule.most_out(self.all.len())
    }

    /// A failure that is the endpoint's. Whether that ejects it.
    pub fn failed(&self, index: usize, sent: Sent, reason: EjectionReason, now: Tick, random: u64) -> Option<Ejected> {
        let (health, rule) = (self.health(index), self.rule);
        let Some(limit) = rule.consecutive_failures else {
            // Of an ejection before the rule was taken away.
            health.come_back(|| now);
            return None;
        };
        match sent {
            Sent::Anyway => None,
            Sent::Probe if health.out.load(SeqCst) & !CHECK != 0 => {
                let before = health.ejections.load(Relaxed);
                let time = rule.time(before, random);
                let again = |out| Some(out & CHECK | now.after(time).0);
                let _ = health.out.fetch_update(SeqCst, SeqCst, again);
                Some(health.ejected(time, before, reason))
            }
            // Also a late word of a probe, where another one has brought the endpoint back.
            Sent::Plain | Sent::Probe => {
                let failures = if reason.is_of_the_body() { &health.broken } else { &health.failures };
                let is_last_straw = failures.fetch_add(1, Relaxed).saturating_add(1) >= limit;
                if is_last_straw { self.eject(health, reason, now, random) } else { None }
            }
        }
    }

    fn eject(&self, health: &EndpointHealth, reason: EjectionReason, now: Tick, random: u64) -> Option<Ejected> {
        let before = health.ejections_at(self.rule, now);
        let time = self.rule.time(before, random);
        let until = now.after(time).0;
        // It counts as out before the others are counted: of two that go at once, one at least sees the other.
        health.out.compare_exchange(0, until, SeqCst, SeqCst).ok()?;
        if self.are_too_many_out() {
            let _ = health.out.compare_exchange(until, 0, SeqCst, SeqCst);
            return None;
        }
        Some(health.ejected(time, before, reason))
    }

    /// The word of its standing checks. Whether that took it out or brought it back.
    pub fn checked(&self, index: usize, passes: bool) -> bool {
        let health = self.health(index);
        if health.fails_checks.load(Relaxed) == passes {
            health.fails_checks.store(!passes, Relaxed);
        }
        if passes {
            return health.out.fetch_and(!CHECK, SeqCst) == CHECK;
        }
        if health.out.load(Relaxed) & CHECK != 0 {
            return false;
        }
        if health.out.fetch_or(CHECK, SeqCst) == 0 && self.are_too_many_out() {
            health.out.fetch_and(!CHECK, SeqCst);
            return false;
        }
        true
    }
}
