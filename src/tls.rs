//! TLS: what is made of certificate files, and made anew when they change.
//!
//! [`files`] reads what is on the disk, and knows when it is another; [`pair`] is a certificate chain with its key,
//! [`roots`] the authorities that a peer's is checked against, [`certificate`] what a certificate says; [`reload`]
//! keeps what was made of files up to date. [`server`] is how we meet clients: names, versions, resumption, their own
//! certificates; [`client`] how we meet endpoints.
//!
//! The cryptography is AWS-LC's, chosen here and nowhere else: there is no process-wide default that another crate
//! could set. No session keys are logged, and no early data (0-RTT) is taken: it can be replayed.
//!
//! Bounds: [`files::MAX_BYTES`] of a file. A bad new file changes nothing: what was live stays.

pub mod certificate;
pub mod client;
pub mod files;
pub mod pair;
pub mod reload;
pub mod roots;
pub mod server;

#[cfg(test)]
pub(crate) mod fixture;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The cryptography of every connection.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// Why nothing can be made of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    file: PathBuf,
    what: String,
}

impl TlsError {
    pub fn new(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for TlsError {}
