//! The Prometheus side of the figures.
