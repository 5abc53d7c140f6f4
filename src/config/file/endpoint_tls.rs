//! The shape of TLS with those that we connect to.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::Text;

/// TLS with `https` addresses: whom to believe, and what to show.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `ca`, `cert`, `key` or `server_name`")]
pub(in crate::config) struct EndpointTls {
    /// A file of PEM with the only authorities to believe, or `system`. Default: system.
    pub(in crate::config) ca: Option<Text<String>>,
    /// Our certificate, with its chain, as PEM: shown when asked for. Needs `key`.
    pub(in crate::config) cert: Option<Text<String>>,
    /// The private key of `cert`, as PEM.
    pub(in crate::config) key: Option<Text<String>>,
    /// The name that the certificate must have, which is also asked for (SNI). Default: the address's own host.
    pub(in crate::config) server_name: Option<Text<String>>,
}
