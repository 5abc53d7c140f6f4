//! TLS towards clients. Whether the files are there, and good, is found when they are read: see [`crate::tls`].

use super::super::file;
use super::super::scalar::Text;
use super::scope::Scope;
use crate::tls::pair::PairSpec;
use crate::tls::server::{ClientAuth, ServerSpec};

const MAX_CERTIFICATES: usize = 1_000;

/// `path` is where it stands. What is wrong is reported, and the rest good for finding more errors.
pub(super) fn check(given: file::Tls, path: &str, scope: &mut Scope<'_, '_>) -> ServerSpec {
    let certificates = format!("{path}.certificates");
    let count = given.certificates.len();
    if count == 0 && !scope.is_damaged(&certificates) {
        scope.error(&certificates, "there is no certificate; expected at least one: `{ cert: …, key: … }`");
    }
    if count > MAX_CERTIFICATES {
        scope.error(&certificates, format!("{count} certificates; expected at most {MAX_CERTIFICATES}"));
    }
    for (position, pair) in scope.positions(&certificates).1.into_iter().zip(&given.certificates) {
        check_path(&pair.cert, &format!("{certificates}[{position}].cert"), scope);
        check_path(&pair.key, &format!("{certificates}[{position}].key"), scope);
    }
    if let Some(auth) = &given.client_auth {
        check_path(&auth.ca, &format!("{path}.client_auth.ca"), scope);
    }
    let pair = |pair: file::TlsCertificate| PairSpec { cert: pair.cert.0.into(), key: pair.key.0.into() };
    let client_auth = |auth: file::ClientAuth| ClientAuth {
        ca: auth.ca.0.into(),
        required: auth.mode.unwrap_or_default() == file::ClientAuthMode::Required,
    };
    ServerSpec {
        certificates: given.certificates.into_iter().map(pair).collect(),
        client_auth: given.client_auth.map(client_auth),
        min_version: given.min_version.map(|Text(version)| version).unwrap_or_default(),
    }
}

/// A secret is kept in a file, and a file is named by its path.
pub(super) fn check_path(Text(written): &Text<String>, path: &str, scope: &mut Scope<'_, '_>) {
    if written.is_empty() {
        scope.error(path, "is empty; expected the path of a PEM file");
    } else if written.contains("-----BEGIN") {
        scope.error(path, "is PEM itself; expected the path of a file that holds it");
    }
}
