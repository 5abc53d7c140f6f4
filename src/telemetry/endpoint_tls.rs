//! How TLS handshakes with endpoints ended.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts};

/// How one ended: the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// It went on from an earlier session: shorter, and without certificates.
    Resumed,
    /// No authority that is believed stands behind the endpoint's certificate.
    UnknownIssuer,
    /// The endpoint's certificate is not good any more, or not yet.
    Expired,
    /// The endpoint's certificate is another name's.
    WrongName,
    /// The endpoint's certificate cannot be used for another reason.
    BadCertificate,
    /// The endpoint has refused: most often our certificate, or that there is none.
    Refused,
    /// It does not speak the agent's `protocol` within TLS.
    NoProtocol,
    /// The connection ended, or broke, before the handshake had.
    Closed,
    /// What came is not TLS, or none that we speak.
    NotTls,
    /// Our own files or names cannot be used.
    Settings,
}

impl Handshake {
    pub const ALL: [Self; 11] = [
        Self::Full,
        Self::Resumed,
        Self::UnknownIssuer,
        Self::Expired,
        Self::WrongName,
        Self::BadCertificate,
        Self::Refused,
        Self::NoProtocol,
        Self::Closed,
        Self::NotTls,
        Self::Settings,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "expired",
            Self::WrongName => "wrong_name",
            Self::BadCertificate => "bad_certificate",
            Self::Refused => "refused",
            Self::NoProtocol => "no_protocol",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Settings => "settings",
        }
    }
}

/// Of all threads: a handshake costs a thousand times what its count does. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct HandshakeCounts(IntCounterVec);

impl Default for HandshakeCounts {
    fn default() -> Self {
        let help = "TLS handshakes with endpoints, and with other servers that are asked, by how they ended.";
        let opts = Opts::new("pointsman_upstream_tls_handshakes_total", help);
        // A constant name that a unit test makes.
        let counts = Self(IntCounterVec::new(opts, &["result"]).expect("a sound name"));
        for result in Handshake::ALL {
            counts.0.with_label_values(&[result.as_str()]);
        }
        counts
    }
}

impl HandshakeCounts {
    pub fn add(&self, ended: Handshake) {
        self.0.with_label_values(&[ended.as_str()]).inc();
    }

    /// For [`super::metrics::Metrics::register`].
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_result_has_its_own_name_and_is_there_before_it_first_happens() {
        let names: HashSet<_> = Handshake::ALL.iter().map(|result| result.as_str()).collect();
        assert_eq!(names.len(), Handshake::ALL.len());
        let counts = HandshakeCounts::default();
        counts.add(Handshake::Resumed);
        let families = counts.collector().collect();
        let of = |metric: &prometheus::proto::Metric| {
            (metric.get_label()[0].value().to_owned(), metric.get_counter().get_value() as u64)
        };
        let shown: HashSet<_> = families[0].get_metric().iter().map(of).collect();
        let expected = names.into_iter().map(|name| (name.to_owned(), u64::from(name == "resumed"))).collect();
        assert_eq!(shown, expected);
    }
}
