//! The written forms of attributes, schemes and endpoint addresses, and back to text.
//!
//! Reading checks everything: what has been read is valid wherever it is used later. Every refusal is a
//! [`Misread`]: what was found, what was expected, and the nearest right name where one is near.
//! What is not here: the shape of the YAML file (that is `config`), and [`super::ids::Weight`], which
//! reads itself.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use http::HeaderName;

use super::spec::{Attribute, EndpointAddress, ResponseId, Scheme, TlsAttribute};

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Misread {
    pub found: String,
    pub expected: String,
    /// The right name that was probably meant.
    pub nearest: Option<String>,
}

impl Misread {
    pub fn new(found: &str, expected: impl Into<String>) -> Self {
        Self { found: found.to_owned(), expected: expected.into(), nearest: None }
    }

    fn nearest(mut self, nearest: Option<impl Into<String>>) -> Self {
        self.nearest = nearest.map(Into::into);
        self
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: expected {}", self.found, self.expected)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// The candidate that `name` is a likely slip of: at most one edit in three letters away.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |candidate: &&str| strsim::damerau_levenshtein(&name, &candidate.to_lowercase());
    let best = candidates.into_iter().min_by_key(distance)?;
    let allowed = (best.chars().count() / 3).max(1);
    (distance(&best) <= allowed).then_some(best)
}

impl Scheme {
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha1Js, Self::LaunchDarkly, Self::Murmur3, Self::Md5];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha1Js => "sha1-js",
            Self::LaunchDarkly => "launchdarkly",
            Self::Murmur3 => "murmur3",
            Self::Md5 => "md5",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Self, Misread> {
        let names = Self::ALL.map(Self::as_str);
        Self::ALL
            .into_iter()
            .find(|scheme| scheme.as_str() == text)
            .ok_or_else(|| Misread::new(text, format!("a scheme: {}", names.join(", "))).nearest(nearest(text, names)))
    }
}

/// The kinds that take a name after the colon, with an example each.
const NAMED_KINDS: [(&str, &str); 6] = [
    ("header", "header:x-user-id"),
    ("cookie", "cookie:sid"),
    ("query", "query:user"),
    ("json", "json:/user"),
    ("jwt", "jwt:sub"),
    ("tls", "tls:san"),
];
const BARE_KINDS: [&str; 5] = ["client_ip", "request", "path", "method", "host"];

impl TlsAttribute {
    const ALL: [Self; 3] = [Self::Subject, Self::San, Self::Fingerprint];

    fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::San => "san",
            Self::Fingerprint => "fingerprint",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer}"),
            Self::Jwt(claim) => write!(f, "jwt:{claim}"),
            Self::ClientIp => f.write_str("client_ip"),
            Self::Tls(what) => write!(f, "tls:{}", what.as_str()),
            Self::Request => f.write_str("request"),
            Self::Path => f.write_str("path"),
            Self::Method => f.write_str("method"),
            Self::Host => f.write_str("host"),
        }
    }
}

impl FromStr for Attribute {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Self, Misread> {
        let wrong = |expected: &str| Misread::new(text, expected);
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        if let Some((_, example)) = NAMED_KINDS.into_iter().find(|(named, _)| *named == kind) {
            let name = name.filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| wrong(&format!("a name after the kind, as in `{example}`")))?;
            return named_attribute(kind, name).map_err(|expected| wrong(&expected));
        }
        let bare = match kind {
            "client_ip" => Self::ClientIp,
            "request" => Self::Request,
            "path" => Self::Path,
            "method" => Self::Method,
            "host" => Self::Host,
            _ => return Err(unknown_kind(text, kind)),
        };
        if name.is_some() { Err(wrong(&format!("`{kind}` alone: it takes no name"))) } else { Ok(bare) }
    }
}

impl FromStr for ResponseId {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Self, Misread> {
        match text.parse() {
            Ok(Attribute::Header(name)) => Ok(Self::Header(name)),
            Ok(Attribute::Json(pointer)) => Ok(Self::Json(pointer)),
            Err(misread) if text.starts_with("header:") || text.starts_with("json:") => Err(misread),
            _ => Err(Misread::new(text, "a place in a response, as in `header:mcp-session-id` or `json:/id`")),
        }
    }
}

fn named_attribute(kind: &str, name: &str) -> Result<Attribute, String> {
    match kind {
        "header" => HeaderName::from_str(name)
            .map(Attribute::Header)
            .map_err(|_| format!("the name of a header, which `{name}` cannot be")),
        "cookie" if !name.bytes().all(is_token) => Err(format!("the name of a cookie, which `{name}` cannot be")),
        "cookie" => Ok(Attribute::Cookie(name.to_owned())),
        "query" => Ok(Attribute::Query(name.to_owned())),
        "json" => json_pointer(name).map(Attribute::Json),
        "tls" => {
            let known = TlsAttribute::ALL.into_iter().find(|what| what.as_str() == name);
            known.map(Attribute::Tls).ok_or_else(|| "one of tls:subject, tls:san, tls:fingerprint".to_owned())
        }
        // `NAMED_KINDS` has no other.
        _ => Ok(Attribute::Jwt(name.to_owned())),
    }
}

fn json_pointer(pointer: &str) -> Result<String, String> {
    if !pointer.starts_with('/') {
        return Err(format!("a JSON pointer, which begins with a slash: `json:/{pointer}`"));
    }
    // RFC 6901: `~` only as `~0` (a tilde) or `~1` (a slash).
    if pointer.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err("a JSON pointer, in which `~` is written `~0` and a slash within a name `~1`".to_owned());
    }
    Ok(pointer.to_owned())
}

/// A character of a header or cookie name (RFC 9110 `token`).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn unknown_kind(text: &str, kind: &str) -> Misread {
    let names = || NAMED_KINDS.into_iter().map(|(kind, _)| kind).chain(BARE_KINDS);
    let examples: Vec<_> = NAMED_KINDS.into_iter().map(|(_, example)| example).chain(BARE_KINDS).collect();
    let near = nearest(kind, names()).map(|near| text.replacen(kind, near, 1));
    Misread::new(text, format!("one of {}", examples.join(", "))).nearest(near)
}

impl EndpointAddress {
    /// What a URL or a `Host` header names it by: `host:port`, an IPv6 address in brackets; `localhost` for
    /// a socket file, which has no name of its own.
    pub fn authority(&self) -> String {
        match self {
            Self::Http { host, port } | Self::Https { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Http { host, port } | Self::Https { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { .. } => write!(f, "http://{}", self.authority()),
            Self::Https { .. } => write!(f, "https://{}", self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

const A_URL: &str = "`http://host:port`, `https://host:port` or `unix:/path/of/socket`";

impl FromStr for EndpointAddress {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Self, Misread> {
        let wrong = |expected: &str| Misread::new(text, expected);
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path).map(Self::Unix).map_err(wrong);
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong(A_URL))?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return Err(wrong(A_URL));
        }
        let (host, port) = http_authority(rest.strip_suffix('/').unwrap_or(rest)).map_err(wrong)?;
        Ok(match port {
            port if is_https => Self::Https { host, port: port.unwrap_or(443) },
            port => Self::Http { host, port: port.unwrap_or(80) },
        })
    }
}

/// Linux takes 107 bytes and a closing zero as the path of a socket.
const UNIX_PATH_MAX_BYTES: usize = 107;

fn unix_path(path: &str) -> Result<PathBuf, &'static str> {
    if !path.starts_with('/') {
        return Err("the absolute path of a socket, as in `unix:/run/agent.sock`");
    }
    if path.starts_with("//") {
        return Err("one slash after `unix:`, as in `unix:/run/agent.sock`");
    }
    if path.ends_with('/') || path.contains('\0') {
        return Err("the path of a socket, not of a directory");
    }
    if path.len() > UNIX_PATH_MAX_BYTES {
        return Err("a path of at most 107 bytes, the most that a socket can have");
    }
    Ok(PathBuf::from(path))
}

/// The host, and the port where there is one.
fn http_authority(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    if authority.contains('@') {
        return Err("host and port without user and password");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("host and port only: the request's own path is passed on, so an endpoint has none");
    }
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or("a closing `]` after the IPv6 address")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "an IPv6 address between `[` and `]`")?;
        (address.to_string(), port)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        if port.matches(':').count() > 1 {
            return Err("an IPv6 address in brackets, as in `http://[::1]:8080`");
        }
        (host_name(host)?, port)
    };
    let port = match port.strip_prefix(':') {
        Some(port) => Some(endpoint_port(port)?),
        None if port.is_empty() => None,
        None => return Err("`:` and a port after the address"),
    };
    Ok((host, port))
}

fn host_name(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("a host, as in `http://127.0.0.1:7001`");
    }
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.len() > 253 || !host.bytes().all(ok) {
        return Err("a host name or address of letters, digits, `-`, `_` and `.`");
    }
    Ok(host.to_ascii_lowercase())
}

fn endpoint_port(port: &str) -> Result<u16, &'static str> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { port.parse().unwrap_or(0) } else { 0 };
    if port == 0 { Err("a port from 1 to 65535") } else { Ok(port) }
}

#[cfg(test)]
mod tests;
