//! What TLS with an agent's `https` endpoints takes, as facts: which files, which name. Nothing is read here.

use std::path::PathBuf;

/// How the two prove to each other who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndpointTls {
    pub roots: Roots,
    /// What is shown to an endpoint that asks; `None`: nothing.
    pub pair: Option<PairFiles>,
    /// The name that its certificate must have, and that is asked for (SNI); `None`: the endpoint's host.
    pub server_name: Option<String>,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Roots {
    /// The operating system's.
    #[default]
    System,
    /// Those in a file of PEM, and no others.
    File(PathBuf),
}

/// A certificate with its chain, and the key that belongs to it, as PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PairFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}
