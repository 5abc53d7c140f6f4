//! The hash schemes: flag, salt and key → one of 100,000 buckets.

/// One agent's prepared hash input; made when the table is compiled.
pub struct Bucketer;
