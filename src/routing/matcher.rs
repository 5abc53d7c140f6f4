//! Host, path and headers → agent.
//!
//! The most specific route that takes a request wins. In this order: an exact host, then the wildcard host
//! with the longest suffix, then no host; at the same host the longer path prefix (`/v1/` before `/v1`, `/`
//! before none); at the same prefix the route with more headers. A pair that this does not order and that
//! some request could match both of is ambiguous; [`Matcher::build`] names all of them.
//!
//! Hosts are compared in any case and without a closing dot, paths in their normal form ([`super::path`], which is
//! the caller's to make) and by whole segments. Of
//! several headers of one name the first counts. Cost, however many agents: a hash look-up for the
//! environment, one for each label of the host and one for each segment of the path; no allocation.
//! Bounds: [`DEPTH_MAX`], [`HEADERS_MAX`], [`HEADER_SETS_MAX`].

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};

use super::ids::EnvironmentId;
use super::table::Head;

mod build;

pub use build::{Clash, Place, check};

/// The most segments of a path prefix.
pub const DEPTH_MAX: usize = 16;
/// The most headers of a route.
pub const HEADERS_MAX: usize = 8;
/// The most different sets of header names at one host and path prefix; they are tried in turn.
pub const HEADER_SETS_MAX: usize = 32;
/// A longer name is no host name: it matches routes without a host only.
const HOST_BYTES_MAX: usize = 255;

/// The compiled routes of all agents.
#[derive(Default)]
pub struct Matcher {
    /// So few that looking through them beats hashing.
    environments: Vec<(EnvironmentId, Hosts)>,
}

#[derive(Default)]
struct Hosts {
    exact: HashMap<Box<str>, Paths>,
    /// By what follows the `*.`.
    wildcard: HashMap<Box<str>, Paths>,
    any: Paths,
}

#[derive(Default)]
struct Paths {
    /// By the prefix without a closing slash.
    prefixes: HashMap<Box<str>, Vec<HeaderSet>>,
    /// Segments of the longest prefix: no longer ones are looked up.
    depth_max: usize,
}

/// The routes of one host and prefix that look at the same headers; most specific sets first.
struct HeaderSet {
    /// The prefix was written with a closing slash: it takes what is below it, not itself.
    below_only: bool,
    /// In order, none twice.
    names: Box<[HeaderName]>,
    /// Sorted by values; none twice.
    routes: Vec<Route>,
}

struct Route {
    /// One for each name.
    values: Box<[Box<str>]>,
    place: Place,
}

impl Matcher {
    pub(super) fn find(&self, environment: &EnvironmentId, head: &Head<'_>) -> Option<Place> {
        let (_, hosts) = self.environments.iter().find(|(name, _)| name == environment)?;
        let by_host = if hosts.has_names() { hosts.by_name(head) } else { None };
        by_host.or_else(|| hosts.any.find(head.path, head.headers))
    }
}

impl Hosts {
    fn has_names(&self) -> bool {
        !self.exact.is_empty() || !self.wildcard.is_empty()
    }

    fn by_name(&self, head: &Head<'_>) -> Option<Place> {
        let host = head.host.strip_suffix('.').unwrap_or(head.host);
        if host.len() > HOST_BYTES_MAX {
            return None;
        }
        if !host.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.by_lower_case_name(host, head);
        }
        let mut space = [0; HOST_BYTES_MAX];
        let lower = space.get_mut(..host.len())?;
        lower.copy_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        self.by_lower_case_name(std::str::from_utf8(lower).ok()?, head)
    }

    fn by_lower_case_name(&self, host: &str, head: &Head<'_>) -> Option<Place> {
        let within = |paths: &Paths| paths.find(head.path, head.headers);
        let exact = self.exact.get(host).and_then(within);
        exact.or_else(|| suffixes(host).find_map(|suffix| self.wildcard.get(suffix).and_then(within)))
    }
}

/// `a.b.c` → `b.c`, `c`: at most 127, as a host name has no more labels.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').map(|(dot, _)| &host[dot + 1..])
}

impl Paths {
    fn find(&self, path: &str, headers: &HeaderMap) -> Option<Place> {
        if self.depth_max == 0 {
            return self.at("", path, headers);
        }
        // Where the first 0, 1, 2 … segments end.
        let (mut ends, mut depth) = ([0; DEPTH_MAX + 1], 0);
        let later_slashes = memchr::memchr_iter(b'/', path.as_bytes()).skip(1);
        let all_ends = later_slashes.chain([path.len()]).take(self.depth_max.min(DEPTH_MAX));
        for end in all_ends {
            depth += 1;
            ends[depth] = end;
        }
        ends[..=depth].iter().rev().find_map(|end| {
            let (prefix, rest) = path.split_at_checked(*end)?;
            self.at(prefix, rest, headers)
        })
    }

    /// The route of this very prefix, where `rest` follows it.
    fn at(&self, prefix: &str, rest: &str, headers: &HeaderMap) -> Option<Place> {
        let sets = self.prefixes.get(prefix)?;
        let mut fits = sets.iter().filter(|set| !set.below_only || rest.starts_with('/'));
        fits.find_map(|set| set.find(headers))
    }
}

impl HeaderSet {
    fn find(&self, headers: &HeaderMap) -> Option<Place> {
        if self.names.is_empty() {
            return self.routes.first().map(|route| route.place);
        }
        let mut sent: [&[u8]; HEADERS_MAX] = [b""; HEADERS_MAX];
        for (sent, name) in sent.iter_mut().zip(&self.names) {
            *sent = headers.get(name)?.as_bytes();
        }
        let sent = sent.get(..self.names.len())?;
        let order = |route: &Route| route.values.iter().map(|value| value.as_bytes()).cmp(sent.iter().copied());
        self.routes.binary_search_by(order).ok().and_then(|at| self.routes.get(at)).map(|route| route.place)
    }
}

#[cfg(test)]
mod tests;
