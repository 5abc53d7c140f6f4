//! All integration tests are one binary: linking is the slow part.

mod cancel;
mod faults;
mod harness;
mod http1;
mod reload;
mod rollback;
