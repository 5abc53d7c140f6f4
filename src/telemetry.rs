//! Counters, metrics and logs. Imported by every room; imports none.

pub mod access;
pub mod bell;
pub mod logging;
pub mod metrics;
pub mod reload;
pub mod stats;
