//! Operator HTTP: probes, metrics, and the API over `control`.
