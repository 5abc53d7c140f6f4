//! Thin: wire → command → wire.

pub mod agents;
pub mod config;
pub mod deployments;
pub mod explain;
pub mod place;
pub mod probes;
pub mod table;
