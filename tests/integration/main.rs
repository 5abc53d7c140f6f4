//! All integration tests are one binary: linking is the slow part.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics, helper functions too")]

mod binary;
mod cancel;
mod circuit;
mod conversations;
mod endpoint_wire;
mod endpoints;
mod faults;
mod forwarded;
mod harness;
mod health;
mod http1;
mod http2;
mod limits;
mod paths;
mod pins;
mod prometheus;
mod rates;
mod reload;
mod retries;
mod rollback;
mod store;
mod streams;
mod strict;
mod tls;
mod tls_upstream;
mod tunnel;
mod upstream_http2;
