//! Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 §3).
//!
//! The whole name first, then `*.` for one label more; then the first certificate of all. Of several for one name, the
//! first that the client can check the signature of: RSA beside ECDSA.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::pair::Pair;

#[derive(Debug)]
pub(super) struct ByName {
    /// `*.example.com` stands under `.example.com`.
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn new(pairs: &[Pair]) -> Self {
        let mut names: HashMap<String, Vec<_>> = HashMap::new();
        for pair in pairs {
            for name in &pair.certificate.dns {
                let name = name.strip_prefix('*').unwrap_or(name);
                names.entry(name.to_owned()).or_default().push(pair.key.clone());
            }
        }
        // With those of the same names: one may be RSA, the other ECDSA.
        let is_default = |pair: &&Pair| pair.certificate.dns == pairs[0].certificate.dns;
        let default = pairs.iter().filter(is_default).map(|pair| pair.key.clone()).collect();
        Self { names, default }
    }

    fn of(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let parent = name.find('.').map_or("", |dot| &name[dot..]);
        self.names.get(&name).or_else(|| self.names.get(parent)).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = hello.server_name().map_or(&self.default[..], |name| self.of(name));
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        keys.iter().find(fits).or(keys.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::files::Files;
    use crate::tls::fixture::Authority;
    use crate::tls::pair::PairSpec;

    #[test]
    fn a_name_is_met_whole_then_by_its_wildcard_then_by_the_first() {
        let (ca, directory) = (Authority::new("root"), tempfile::tempdir().expect("a directory"));
        let pair = |name: &str, names: &[&str]| {
            ca.issue(names).write(directory.path(), name);
            let file = |extension| directory.path().join(format!("{name}.{extension}"));
            let spec = PairSpec { cert: file("pem"), key: file("key") };
            Pair::read(&mut Files::default(), &spec).expect("a pair")
        };
        let pairs = [
            pair("first", &["first.example"]),
            pair("wild", &["*.a.example", "a.example"]),
            pair("exact", &["www.a.example"]),
        ];
        let names = ByName::new(&pairs);
        let of = |name: &str| {
            let found = names.of(name);
            pairs.iter().position(|pair| Arc::ptr_eq(&pair.key, &found[0])).expect("is one of them")
        };
        let cases = [
            ("first.example", 0),
            ("A.Example", 1),
            ("x.a.example", 1),
            ("WWW.a.example", 2),
            ("x.www.a.example", 0),
            ("x.y.a.example", 0),
            ("example", 0),
            ("", 0),
        ];
        for (name, expected) in cases {
            assert_eq!(of(name), expected, "{name}");
        }
    }
}
