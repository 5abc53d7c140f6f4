//! The data plane: from a client's socket to the version's endpoint and back.
//!
//! In reading order: [`listen`] accepts and hands each connection to the worker with the fewest;
//! [`worker`] is one thread with its own runtime, pools and clock of idleness; [`connection`] drives
//! one client connection, of HTTP/1.1 or HTTP/2; [`serve`] is one request, top-down, with [`read`],
//! [`conversation`] and [`send`] for its phases; [`shed`], [`rates`] and [`circuit`] may refuse it before
//! it is sent; [`upstream`] is an exchange with an endpoint, over HTTP/1.1 with [`encode`] and [`decode`] for what is
//! said, or on a stream of HTTP/2; [`tap`] reads the answer as it passes, [`streamed`] is the tap within an exchange,
//! and [`grpc`] reads how a call ended; [`tunnel`] is what an exchange becomes that has switched to another protocol.
//!
//! The rules of the hot path:
//!
//! - one snapshot of the table per request; nothing is looked up by name;
//! - no lock, no cross-thread write: pools, buffers, timers and counters belong to the worker. Only
//!   a request of a conversation looks into a table that is shared, under the lock of one of its 512 shards, and only
//!   one that its endpoint fails writes what all workers read: that endpoint's health ([`balance`]), its retry budget
//!   and, where there is one, its version's breaker ([`circuit`]), which counts those at a time, too;
//! - the upstream connection is polled by the task of the client's connection, under HTTP/2 by that of the
//!   stream, so an exchange is one task and a client that goes away drops both ends at once; only HTTP/2 to
//!   endpoints, whose connections are shared, has tasks of its own;
//! - no timer is armed per request: a connection has one, which looks at the deadline when it fires.
//!
//! The proxy reads the table and writes the counters. It knows nothing of the control plane.

mod balance;
mod body;
mod chunked;
mod circuit;
mod client_body;
mod connection;
mod conversation;
mod decode;
mod encode;
mod error;
#[cfg(test)]
mod fuzz;
mod grpc;
mod headers;
mod interim;
mod io;
pub mod listen;
mod media;
mod outcome;
mod outgoing;
mod pool;
mod rates;
mod read;
mod send;
mod sending;
mod serve;
mod share;
pub mod shed;
mod streamed;
pub mod tap;
mod trust;
mod tunnel;
mod upstream;
pub mod worker;
