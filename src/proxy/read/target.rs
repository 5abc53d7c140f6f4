//! A request's target and host in the one form that all that follows relies on (RFC 9112 §3.2, RFC 3986 §6).
//!
//! What two readers could take for different places is refused.

use std::borrow::Cow;

use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Uri, Version, request};

use super::Host;
use crate::proxy::error::Fault;
use crate::routing::path::{self, ForwardPath, PathPolicy};
use crate::telemetry::counters::ErrorCode;

/// The target as it was before its path was brought into normal form; kept where it is to be passed on so.
#[derive(Clone)]
pub(in crate::proxy) struct AsReceived(pub PathAndQuery);

/// Turns an absolute-form target into origin form and its path into normal form, and finds the host.
pub(in crate::proxy) fn normalise_target(parts: &mut request::Parts, policy: PathPolicy) -> Result<Host, Fault> {
    if parts.method == Method::CONNECT {
        return Err(Fault::new(ErrorCode::MethodNotSupported, "CONNECT is not supported: this is a reverse proxy"));
    }
    // Only where some field is repeated at all is it worth looking which.
    if parts.headers.len() != parts.headers.keys_len() && parts.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(bad("the request has more than one Host field"));
    }
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(bad("the target * is for OPTIONS only"));
    }
    let host = match parts.uri.authority() {
        Some(_) => Some(take_authority(parts)?),
        None => read_host(parts)?,
    };
    normalise_path(parts, policy)?;
    Ok(Host::new(host))
}

fn bad(message: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(ErrorCode::BadRequest, message)
}

/// The host of a target without one.
fn read_host(parts: &request::Parts) -> Result<Option<HeaderValue>, Fault> {
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().starts_with('?')) {
        return Err(bad("the request target has no path"));
    }
    match parts.headers.get(HOST) {
        Some(host) if !is_authority(host.as_bytes()) => Err(bad("the Host field is not a host and port")),
        None if parts.version == Version::HTTP_11 => Err(bad("an HTTP/1.1 request must have a Host field")),
        host => Ok(host.cloned()),
    }
}

/// The target's authority replaces whatever Host says.
fn take_authority(parts: &mut request::Parts) -> Result<HeaderValue, Fault> {
    match parts.uri.scheme() {
        None if parts.version < Version::HTTP_2 => {
            return Err(bad("the request target is neither a path nor a whole URI"));
        }
        Some(scheme) if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS => {
            return Err(bad("the scheme of the request target is neither http nor https"));
        }
        _ => {}
    }
    let host = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let Some(host) = host.filter(|host| is_authority(host.as_bytes())) else {
        return Err(bad("the request target's authority is not valid"));
    };
    let path = match parts.uri.path_and_query() {
        Some(path) if !path.as_str().starts_with('?') => path.clone(),
        Some(query) => PathAndQuery::try_from(format!("/{}", query.as_str())).expect("a path before a valid query"),
        None => PathAndQuery::from_static("/"),
    };
    parts.uri = Uri::from(path);
    parts.headers.insert(HOST, host.clone());
    Ok(host)
}

fn normalise_path(parts: &mut request::Parts, policy: PathPolicy) -> Result<(), Fault> {
    let normal = match path::normalise(parts.uri.path(), policy.slashes) {
        Ok(Cow::Borrowed(_)) => return Ok(()),
        Ok(Cow::Owned(normal)) => normal,
        Err(error) => return Err(bad(error.to_string())),
    };
    let target = match parts.uri.query() {
        Some(query) => format!("{normal}?{query}"),
        None => normal,
    };
    let target = PathAndQuery::try_from(target).map_err(|_| bad("the request path is not valid"))?;
    let received = parts.uri.path_and_query().cloned();
    if let Some(received) = received.filter(|_| policy.forward == ForwardPath::AsReceived) {
        parts.extensions.insert(AsReceived(received));
    }
    parts.uri = Uri::from(target);
    Ok(())
}

/// A host and perhaps a port (RFC 3986 §3.2), of the characters that names and addresses have; no user part.
fn is_authority(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', literal @ ..] => match memchr::memchr(b']', literal) {
            Some(end) => (&literal[..end], &literal[end + 1..]),
            None => return false,
        },
        _ => host.split_at(memchr::memchr(b':', host).unwrap_or(host.len())),
    };
    let is_literal = host.len() > name.len() + port.len();
    let ok = |byte: &u8| NAME_BYTES[usize::from(*byte)] || (is_literal && *byte == b':');
    !name.is_empty() && name.iter().all(ok) && is_port(port)
}

/// Nothing, or a colon and a number that may be missing.
fn is_port(port: &[u8]) -> bool {
    let [b':', digits @ ..] = port else { return port.is_empty() };
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        digit.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    });
    number.is_some_and(|number| number <= 65_535)
}

/// Letters, digits, and what else stands in names and addresses.
static NAME_BYTES: [bool; 256] = {
    let (mut allowed, punctuation, mut index) = ([false; 256], b"-._~%", 0);
    while index < 256 {
        allowed[index] = (index as u8).is_ascii_alphanumeric();
        index += 1;
    }
    index = 0;
    while index < punctuation.len() {
        allowed[punctuation[index] as usize] = true;
        index += 1;
    }
    allowed
};

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, uri: &str, host: Option<&str>) -> request::Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(()).expect("is a request").into_parts().0
    }

    fn read(uri: &str, policy: PathPolicy) -> Result<request::Parts, String> {
        let mut parts = parts(Method::GET, uri, Some("a"));
        normalise_target(&mut parts, policy).map_err(|fault| fault.message.into_owned())?;
        Ok(parts)
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for good in ["a", "a.example:80", "127.0.0.1:1", "[::1]", "[2001:db8::1]:8080", "a:", "x_y-z~", "a:65535"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:65536",
            "a:999999999999",
            "a:1:2",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "a,b",
            "u@a",
            "a b",
            "a/",
            "é",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn the_target_becomes_a_normal_path() {
        let default = PathPolicy::default();
        for (uri, target) in [
            ("/a/../b?c=/../d", "/b?c=/../d"),
            ("http://x:1/a//b", "/a/b"),
            ("http://x", "/"),
            ("http://x?y", "/?y"),
            ("/plain?q", "/plain?q"),
        ] {
            let parts = read(uri, default).expect(uri);
            assert_eq!(parts.uri.to_string(), target, "{uri}");
            assert!(parts.extensions.get::<AsReceived>().is_none());
        }
        for uri in ["/a%2fb", "/a%00b", "ftp://x/", "http://u@x/", "http://x:99999/"] {
            assert!(read(uri, default).is_err(), "{uri}");
        }
    }

    #[test]
    fn what_was_received_is_kept_where_it_is_wanted() {
        let policy = PathPolicy { forward: ForwardPath::AsReceived, ..PathPolicy::default() };
        let parts = read("/a/../b?c", policy).expect("has a normal form");
        let received = parts.extensions.get().map(|AsReceived(target)| target.as_str());
        assert_eq!((parts.uri.to_string().as_str(), received), ("/b?c", Some("/a/../b?c")));
    }
}
