//! The authorities that a peer's certificate is checked against.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;

use super::TlsError;
use super::files::Files;
use super::pair::chain;

/// Those of a PEM file, every one of which must be of use.
pub fn read(files: &mut Files, path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in chain(files, path)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            TlsError::new(path, format!("certificate {} cannot be an authority: {error}", index + 1))
        })?;
    }
    Ok(Arc::new(roots))
}
