//! Pointsman: a reverse proxy that picks, for each request, the agent version that answers it.
//!
//! The modules in reading order:
//!
//! | module | what it is | may use |
//! | --- | --- | --- |
//! | [`app`] | the only wiring: threads, sockets, reload, stop | everything below |
//! | [`cli`] | the subcommands | `app` and everything below |
//! | [`proxy`] | data plane: the phases of one request | `routing`, `telemetry` |
//! | [`routing`] | pure: facts and decisions | `telemetry` (counters only) |
//! | [`judge`] | pure: windows, tests, verdicts | `telemetry` (the counts' types only) |
//! | [`control`] | intended state against actual: rollouts | `judge`, `routing`, `telemetry` |
//! | [`admin`] | operator HTTP over `control` | `control`, `routing`, `telemetry`, `ready` |
//! | [`config`] | the YAML file → validated [`config::Config`] | `routing`, `judge`, `control::model` (specs only) |
//! | [`telemetry`] | counters, metrics, logs | nothing |
//! | [`descriptors`] | whether there are file descriptors for more connections | nothing |
//! | [`random`] | a small generator, not for secrets | nothing |
//! | [`ready`] | whether this instance should get traffic | nothing |
//! | [`tls`] | certificate files, and what is made of them | `stamp`, `telemetry`, facts of `routing` |
//! | [`stamp`] | whether a file is another than before | nothing |
//! | [`takeover`] | what two processes say when one takes the other's place | nothing |
//! | [`systemd`] | a service manager's sockets, and what it is told | nothing |
//!
//! The proxy and the control plane meet in three places only: the routing table (an `ArcSwap`),
//! the version statistics (single-writer counters) and the pins of conversations.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod descriptors;
#[cfg(test)]
mod fuzz;
pub mod judge;
pub mod proxy;
pub mod random;
pub mod ready;
pub mod routing;
pub mod stamp;
pub mod systemd;
pub mod takeover;
pub mod telemetry;
pub mod tls;
