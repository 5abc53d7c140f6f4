//! Why endpoints were taken out of service, how often: a closed list, the metric label `reason`.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was wrong with an endpoint when it was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EjectionReason {
    ConnectFailed,
    ConnectTimeout,
    TlsFailed,
    /// The connection or stream ended before a whole response head.
    Reset,
    /// Not HTTP, or HTTP that must not be passed on.
    BadResponse,
    /// No response head in time.
    ResponseTimeout,
    /// A status that counts as a failure.
    Status,
    /// The answer broke off before its end.
    Truncated,
    /// The answer stood still for too long.
    Stalled,
    /// A standing check failed.
    Check,
}

impl EjectionReason {
    pub const ALL: [Self; 10] = [
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::TlsFailed,
        Self::Reset,
        Self::BadResponse,
        Self::ResponseTimeout,
        Self::Status,
        Self::Truncated,
        Self::Stalled,
        Self::Check,
    ];

    /// Whether it came after the head of an answer.
    pub fn is_of_the_body(self) -> bool {
        matches!(self, Self::Truncated | Self::Stalled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsFailed => "tls_failed",
            Self::Reset => "reset",
            Self::BadResponse => "bad_response",
            Self::ResponseTimeout => "response_timeout",
            Self::Status => "status",
            Self::Truncated => "truncated",
            Self::Stalled => "stalled",
            Self::Check => "check",
        }
    }
}

/// How many ejections a version's endpoints had, by reason. Any thread may add: it is rare.
#[derive(Debug, Default)]
pub struct Ejections([AtomicU64; EjectionReason::ALL.len()]);

impl Ejections {
    pub fn add(&self, reason: EjectionReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, reason: EjectionReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_place_and_name() {
        let ejections = Ejections::default();
        ejections.add(EjectionReason::Status);
        for (index, reason) in EjectionReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
            assert_eq!(ejections.count(reason), u64::from(reason == EjectionReason::Status));
        }
        let names: std::collections::HashSet<_> = EjectionReason::ALL.map(EjectionReason::as_str).into();
        assert_eq!(names.len(), EjectionReason::ALL.len());
    }
}
