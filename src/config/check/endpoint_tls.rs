//! TLS with those that we connect to: what belongs together, and names that a certificate can have. Whether the files
//! are there, and good, is found when they are read: see [`crate::tls`].

use std::path::PathBuf;

use rustls_pki_types::ServerName;

use super::super::errors::shown;
use super::super::file;
use super::super::scalar::Text;
use super::scope::Scope;
use super::tls::check_path;
use crate::routing::spec::{AgentSpec, EndpointAddress, EndpointTls, PairFiles, Roots};

/// How the file writes that the operating system's authorities are believed.
const SYSTEM: &str = "system";

/// `path` is where it stands.
pub(super) fn check(given: file::EndpointTls, path: &str, scope: &mut Scope<'_, '_>) -> EndpointTls {
    let at = |key: &str| format!("{path}.{key}");
    for (key, given) in [("ca", &given.ca), ("cert", &given.cert), ("key", &given.key)] {
        if let Some(given) = given {
            check_path(given, &at(key), scope);
        }
    }
    let file = |given: Option<Text<String>>| given.map(|Text(file)| PathBuf::from(file));
    let roots = match given.ca {
        Some(Text(ca)) if ca != SYSTEM => Roots::File(ca.into()),
        _ => Roots::System,
    };
    let pair = match (file(given.cert), file(given.key)) {
        (Some(cert), Some(key)) => Some(PairFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            if !scope.is_damaged(&at("key")) {
                scope.error(&at("cert"), "a certificate is of no use without its private key; set `key` beside it");
            }
            None
        }
        (None, Some(_)) => {
            if !scope.is_damaged(&at("cert")) {
                scope.error(&at("key"), "a private key is of no use without its certificate; set `cert` beside it");
            }
            None
        }
    };
    let server_name = given.server_name.map(|Text(name)| name);
    if let Some(name) = server_name.as_ref().filter(|name| !is_server_name(name)) {
        let message = format!("`{}` is no name of a server; expected one such as agent.internal", shown(name));
        scope.error(&at("server_name"), message);
    }
    EndpointTls { roots, pair, server_name }
}

/// What the settings and the addresses of an agent must agree in.
pub(super) fn check_endpoints(spec: &AgentSpec, is_given: bool, scope: &mut Scope<'_, '_>) {
    let hosts = spec.versions.iter().flat_map(|(version, spec)| {
        spec.endpoints.iter().enumerate().filter_map(move |(index, endpoint)| match endpoint {
            EndpointAddress::Https { host, .. } => Some((version, index, host)),
            _ => None,
        })
    });
    let hosts: Vec<_> = hosts.collect();
    if is_given && hosts.is_empty() && !scope.is_damaged("versions") {
        let remedy = "write https:// before those that speak TLS, or remove `tls`";
        scope.error("tls", format!("no endpoint of this agent is https, so nothing uses this; {remedy}"));
    }
    let unnamed =
        hosts.into_iter().filter(|(_, _, host)| spec.exchange.tls.server_name.is_none() && !is_server_name(host));
    for (version, index, host) in unnamed {
        let message = format!("`{host}` is no name that a certificate can have; set `tls.server_name`");
        scope.error(&format!("versions.{version}.endpoints[{index}]"), message);
    }
}

fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}
