//! Routes in, matcher or all clashes out.

use std::collections::{BTreeMap, HashMap};

use http::{HeaderName, HeaderValue};

use super::{DEPTH_MAX, HEADER_SETS_MAX, HEADERS_MAX, HOST_BYTES_MAX, HeaderSet, Hosts, Matcher, Paths, Route};
use crate::routing::ids::EnvironmentId;
use crate::routing::path::{self, EncodedSlash};
use crate::routing::spec::RouteSpec;

/// The most clashes that are looked for: enough to see what is wrong.
const CLASHES_MAX: usize = 100;

/// One route of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// As numbered by the caller.
    pub agent: usize,
    /// `None`: the agent has no routes and so takes every request.
    pub route: Option<usize>,
}

/// Routes that may not stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clash {
    /// Both take exactly the same requests.
    Same(Place, Place),
    /// Some request matches both, and neither is more specific.
    Ambiguous(Place, Place),
    /// More than [`HEADER_SETS_MAX`] sets of header names at this route's host and prefix.
    TooManyHeaderSets(Place),
}

/// What is wrong with a route by itself.
pub fn check(route: &RouteSpec) -> Vec<String> {
    let host = route.host.as_deref().and_then(|host| check_host(host).err());
    let prefix = route.path_prefix.as_deref().and_then(|prefix| check_prefix(prefix).err());
    let mut faults: Vec<String> = host.into_iter().chain(prefix).collect();
    if route.headers.len() > HEADERS_MAX {
        faults.push(format!("a route may look at {HEADERS_MAX} headers at most, this one at {}", route.headers.len()));
    }
    for (index, (name, value)) in route.headers.iter().enumerate() {
        if route.headers[..index].iter().any(|(other, _)| other == name) {
            faults.push(format!("header `{name}` is given twice: no request could match both"));
        }
        if HeaderValue::from_str(value).is_err() || value.trim() != value {
            faults.push(format!("header `{name}` can never have the value `{}`", value.escape_debug()));
        }
    }
    faults
}

fn check_host(host: &str) -> Result<(), String> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let wrong = |what: &str| Err(format!("host `{host}`: expected {what}"));
    if name.is_empty() || name.len() > HOST_BYTES_MAX {
        return wrong("a host name, or none for every host");
    }
    if name.contains('*') {
        return wrong("`*` only as the whole first label, as in `*.example.com`; no host at all takes every host");
    }
    let is_address = name.starts_with('[') && name.ends_with(']');
    if name.contains(':') && !is_address {
        return wrong("a host without port");
    }
    if name.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_whitespace() || b == b'/') || name.ends_with('.') {
        return wrong("a host name in lower case, without path and closing dot");
    }
    Ok(())
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    let wrong = |what: String| Err(format!("path_prefix `{prefix}`: expected {what}"));
    if !prefix.starts_with('/') {
        return wrong(format!("a path, which begins with a slash: `/{prefix}`"));
    }
    if prefix.contains(['?', '#', '*']) || prefix.contains(char::is_whitespace) {
        return wrong("a plain path, which takes all that is below it".to_owned());
    }
    match path::normalise(prefix, EncodedSlash::Keep) {
        Ok(normal) if normal == prefix => {}
        Ok(normal) => return wrong(format!("the normal form, in which paths are compared: `{normal}`")),
        Err(error) => return wrong(format!("a path that a request can have, but {error}")),
    }
    if depth(without_slash(prefix)) > DEPTH_MAX {
        return wrong(format!("at most {DEPTH_MAX} segments"));
    }
    Ok(())
}

fn without_slash(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

fn depth(prefix: &str) -> usize {
    memchr::memchr_iter(b'/', prefix.as_bytes()).count()
}

impl Matcher {
    /// Indexes the routes of all agents, or says every pair that clashes. The routes passed [`check`].
    pub fn build<'a>(
        agents: impl IntoIterator<Item = (usize, &'a EnvironmentId, &'a [RouteSpec])>,
    ) -> Result<Self, Vec<Clash>> {
        let everything = RouteSpec::default();
        let mut builder = Builder::default();
        for (agent, environment, routes) in agents {
            if routes.is_empty() {
                builder.add(environment, Place { agent, route: None }, &everything);
            }
            for (index, route) in routes.iter().enumerate() {
                builder.add(environment, Place { agent, route: Some(index) }, route);
            }
        }
        builder.finish()
    }
}

/// Routes by all that must be equal for two of them to be in one set. In order, so that the same clashes
/// are found first each time.
#[derive(Default)]
struct Builder<'a> {
    spots: BTreeMap<Spot<'a>, Vec<Draft<'a>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot<'a> {
    environment: &'a EnvironmentId,
    host: Option<&'a str>,
    prefix: &'a str,
}

/// A [`HeaderSet`] on its way.
struct Draft<'a> {
    below_only: bool,
    names: Vec<&'a HeaderName>,
    routes: Vec<(Vec<&'a str>, Place)>,
}

impl<'a> Builder<'a> {
    fn add<'r: 'a>(&mut self, environment: &'a EnvironmentId, place: Place, route: &'r RouteSpec) {
        let written = route.path_prefix.as_deref().unwrap_or_default();
        let prefix = without_slash(written);
        let spot = Spot { environment, host: route.host.as_deref(), prefix };
        let mut headers: Vec<_> = route.headers.iter().map(|(name, value)| (name, value.as_str())).collect();
        headers.sort_unstable_by_key(|(name, _)| name.as_str());
        let (names, values): (Vec<_>, Vec<_>) = headers.into_iter().unzip();
        let below_only = prefix.len() < written.len();
        let drafts = self.spots.entry(spot).or_default();
        match drafts.iter_mut().find(|draft| draft.below_only == below_only && draft.names == names) {
            Some(draft) => draft.routes.push((values, place)),
            None => drafts.push(Draft { below_only, names, routes: vec![(values, place)] }),
        }
    }

    fn finish(self) -> Result<Matcher, Vec<Clash>> {
        let (mut matcher, mut clashes) = (Matcher::default(), Vec::new());
        for (spot, mut drafts) in self.spots {
            for draft in &mut drafts {
                draft.routes.sort_unstable();
            }
            drafts.sort_by_key(|draft| (!draft.below_only, std::cmp::Reverse(draft.names.len())));
            find_clashes(&drafts, &mut clashes);
            if clashes.is_empty() {
                paths_at(&mut matcher, spot).insert(spot.prefix, drafts);
            }
        }
        clashes.sort_unstable();
        if clashes.is_empty() { Ok(matcher) } else { Err(clashes) }
    }
}

fn paths_at<'m>(matcher: &'m mut Matcher, spot: Spot<'_>) -> &'m mut Paths {
    let environments = &mut matcher.environments;
    let known = environments.iter().position(|(name, _)| name == spot.environment);
    let index = known.unwrap_or_else(|| {
        environments.push((spot.environment.clone(), Hosts::default()));
        environments.len() - 1
    });
    let hosts = &mut environments[index].1;
    match spot.host.map(|host| (host, host.strip_prefix("*."))) {
        None => &mut hosts.any,
        Some((_, Some(suffix))) => hosts.wildcard.entry(suffix.into()).or_default(),
        Some((host, None)) => hosts.exact.entry(host.into()).or_default(),
    }
}

impl Paths {
    fn insert(&mut self, prefix: &str, drafts: Vec<Draft<'_>>) {
        let sets = drafts.into_iter().map(|draft| HeaderSet {
            below_only: draft.below_only,
            names: draft.names.into_iter().cloned().collect(),
            routes: draft.routes.into_iter().map(|(values, place)| route(&values, place)).collect(),
        });
        self.prefixes.insert(prefix.into(), sets.collect());
        self.depth_max = self.depth_max.max(depth(prefix));
    }
}

fn route(values: &[&str], place: Place) -> Route {
    Route { values: values.iter().map(|value| Box::from(*value)).collect(), place }
}

/// All clashes of one host and prefix, up to the bound.
fn find_clashes(drafts: &[Draft<'_>], clashes: &mut Vec<Clash>) {
    if let Some(Draft { routes, .. }) = drafts.get(HEADER_SETS_MAX) {
        clashes.extend(routes.first().map(|(_, place)| Clash::TooManyHeaderSets(*place)));
        return;
    }
    for (index, draft) in drafts.iter().enumerate() {
        let same = draft.routes.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        clashes.extend(same.map(|pair| Clash::Same(pair[0].1, pair[1].1)).take(room(clashes)));
        for other in &drafts[index + 1..] {
            if other.below_only == draft.below_only && other.names.len() == draft.names.len() {
                find_ambiguous(draft, other, clashes);
            }
        }
    }
}

fn room(clashes: &[Clash]) -> usize {
    CLASHES_MAX.saturating_sub(clashes.len())
}

/// Two sets of as many but other names: routes that agree on the names in common can match one request.
fn find_ambiguous(one: &Draft<'_>, other: &Draft<'_>, clashes: &mut Vec<Clash>) {
    let common: Vec<_> = one.names.iter().filter(|name| other.names.contains(name)).collect();
    let shared = |draft: &Draft<'_>, values: &[&'_ str]| -> Vec<String> {
        let named = draft.names.iter().zip(values).filter(|(name, _)| common.contains(name));
        named.map(|(_, value)| (*value).to_owned()).collect()
    };
    let mut by_shared: HashMap<Vec<String>, Vec<Place>> = HashMap::new();
    for (values, place) in &one.routes {
        by_shared.entry(shared(one, values)).or_default().push(*place);
    }
    for (values, place) in &other.routes {
        // One agent cannot be ambiguous with itself. One partner is enough to show what is wrong.
        let partners = by_shared.get(&shared(other, values)).into_iter().flatten();
        let partner = partners.copied().find(|partner| partner.agent != place.agent);
        if let (Some(partner), 1..) = (partner, room(clashes)) {
            clashes.push(Clash::Ambiguous(partner.min(*place), partner.max(*place)));
        }
    }
}
