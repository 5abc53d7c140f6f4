//! Intended state against actual: the life of deployments.

pub mod model;
