//! Weights → bucket ranges, moving only the buckets that must move.

/// Bucket ranges over an agent's versions.
pub struct Split;
