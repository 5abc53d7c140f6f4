//! Facts and decisions. Pure: no tokio, no sockets, no clock, no randomness of its own.
//!
//! [`spec`] says what is wanted, [`compile`] turns it into a [`table`] or says everything that is
//! wrong with it, [`decide`] picks a version for one request.

pub mod breaker;
pub mod bucket;
mod budget;
pub mod compile;
pub mod conversation;
pub mod decide;
pub mod endpoint;
pub mod endpoint_tls;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fuzz;
pub mod ids;
pub mod key;
pub mod layout;
pub mod matcher;
pub mod networks;
pub mod overrides;
pub mod parse;
pub mod path;
pub mod pin;
pub mod rate;
pub mod resilience;
pub mod seal;
pub mod segment;
pub mod spec;
pub mod split;
pub mod standing;
pub mod streams;
pub mod table;
pub mod token;
