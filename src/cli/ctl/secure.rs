//! TLS with the instance: whom to trust, and who we are.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use rustls::client::ResolvesClientCert;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::server::Server;
use crate::tls::files::Files;
use crate::tls::pair::{Pair, PairSpec};
use crate::tls::{provider, roots};

#[derive(clap::Args)]
pub struct Trust {
    /// With https://, a PEM file with the authorities that the instance's certificate may be from; else those of this
    /// system
    #[arg(long, global = true, value_name = "FILE", env = "POINTSMAN_CACERT")]
    cacert: Option<PathBuf>,
    /// A PEM file with the certificate to show to the instance
    #[arg(long, global = true, value_name = "FILE", env = "POINTSMAN_CERT", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// A PEM file with its private key
    #[arg(long, global = true, value_name = "FILE", env = "POINTSMAN_CERT_KEY", requires = "cert")]
    cert_key: Option<PathBuf>,
}

/// What it takes to speak TLS with one instance.
pub struct Secure {
    pub connector: TlsConnector,
    pub name: ServerName<'static>,
}

impl Trust {
    /// `None` where the instance is asked in clear.
    pub fn with(&self, server: &Server) -> anyhow::Result<Option<Secure>> {
        if !server.is_secure() {
            return Ok(None);
        }
        let (host, _) = server.address();
        let name =
            ServerName::try_from(host.to_owned()).with_context(|| format!("--server: {host} is no host name"))?;
        let mut files = Files::default();
        let roots = match &self.cacert {
            Some(file) => roots::read(&mut files, file).context("--cacert")?,
            None => Arc::new(of_system()),
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match (&self.cert, &self.cert_key) {
            (Some(cert), Some(key)) => {
                let spec = PairSpec { cert: cert.clone(), key: key.clone() };
                let pair = Pair::read(&mut files, &spec).context("--cert")?;
                let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(pair.key));
                config.with_client_cert_resolver(shown)
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Some(Secure { connector: Arc::new(config).into(), name }))
    }
}

/// What cannot be read of the system's authorities is not trusted.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
