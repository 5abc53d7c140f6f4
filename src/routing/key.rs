//! Where the bucketing key comes from.
