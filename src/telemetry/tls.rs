//! Figures of TLS: how handshakes with clients ended, and how our certificates stand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::counters::add;

/// How a handshake with a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Handshake {
    /// All of it was done.
    Full,
    /// An earlier session went on.
    Resumed,
    /// The client spoke HTTP without TLS.
    Plaintext,
    /// It took longer than it may.
    Timeout,
    /// The client has gone before the end.
    Closed,
    /// No version, cipher or application protocol that both know.
    NothingInCommon,
    /// A certificate is required of the client, and it had none.
    NoCertificate,
    /// The client's certificate is not one to be trusted.
    BadCertificate,
    /// The client has refused: our certificate, mostly.
    RefusedByClient,
    /// What it sent is not TLS, or breaks its rules.
    Malformed,
}

impl Handshake {
    pub const ALL: [Self; 10] = [
        Self::Full,
        Self::Resumed,
        Self::Plaintext,
        Self::Timeout,
        Self::Closed,
        Self::NothingInCommon,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::RefusedByClient,
        Self::Malformed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Plaintext => "plaintext",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NothingInCommon => "nothing_in_common",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByClient => "refused_by_client",
            Self::Malformed => "malformed",
        }
    }
}

/// One worker's counts.
#[derive(Default)]
pub struct HandshakeCounters([AtomicU64; Handshake::ALL.len()]);

impl HandshakeCounters {
    pub fn count(&self, result: Handshake) {
        add(&self.0[result as usize]);
    }

    pub fn counted(&self, result: Handshake) -> u64 {
        self.0[result as usize].load(Ordering::Relaxed)
    }
}

/// What the scrape shows of certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFigures {
    /// Each file once.
    pub certificates: Vec<CertificateFigures>,
    /// Changed files that came into use, and that did not.
    pub renewed: u64,
    pub refused: u64,
    /// How many wait for files that can be used.
    pub failing: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFigures {
    pub file: String,
    pub not_after: SystemTime,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_result_has_its_own_place_and_name() {
        let counters = HandshakeCounters::default();
        for (index, result) in Handshake::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, index, "{result:?}");
            (0..=index).for_each(|_| counters.count(result));
        }
        assert!(Handshake::ALL.iter().zip(1..).all(|(result, count)| counters.counted(*result) == count));
        let names: HashSet<_> = Handshake::ALL.iter().map(|result| result.as_str()).collect();
        assert_eq!(names.len(), Handshake::ALL.len());
    }
}
