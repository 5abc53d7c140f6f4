//! How we meet clients: with which certificates, versions and protocols, and with which certificates of theirs.
//!
//! A client that comes back goes on with its session, whichever worker it meets: TLS 1.3, and 1.2 with tickets, by a
//! ticket whose keys are of this process and change every six hours; 1.2 without tickets by one of [`SESSIONS`]
//! remembered sessions. Sessions say whose certificate the client had: when the authorities that clients are checked
//! against change, or whether they are, all of them end. Certificates of our own end none.

mod names;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};

use super::certificate::{Certificate, Holder};
use super::files::Files;
use super::pair::{Pair, PairSpec};
use super::reload::{Cell, Cells, OfFiles};
use super::{TlsError, provider, roots};
use names::ByName;

/// Sessions that are remembered for clients that take no tickets.
pub const SESSIONS: usize = 1_024;

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerSpec {
    /// At least one; the first is for clients that name none of them.
    pub certificates: Vec<PairSpec>,
    pub client_auth: Option<ClientAuth>,
    pub min_version: MinVersion,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

/// Clients show certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// The authorities, of which one must have issued it.
    pub ca: PathBuf,
    /// Or else a client may do without one; a wrong one is refused in any case.
    pub required: bool,
}

/// What is spoken within, as ALPN names it; the first is preferred.
pub type Protocols = &'static [&'static [u8]];

pub const HTTP2: &[u8] = b"h2";
pub const HTTP1: &[u8] = b"http/1.1";

/// A server's side, made of its files.
pub struct Server {
    pub config: Arc<ServerConfig>,
    certificates: Vec<(String, Certificate)>,
    resumption: Resumption,
}

impl OfFiles for Server {
    fn certificates(&self) -> Vec<(String, &Certificate)> {
        self.certificates.iter().map(|(file, certificate)| (file.clone(), certificate)).collect()
    }
}

/// What clients come back with.
#[derive(Clone)]
struct Resumption {
    /// The authorities that the clients of these sessions were checked against.
    checked_by: Option<[u8; 32]>,
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl ServerSpec {
    /// Reads its files, and keeps what is made of them up to date. `place` is where the configuration says so.
    pub fn serve(self, cells: &Cells, place: &str, protocols: Protocols) -> Result<Arc<Cell<Server>>, TlsError> {
        cells.make(place, move |files, live| Server::new(&self, protocols, files, live))
    }
}

impl Server {
    fn new(spec: &ServerSpec, protocols: Protocols, files: &mut Files, live: Option<&Self>) -> Result<Self, TlsError> {
        let pairs = spec.certificates.iter().map(|pair| Pair::read(files, pair)).collect::<Result<Vec<_>, _>>()?;
        check_names(spec, &pairs)?;
        check_expiry(spec, &pairs, live, SystemTime::now())?;
        let (verifier, checked_by) = verifier(spec, files)?;
        let resumption = match live.map(|live| &live.resumption) {
            Some(resumption) if resumption.checked_by == checked_by => resumption.clone(),
            _ => Resumption::new(checked_by).map_err(|error| unusable(spec, &error))?,
        };
        let versions = match spec.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12][..],
            MinVersion::Tls13 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| unusable(spec, &error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName::new(&pairs)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = resumption.tickets.clone();
        config.session_storage = resumption.sessions.clone();
        let files = spec.certificates.iter().map(|pair| pair.cert.display().to_string());
        let certificates = files.zip(pairs.into_iter().map(|pair| pair.certificate)).collect();
        Ok(Self { config: Arc::new(config), certificates, resumption })
    }
}

/// Who a client is, by the certificate that it has shown. Of a session that goes on it was verified when that began,
/// and may have ended since.
pub fn holder(session: &ServerConnection, now: SystemTime) -> Result<Option<Holder>, String> {
    let Some(shown) = session.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    let holder = Holder::read(shown)?;
    if holder.certificate.has_expired(now) {
        return Err("the client's certificate has expired".to_owned());
    }
    Ok(Some(holder))
}

impl Resumption {
    fn new(checked_by: Option<[u8; 32]>) -> Result<Self, rustls::Error> {
        Ok(Self { checked_by, tickets: Ticketer::new()?, sessions: ServerSessionMemoryCache::new(SESSIONS) })
    }
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Who looks at clients' certificates, and what that is made of.
fn verifier(spec: &ServerSpec, files: &mut Files) -> Result<(Verifier, Option<[u8; 32]>), TlsError> {
    let Some(ClientAuth { ca, required }) = &spec.client_auth else {
        return Ok((WebPkiClientVerifier::no_client_auth(), None));
    };
    let roots = roots::read(files, ca)?;
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if !required {
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier.build().map_err(|error| TlsError::new(ca, format!("cannot check clients: {error}")))?;
    Ok((verifier, files.last_digest()))
}

fn unusable(spec: &ServerSpec, error: &rustls::Error) -> TlsError {
    let file = spec.certificates.first().map(|pair| pair.cert.clone()).unwrap_or_default();
    TlsError::new(&file, format!("cannot be served with: {error}"))
}

/// Only the first is given to clients that ask for no name that is here.
fn check_names(spec: &ServerSpec, pairs: &[Pair]) -> Result<(), TlsError> {
    let nameless = pairs.iter().skip(1).position(|pair| pair.certificate.dns.is_empty());
    let Some(place) = nameless else { return Ok(()) };
    let what = "has no DNS name (subjectAltName), so no client would be given it; put it first, or leave it out";
    Err(TlsError::new(&spec.certificates[place + 1].cert, what))
}

/// A certificate that is over, or not yet good, starts what cannot start otherwise, but never takes the place of one
/// that is good.
fn check_expiry(spec: &ServerSpec, pairs: &[Pair], live: Option<&Server>, now: SystemTime) -> Result<(), TlsError> {
    for (index, (pair, spec)) in pairs.iter().zip(&spec.certificates).enumerate() {
        let Some(what) = pair.certificate.is_bad(now) else { continue };
        let old = live.and_then(|live| live.certificates.get(index));
        if old.is_some_and(|(_, old)| old.is_bad(now).is_none()) {
            return Err(TlsError::new(&spec.cert, format!("{what}, and the certificate in use is good")));
        }
        tracing::warn!(certificate = %spec.cert.display(), "{what}; clients will refuse it");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
