//! Where `tracing` events go.
