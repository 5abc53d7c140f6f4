//! Which version a given request would get, and why.

pub async fn explain() {}
