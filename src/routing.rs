//! Facts and decisions. Pure: no tokio, no sockets, no clock, no randomness of its own.
//!
//! [`spec`] says what is wanted, [`compile`] turns it into a [`table`] or says everything that is
//! wrong with it, [`decide`] picks a version for one request.

pub mod bucket;
pub mod compile;
pub mod decide;
pub mod ids;
pub mod key;
pub mod layout;
pub mod matcher;
pub mod parse;
pub mod segment;
pub mod spec;
pub mod split;
pub mod streams;
pub mod table;
