//! Targeting rules over request attributes.

/// A compiled segment.
pub struct Segment;
