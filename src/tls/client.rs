//! How we meet endpoints, and other servers that we ask: whom to believe, what to show, which protocol.
//!
//! What a handshake takes is made once for all who state the same facts ([`EndpointTls`]), on all threads, and made
//! anew when its files change; sessions that may be resumed belong to it, so that none outlives what it was proved
//! with. A connection knows what it was made with ([`MadeWith`]), and so whether new exchanges may use it.
//!
//! The endpoint's certificate must have the server name, or the host: names and addresses alike. Bounds: 256
//! resumable sessions for each set of facts and protocol.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, HandshakeKind, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::Certificate;
use super::files::Files;
use super::pair::{Pair, PairSpec};
use super::reload::{Cell, Cells, OfFiles};
use super::{TlsError, provider, roots};
use crate::routing::spec::{EndpointTls, PairFiles, Protocol, Roots};
use crate::telemetry::endpoint_tls::{Handshake, HandshakeCounts};

const SESSIONS: usize = 256;

/// What handshakes are made with.
pub struct Client {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    /// What we show, and the file that it is from.
    own: Option<(String, Certificate)>,
}

impl OfFiles for Client {
    fn certificates(&self) -> Vec<(String, &Certificate)> {
        self.own.iter().map(|(file, certificate)| (file.clone(), certificate)).collect()
    }
}

impl Client {
    fn make(files: &mut Files, tls: &EndpointTls, live: Option<&Self>) -> Result<Self, TlsError> {
        let roots = match &tls.roots {
            Roots::System => system_roots()?,
            Roots::File(path) => roots::read(files, path)?,
        };
        let pair = tls.pair.as_ref().map(|pair| Pair::read(files, &spec(pair))).transpose()?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has what TLS 1.2 and 1.3 need").with_root_certificates(roots);
        let config = match &pair {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.key.clone()))),
            None => builder.with_no_client_auth(),
        };
        let offering = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            Arc::new(config)
        };
        let own = pair.zip(tls.pair.as_ref());
        let own = own.map(|(pair, files)| (files.cert.display().to_string(), pair.certificate));
        check_expiry(own.as_ref(), live, SystemTime::now())?;
        Ok(Self { http1: offering(b"http/1.1"), http2: offering(H2), own })
    }
}

/// One that endpoints refuse never takes the place of one that is good.
fn check_expiry(own: Option<&(String, Certificate)>, live: Option<&Client>, now: SystemTime) -> Result<(), TlsError> {
    let Some((file, what)) = own.and_then(|(file, own)| Some((file, own.is_bad(now)?))) else { return Ok(()) };
    let old = live.and_then(|live| live.own.as_ref());
    if old.is_some_and(|(_, old)| old.is_bad(now).is_none()) {
        return Err(TlsError::new(Path::new(file), format!("{what}, and the certificate in use is good")));
    }
    tracing::warn!(certificate = file, "{what}; endpoints will refuse it");
    Ok(())
}

const H2: &[u8] = b"h2";

fn spec(pair: &PairFiles) -> PairSpec {
    PairSpec { cert: pair.cert.clone(), key: pair.key.clone() }
}

/// The operating system's authorities, read once: those that come later need a restart.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A strange one among a hundred is of no concern.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let what = format!("there are none{why}; install the package ca-certificates, or name a file in `ca`");
        return Err(TlsError::new(Path::new("the system's certificate authorities"), what));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// All that is in use, for all threads.
#[derive(Default)]
pub struct Clients {
    cells: Cells,
    made: Mutex<HashMap<Arc<EndpointTls>, Arc<Cell<Client>>>>,
    pub handshakes: HandshakeCounts,
}

impl Clients {
    /// What is made is kept up to date with all else in `cells`.
    pub fn new(cells: Cells) -> Self {
        Self { cells, ..Self::default() }
    }

    /// Makes what is not there yet. `wanted` says where in the configuration the facts stand; so do the errors.
    pub fn prepare<'a>(&self, wanted: impl Iterator<Item = (String, &'a Arc<EndpointTls>)>) -> Result<(), Vec<String>> {
        let error = |(place, tls): (String, _)| Some(format!("{place}: {}", self.of(tls, &place).err()?));
        let errors: Vec<_> = wanted.filter_map(error).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Lets go of all but these.
    pub fn keep<'a>(&self, wanted: impl Iterator<Item = &'a Arc<EndpointTls>>) {
        let wanted: HashSet<_> = wanted.collect();
        self.lock().retain(|tls, _| wanted.contains(tls));
    }

    /// What belongs to these facts; made at the first use.
    fn of(&self, tls: &Arc<EndpointTls>, place: &str) -> Result<Arc<Cell<Client>>, TlsError> {
        let mut made = self.lock();
        if let Some(cell) = made.get(tls) {
            return Ok(cell.clone());
        }
        let facts = tls.clone();
        let cell = self.cells.make(place, move |files, live| Client::make(files, &facts, live))?;
        made.insert(tls.clone(), cell.clone());
        Ok(cell)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<EndpointTls>, Arc<Cell<Client>>>> {
        // Each use adds or takes whole entries.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handshake, over a connection to `host`.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        tls: &Arc<EndpointTls>,
        host: &str,
        protocol: Protocol,
    ) -> Result<(TlsStream<S>, MadeWith), Failure> {
        let connected = self.handshake(socket, tls, host, protocol).await;
        self.handshakes.add(match &connected {
            Ok((stream, _)) => match stream.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) => Handshake::Resumed,
                _ => Handshake::Full,
            },
            Err(failure) => failure.ended,
        });
        connected
    }

    async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        tls: &Arc<EndpointTls>,
        host: &str,
        protocol: Protocol,
    ) -> Result<(TlsStream<S>, MadeWith), Failure> {
        let name = tls.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::new(Handshake::Settings, format!("`{name}` is no name of a server")))?;
        let cell = self.of(tls, "tls").map_err(|error| Failure::new(Handshake::Settings, error.to_string()))?;
        let client = cell.load().clone();
        let config = if protocol == Protocol::Http2 { &client.http2 } else { &client.http1 };
        let stream = TlsConnector::from(config.clone()).connect(name, socket).await.map_err(|e| Failure::of(&e))?;
        if protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(H2) {
            return Err(Failure::new(Handshake::NoProtocol, "the endpoint does not select h2 (ALPN)"));
        }
        Ok((stream, MadeWith { cell, client }))
    }
}

/// What a connection was made with.
pub struct MadeWith {
    cell: Arc<Cell<Client>>,
    client: Arc<Client>,
}

impl MadeWith {
    /// Whether a new connection would be made with the same.
    pub fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.cell.load(), &self.client)
    }
}

/// Why there is no TLS with an endpoint. The text is for operators, never for clients.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    pub ended: Handshake,
    why: String,
}

impl Failure {
    fn new(ended: Handshake, why: impl Into<String>) -> Self {
        Self { ended, why: why.into() }
    }

    fn of(error: &io::Error) -> Self {
        Self::new(ended(error), error.to_string())
    }

    /// The endpoint has ended TLS with a word that says why, as it does in TLS 1.3 to whoever shows no certificate,
    /// or a wrong one: from the client's side, the handshake has succeeded by then.
    pub fn refusal(error: &io::Error) -> Option<Self> {
        (ended(error) == Handshake::Refused).then(|| Self::of(error))
    }
}

fn ended(error: &io::Error) -> Handshake {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return Handshake::Closed };
    match tls {
        Error::InvalidCertificate(certificate) => of_certificate(certificate),
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            Handshake::NoProtocol
        }
        Error::AlertReceived(_) => Handshake::Refused,
        _ => Handshake::NotTls,
    }
}

fn of_certificate(error: &CertificateError) -> Handshake {
    use CertificateError::*;
    match error {
        UnknownIssuer => Handshake::UnknownIssuer,
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => Handshake::Expired,
        NotValidForName | NotValidForNameContext { .. } => Handshake::WrongName,
        _ => Handshake::BadCertificate,
    }
}

#[cfg(test)]
mod tests;
