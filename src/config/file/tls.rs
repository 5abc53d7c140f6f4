//! TLS towards clients, of a listener and of the admin port.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::Text;
use crate::tls::server::MinVersion;

/// TLS. The files are looked at every second, and new ones come into use by themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `certificates`")]
pub(in crate::config) struct Tls {
    /// Chosen by the name that a client asks for (SNI) among the certificates' DNS names, of which `*.` takes one
    /// label; the first is for all others.
    pub(in crate::config) certificates: Vec<Certificate>,
    /// Clients show certificates of their own. Default: they need not, and are not asked.
    pub(in crate::config) client_auth: Option<ClientAuth>,
    /// The oldest version that is spoken: "1.2" or "1.3". Default: "1.2".
    pub(in crate::config) min_version: Option<Text<MinVersion>>,
}

/// A certificate and its private key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a certificate: a map with `cert` and `key`")]
pub(in crate::config) struct Certificate {
    /// A PEM file: the certificate, then those that lead to its authority.
    pub(in crate::config) cert: Text<String>,
    /// A PEM file with the private key, not encrypted.
    pub(in crate::config) key: Text<String>,
}

/// Clients show certificates.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `ca`")]
pub(in crate::config) struct ClientAuth {
    /// A PEM file with the authorities, of which one must have issued the client's certificate.
    pub(in crate::config) ca: Text<String>,
    /// Default: required.
    pub(in crate::config) mode: Option<ClientAuthMode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ClientAuthMode {
    /// Without one there is no connection.
    #[default]
    Required,
    /// A client may have none; a wrong one is refused.
    Optional,
}
