use rcgen::date_time_ymd;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::fixture::{Authority, Leaf};

struct Bench {
    authority: Authority,
    directory: tempfile::TempDir,
    cells: Cells,
    clients: Clients,
}

impl Bench {
    fn new() -> Self {
        let (authority, directory, cells) = (Authority::new("root"), tempfile::tempdir().unwrap(), Cells::default());
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, directory, clients: Clients::new(cells.clone()), cells }
    }

    fn facts(&self) -> EndpointTls {
        EndpointTls { roots: Roots::File(self.directory.path().join("ca.pem")), ..EndpointTls::default() }
    }

    /// Those, and a pair of ours that is written there.
    fn with_pair(&self) -> EndpointTls {
        let at = |name: &str| self.directory.path().join(name);
        EndpointTls { pair: Some(PairFiles { cert: at("own.pem"), key: at("own.key") }), ..self.facts() }
    }

    fn server(&self, leaf: &Leaf, protocols: &[&str], wants_certificate: bool) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = if wants_certificate {
            let roots = roots::read(&mut Files::default(), &self.directory.path().join("ca.pem")).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).unwrap();
        let mut config = builder.with_single_cert(vec![leaf.der().to_vec().into()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// One handshake and a byte to us, which comes behind the tickets; how it ended, and with what it was made.
    async fn shake(
        &self,
        server: &Arc<ServerConfig>,
        tls: &EndpointTls,
        host: &str,
        protocol: Protocol,
    ) -> (Handshake, Option<MadeWith>) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (before, tls) = (self.counted(), Arc::new(tls.clone()));
        let accept = async {
            let mut accepted = TlsAcceptor::from(server.clone()).accept(theirs).await?;
            accepted.write_all(b"x").await?;
            accepted.flush().await?;
            accepted.read_u8().await
        };
        let connect = async {
            let (mut stream, made_with) = self.clients.connect(ours, &tls, host, protocol).await?;
            let read = stream.read_u8().await;
            read.map_err(|error| Failure::refusal(&error).expect("an alert")).map(|_| made_with)
        };
        let (_, connected) = tokio::join!(accept, connect);
        let after = self.counted();
        let counted = Handshake::ALL.into_iter().find(|one| after[*one as usize] > before[*one as usize]);
        match connected {
            Ok(made_with) => (counted.expect("is counted"), Some(made_with)),
            Err(failure) => (failure.ended, None),
        }
    }

    fn counted(&self) -> [u64; Handshake::ALL.len()] {
        let families = self.clients.handshakes.collector().collect();
        let of = |result: Handshake| {
            let of = |m: &&prometheus::proto::Metric| m.get_label()[0].value() == result.as_str();
            families[0].get_metric().iter().find(of).map_or(0, |metric| metric.get_counter().get_value() as u64)
        };
        Handshake::ALL.map(of)
    }
}

#[tokio::test]
async fn a_session_goes_on_and_names_and_addresses_are_checked() {
    let bench = Bench::new();
    let server = bench.server(&bench.authority.issue(&["*.agents.example", "127.0.0.1"]), &["http/1.1", "h2"], false);
    for (host, ended) in [
        ("a.agents.example", Handshake::Full),
        ("a.agents.example", Handshake::Resumed),
        ("b.agents.example", Handshake::Full),
        ("127.0.0.1", Handshake::Full),
        ("127.0.0.2", Handshake::WrongName),
        ("a.b.agents.example", Handshake::WrongName),
        ("-", Handshake::Settings),
    ] {
        assert_eq!(bench.shake(&server, &bench.facts(), host, Protocol::Http1).await.0, ended, "{host}");
    }
    let named = EndpointTls { server_name: Some("a.agents.example".into()), ..bench.facts() };
    assert_eq!(bench.shake(&server, &named, "127.0.0.2", Protocol::Http1).await.0, Handshake::Full);
    assert_eq!(bench.shake(&server, &named, "127.0.0.2", Protocol::Http2).await.0, Handshake::Full);
}

#[tokio::test]
async fn what_is_not_to_be_believed_is_told_apart() {
    let (bench, other) = (Bench::new(), Authority::new("another"));
    let expired = |params: &mut rcgen::CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    };
    let of_clients = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    for (leaf, ended) in [
        (other.issue(&["a.example"]), Handshake::UnknownIssuer),
        (bench.authority.issue_with(&["a.example"], expired), Handshake::Expired),
        (bench.authority.issue_with(&["a.example"], of_clients), Handshake::BadCertificate),
    ] {
        let server = bench.server(&leaf, &[], false);
        assert_eq!(bench.shake(&server, &bench.facts(), "a.example", Protocol::Http1).await.0, ended);
    }
    let sound = bench.authority.issue(&["a.example"]);
    for protocols in [&[][..], &["http/1.1"]] {
        let server = bench.server(&sound, protocols, false);
        let (ended, _) = bench.shake(&server, &bench.facts(), "a.example", Protocol::Http2).await;
        assert_eq!(ended, Handshake::NoProtocol);
    }
    let server = bench.server(&sound, &[], true);
    assert_eq!(bench.shake(&server, &bench.facts(), "a.example", Protocol::Http1).await.0, Handshake::Refused);
}

#[tokio::test]
async fn what_was_made_with_an_older_pair_is_not_current_and_its_sessions_are_gone() {
    let bench = Bench::new();
    let server = bench.server(&bench.authority.issue(&["a.example"]), &[], true);
    bench.authority.issue(&["old"]).write(bench.directory.path(), "own");
    let facts = bench.with_pair();
    let (_, first) = bench.shake(&server, &facts, "a.example", Protocol::Http1).await;
    let (ended, second) = bench.shake(&server, &facts, "a.example", Protocol::Http1).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(ended == Handshake::Resumed && first.is_current() && second.is_current());

    bench.authority.issue(&["new"]).write(bench.directory.path(), "own");
    (0..2).for_each(|_| bench.cells.look());
    assert!(!first.is_current() && !second.is_current());
    let (ended, third) = bench.shake(&server, &facts, "a.example", Protocol::Http1).await;
    assert!(ended == Handshake::Full && third.unwrap().is_current(), "{ended:?}");
    assert_eq!(bench.cells.figures().certificates.len(), 1, "ours is among those whose end is shown");
}

#[test]
fn what_cannot_be_used_is_said_with_its_place_and_is_let_go_of_when_nobody_wants_it() {
    let bench = Bench::new();
    let facts = Arc::new(bench.with_pair());
    let wanted = || [("agents.bot.tls".to_owned(), &facts)].into_iter();
    let errors = bench.clients.prepare(wanted()).unwrap_err();
    assert!(errors[0].starts_with("agents.bot.tls: ") && errors[0].contains("own.pem: cannot be read"), "{errors:?}");
    bench.authority.issue(&["old"]).write(bench.directory.path(), "own");
    assert_eq!(bench.clients.prepare(wanted()), Ok(()));
    assert_eq!(bench.cells.status().len(), 1);
    bench.clients.keep(std::iter::empty());
    bench.cells.look();
    assert_eq!(bench.cells.status().len(), 0);
}
