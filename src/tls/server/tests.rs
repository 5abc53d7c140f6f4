use std::path::Path;

use super::*;
use crate::tls::fixture::Authority;

fn spec(directory: &Path, names: &[&str], ca: Option<&str>) -> ServerSpec {
    let file = |name: &str, extension| directory.join(format!("{name}.{extension}"));
    let pair = |name: &&str| PairSpec { cert: file(name, "pem"), key: file(name, "key") };
    ServerSpec {
        certificates: names.iter().map(pair).collect(),
        client_auth: ca.map(|ca| ClientAuth { ca: file(ca, "pem"), required: true }),
        min_version: MinVersion::Tls12,
    }
}

fn served(spec: &ServerSpec, live: Option<&Server>) -> Result<Server, TlsError> {
    Server::new(spec, &[HTTP2, HTTP1], &mut Files::default(), live)
}

#[test]
fn sessions_outlive_certificates_of_ours_and_end_with_the_authorities_of_clients() {
    let (ca, directory) = (Authority::new("root"), tempfile::tempdir().unwrap());
    let at = directory.path();
    std::fs::write(at.join("ca.pem"), ca.pem()).unwrap();
    ca.issue(&["a.example"]).write(at, "a");
    let checked = served(&spec(at, &["a"], Some("ca")), None).unwrap();
    let same = |next: &Server| Arc::ptr_eq(&next.config.ticketer, &checked.config.ticketer);

    ca.issue(&["a.example"]).write(at, "a");
    assert!(same(&served(&spec(at, &["a"], Some("ca")), Some(&checked)).unwrap()));
    assert!(!same(&served(&spec(at, &["a"], None), Some(&checked)).unwrap()));
    std::fs::write(at.join("ca.pem"), Authority::new("another").pem()).unwrap();
    assert!(!same(&served(&spec(at, &["a"], Some("ca")), Some(&checked)).unwrap()));
}

#[test]
fn what_has_expired_never_takes_the_place_of_what_has_not() {
    let (ca, directory) = (Authority::new("root"), tempfile::tempdir().unwrap());
    let at = directory.path();
    let spec = spec(at, &["a"], None);
    let old = || ca.issue_with(&["a.example"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 2));
    old().write(at, "a");
    let expired = served(&spec, None).expect("better than nothing");
    old().write(at, "a");
    assert!(served(&spec, Some(&expired)).is_ok());
    ca.issue(&["a.example"]).write(at, "a");
    let good = served(&spec, Some(&expired)).unwrap();
    old().write(at, "a");
    let error = served(&spec, Some(&good)).err().expect("is refused").to_string();
    assert!(
        error.ends_with("a.pem: has expired on 2020-01-02T00:00:00Z, and the certificate in use has not"),
        "{error}"
    );
}

#[test]
fn a_certificate_that_nobody_would_get_is_refused() {
    let (ca, directory) = (Authority::new("root"), tempfile::tempdir().unwrap());
    let at = directory.path();
    ca.issue(&["a.example"]).write(at, "a");
    ca.issue(&["127.0.0.1"]).write(at, "b");
    assert!(served(&spec(at, &["b", "a"], None), None).is_ok(), "the first is for all others");
    let error = served(&spec(at, &["a", "b"], None), None).err().expect("is refused").to_string();
    assert!(error.contains("b.pem: has no DNS name (subjectAltName)"), "{error}");
}

#[test]
fn the_authorities_of_clients_must_be_some() {
    let (ca, directory) = (Authority::new("root"), tempfile::tempdir().unwrap());
    let at = directory.path();
    ca.issue(&["a.example"]).write(at, "a");
    let refused = || served(&spec(at, &["a"], Some("ca")), None).err().expect("is refused").to_string();
    assert!(refused().contains("ca.pem: cannot be read"), "{}", refused());
    std::fs::write(at.join("ca.pem"), "").unwrap();
    assert!(refused().contains("ca.pem: has no certificate"), "{}", refused());
}
