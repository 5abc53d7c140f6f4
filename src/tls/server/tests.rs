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
        error.ends_with("a.pem: has expired on 2020-01-02T00:00:00Z, and the certificate in use is good"),
        "{error}"
    );
    let tomorrow = ca.issue_with(&["a.example"], |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    tomorrow.write(at, "a");
    let error = served(&spec, Some(&good)).err().expect("is refused").to_string();
    assert!(error.contains("is not valid before 4000-01-01T00:00:00Z"), "{error}");
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

/// Both ends of a connection, the handshake done.
fn met(server: &Server, client: rustls::ClientConfig) -> ServerConnection {
    let name = rustls_pki_types::ServerName::try_from("a.example").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server.config.clone()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    server
}

#[test]
fn a_client_is_known_as_long_as_its_certificate_is_good() {
    let (ca, directory) = (Authority::new("root"), tempfile::tempdir().unwrap());
    let at = directory.path();
    std::fs::write(at.join("ca.pem"), ca.pem()).unwrap();
    ca.issue(&["a.example"]).write(at, "a");
    ca.issue(&["URI:spiffe://a/b", "client.example"]).write(at, "me");
    let mut spec = spec(at, &["a"], Some("ca"));
    spec.client_auth.as_mut().unwrap().required = false;
    let server = served(&spec, None).unwrap();
    let mut files = Files::default();
    let roots = roots::read(&mut files, &at.join("ca.pem")).unwrap();
    let client = || {
        let versions = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        versions.unwrap().with_root_certificates(roots.clone())
    };
    let now = SystemTime::now();
    assert!(holder(&met(&server, client().with_no_client_auth()), now).unwrap().is_none());

    let me = Pair::read(&mut files, &PairSpec { cert: at.join("me.pem"), key: at.join("me.key") }).unwrap();
    let shown = Arc::new(rustls::sign::SingleCertAndKey::from(me.key));
    let session = met(&server, client().with_client_cert_resolver(shown));
    let known = holder(&session, now).unwrap().expect("it has shown one");
    assert_eq!(known.san(), Some("spiffe://a/b"));
    let late = holder(&session, me.certificate.not_after).err().expect("it is over");
    assert_eq!(late, "the client's certificate has expired");
}
