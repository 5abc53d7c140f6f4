//! All integration tests are one binary: linking is the slow part.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics, helper functions too")]

mod binary;
mod cancel;
mod conversations;
mod endpoint_wire;
mod faults;
mod harness;
mod health;
mod http1;
mod http2;
mod pins;
mod prometheus;
mod reload;
mod rollback;
mod store;
mod streams;
mod tls;
mod tls_upstream;
mod tunnel;
mod upstream_http2;
