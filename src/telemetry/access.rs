//! The access log: one JSON line per exchange, written off the request path.
