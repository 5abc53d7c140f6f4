//! A certificate chain and the private key that belongs to it, from two PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::Certificate;
use super::files::Files;
use super::{TlsError, provider};

/// Where a pair is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PairSpec {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A pair that fits, ready to sign with.
#[derive(Debug)]
pub struct Pair {
    pub key: Arc<CertifiedKey>,
    /// What its first certificate says.
    pub certificate: Certificate,
}

impl Pair {
    pub fn read(files: &mut Files, spec: &PairSpec) -> Result<Self, TlsError> {
        let chain = chain(files, &spec.cert)?;
        let first = chain.first().map_or(&[][..], |first| first.as_ref());
        let certificate = Certificate::read(first)
            .map_err(|error| TlsError::new(&spec.cert, format!("the first certificate cannot be read: {error}")))?;
        let key = private_key(files, &spec.key)?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| misfit(spec, &error))?;
        Ok(Self { key: Arc::new(key), certificate })
    }
}

fn misfit(spec: &PairSpec, error: &Error) -> TlsError {
    let cert = spec.cert.display();
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let remedy = "give the two files of one pair; in a chain, the holder's own certificate comes first";
            TlsError::new(&spec.key, format!("the private key does not belong to the certificate in {cert}; {remedy}"))
        }
        Error::InvalidCertificate(_) => {
            TlsError::new(&spec.cert, format!("the first certificate cannot be used: {error}"))
        }
        _ => TlsError::new(
            &spec.key,
            format!("the private key cannot be used: {error}; expected RSA of 2048 to 8192 bits, ECDSA or Ed25519"),
        ),
    }
}

/// At least one certificate, in the file's order.
pub(super) fn chain(files: &mut Files, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = files.read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| TlsError::new(path, format!("is not sound PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError::new(path, "has no certificate; expected PEM: `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(chain)
}

fn private_key(files: &mut Files, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = files.read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound if memchr::memmem::find(&text, b"ENCRYPTED PRIVATE KEY").is_some() => {
            TlsError::new(path, "the private key is encrypted; expected it in clear, as `openssl pkey` writes it")
        }
        PemError::NoItemsFound => {
            TlsError::new(path, "has no private key; expected PEM: `-----BEGIN PRIVATE KEY-----`")
        }
        error => TlsError::new(path, format!("is not sound PEM: {error}")),
    })
}
