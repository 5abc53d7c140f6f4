//! Thin: wire → command → wire.

pub mod agents;
pub mod audit;
pub mod commands;
pub mod config;
pub mod conversations;
pub mod deployments;
pub mod events;
pub mod explain;
pub mod migrations;
pub mod place;
pub mod probes;
pub mod table;
pub mod tokens;
