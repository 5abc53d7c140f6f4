//! Counters, metrics and logs. Imported by every room; imports none.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`stats`] | per-version counters and histograms, written by the workers |
//! | [`counters`] | what the proxy counts about itself, and the closed list of its error codes |
//! | [`endpoints`] | why endpoints were taken out of service, how often |
//! | [`endpoint_tls`] | how TLS handshakes with endpoints ended |
//! | [`bell`] | how a worker wakes the judge |
//! | [`commits`] | how the store's commits went |
//! | [`outside`] | what control counts of health checks and Prometheus queries |
//! | [`reload`] | how the last reload of the file went |
//! | [`shedding`] | what a worker counts about having too much to do |
//! | [`tls`] | how handshakes ended, and how certificates stand |
//! | [`metrics`] | the scrape: all of the above as Prometheus text |
//! | [`access`] | one JSON line per exchange, off the request path |
//! | [`logging`] | where `tracing` events go |

pub mod access;
pub mod bell;
pub mod checkpoints;
pub mod commits;
pub mod conversations;
pub mod counters;
pub mod endpoint_tls;
pub mod endpoints;
pub mod logging;
pub mod metrics;
pub mod outside;
pub mod reload;
pub mod shedding;
pub mod stats;
pub mod tls;
