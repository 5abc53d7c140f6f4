//! A blocking client of TLS, and certificates to try it with.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use pointsman::app;
use pointsman::config::Config;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use super::certificates::{Authority, Leaf};
use crate::harness::{App, Endpoint, PATIENCE};

/// A directory of certificates, all of one authority.
pub struct Files {
    pub ca: Authority,
    pub directory: tempfile::TempDir,
}

impl Files {
    /// With the authority's own as `ca.pem`.
    pub fn new() -> Self {
        let (ca, directory) = (Authority::new("the root"), tempfile::tempdir().unwrap());
        std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        Self { ca, directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Issues and writes a pair.
    pub fn issue(&self, file: &str, names: &[&str]) {
        self.ca.issue(names).write(self.path(), file);
    }

    /// A pair in the YAML file.
    pub fn pair(&self, file: &str) -> String {
        let at = self.path().display();
        format!("{{ cert: {at}/{file}.pem, key: {at}/{file}.key }}")
    }

    /// What a listener's `tls` says with these pairs, and `more`.
    pub fn tls(&self, files: &[&str], more: &str) -> String {
        let pairs: Vec<_> = files.iter().map(|file| self.pair(file)).collect();
        format!("tls: {{ certificates: [{}]{more} }}", pairs.join(", "))
    }

    /// The key of `tls` that asks clients for certificates of the authority.
    pub fn client_auth(&self, mode: &str) -> String {
        format!(", client_auth: {{ ca: {}/ca.pem, mode: {mode} }}", self.path().display())
    }

    pub fn trusting(&self) -> Client {
        Client::new(&self.ca)
    }
}

/// The file of an app whose one listener has `more`.
pub fn yaml(endpoint: &Endpoint, more: &str, settings: &str) -> String {
    let url = endpoint.url();
    format!(
        "listeners: [{{ address: '127.0.0.1:0', {more} }}]\nadmin: {{ address: '127.0.0.1:0' }}\nworkers: 2\n\
         state_dir: none\nagents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{url}'] }}\n      \
         2.0.0: {{ endpoints: ['{url}'] }}\n    stable: 1.0.0\n{settings}"
    )
}

pub fn start(yaml: &str) -> App {
    let config = Config::parse("test.yaml", yaml, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    App::of(app::start(config, None).unwrap_or_else(|e| panic!("{e:#}")))
}

/// An app before this endpoint, whose one listener has a certificate for `agent.test`.
pub fn secured(files: &Files, endpoint: &Endpoint) -> App {
    files.issue("a", &["agent.test"]);
    start(&yaml(endpoint, &files.tls(&["a"], ""), ""))
}

/// How a client meets servers.
#[derive(Clone)]
pub struct Client {
    roots: Arc<RootCertStore>,
    pub config: ClientConfig,
}

impl Client {
    pub fn new(ca: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let roots = Arc::new(roots);
        let config = builder().with_root_certificates(roots.clone()).with_no_client_auth();
        Self { roots, config }
    }

    /// With a certificate of its own.
    pub fn showing(&self, leaf: &Leaf) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(leaf.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).unwrap();
        let config = builder().with_root_certificates(self.roots.clone()).with_client_auth_cert(chain, key).unwrap();
        Self { config, ..self.clone() }
    }

    pub fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    pub fn tls12(&self) -> Self {
        let config = ClientConfig::builder_with_provider(pointsman::tls::provider())
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        Self { config, ..self.clone() }
    }

    /// Shakes hands, asking for `name`.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Secured> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secured { stream, read: Vec::new() })
    }

    pub fn to(&self, app: &App) -> Secured {
        self.connect(app.proxy, "agent.test").unwrap()
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(pointsman::tls::provider()).with_protocol_versions(&[&TLS13, &TLS12]).unwrap()
}

pub struct Secured {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    /// And not yet taken.
    read: Vec<u8>,
}

impl Secured {
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// All up to this text, which comes at last.
    pub fn until(&mut self, end: &str) -> io::Result<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                let taken = std::mem::replace(&mut self.read, rest);
                return Ok(String::from_utf8(taken).unwrap());
            }
            let mut block = [0; 4096];
            let count = self.stream.read(&mut block)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read.extend(&block[..count]);
        }
    }

    /// So many bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let had = self.read.len().min(count);
        let rest = self.read.split_off(had);
        let mut bytes = std::mem::replace(&mut self.read, rest);
        bytes.resize(count, 0);
        self.stream.read_exact(&mut bytes[had..]).unwrap();
        bytes
    }

    /// Head and body of an answer that says its length.
    pub fn answer(&mut self) -> io::Result<String> {
        let head = self.until("\r\n\r\n")?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = self.exactly(length.expect("a length").parse().unwrap());
        Ok(head + &String::from_utf8(body).unwrap())
    }

    pub fn ask(&mut self, fields: &str) -> String {
        self.write(format!("GET / HTTP/1.1\r\nhost: agent.test\r\n{fields}\r\n"));
        self.answer().unwrap()
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn protocol(&self) -> Option<&str> {
        self.stream.conn.alpn_protocol().map(|name| std::str::from_utf8(name).unwrap())
    }

    /// The certificate that the server has shown.
    pub fn shown(&self) -> &[u8] {
        self.stream.conn.peer_certificates().unwrap().first().unwrap()
    }
}
